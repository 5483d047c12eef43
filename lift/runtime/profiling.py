"""Where the time of a run goes: `lift run --profile`.

A profile has a span for each part of the run, and the operations of torch within some of them. It
is written as a trace that chrome://tracing and https://ui.perfetto.dev open, and as a table.
"""

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

FOLDER = "profile"
"""Folder of the profile within that of the run."""
TRACE = "trace.json"
"""File with the trace."""
TABLE = "table.md"
"""File with the table."""

STEPS_AFTER = 0.6
"""Fraction of the fit's steps after which operations are recorded: pictures have their full size,
and the scene has its full number of Gaussians."""


@dataclass(frozen=True)
class Span:
    """A part of a run."""

    name: str
    """What was done."""
    start: float
    """Time of its begin in seconds since 1970."""
    seconds: float
    """Its duration."""
    parents: tuple[str, ...]
    """Names of the spans around it, the outermost first."""
    beside: bool = False
    """Whether another thread did it while the main thread went on."""


class Profile:
    """The spans of a run, and operations of torch.

    Args:
        start: Time at which the run began, in seconds since 1970.
        operations: Whether operations of torch are recorded. Recording takes seconds.
    """

    def __init__(self, start: float, operations: bool = True) -> None:
        self.start = start
        self.operations = operations
        self.spans: list[Span] = []
        self._events: list[dict[str, Any]] = []
        self._open: list[str] = []
        self._recorded: set[str] = set()
        self._thread = threading.get_ident()

    @contextmanager
    def span(self, name: str, operations: bool = False) -> Iterator[None]:
        """Measure the block.

        Args:
            name: What it does.
            operations: Whether the operations of torch are recorded, the first time.
        """
        if threading.get_ident() != self._thread:  # what other threads do takes no time of its own
            yield
            return
        parents = tuple(self._open)
        self._open.append(name)
        start = time.time()
        recorder = None
        if operations and self.operations and name not in self._recorded:
            from torch.profiler import profile

            self._recorded.add(name)
            recorder = profile()
            recorder.start()
            start = time.time()
        try:
            yield
        finally:
            seconds = time.time() - start
            self._open.pop()
            self.spans.append(Span(name, start, seconds, parents))
            if recorder is not None:
                recorder.stop()
                self._read(recorder)
                self.spans.append(
                    Span("the profiler", start + seconds, time.time() - start - seconds, parents)
                )

    def beside(self, name: str, function: Callable[[], Result]) -> Callable[[], Result]:
        """Return a function for another thread that measures its call as part of what is open now.

        Args:
            name: What it does.
            function: Does it.
        """
        parents = tuple(self._open)

        def measured() -> Result:
            start = time.time()
            try:
                return function()
            finally:
                self.spans.append(Span(name, start, time.time() - start, parents, beside=True))

        return measured

    def _read(self, recorder: Any) -> None:
        """Read the operations of torch that a profiler has recorded."""
        with tempfile.TemporaryDirectory(prefix="lift-") as folder:
            file = Path(folder) / TRACE
            recorder.export_chrome_trace(str(file))
            content = json.loads(file.read_text(encoding="utf-8"))
        base = content.get("baseTimeNanoseconds", 0) / 1000
        for event in content["traceEvents"]:
            if "ts" in event:
                event["ts"] += base
            self._events.append(event)

    def trace(self) -> dict[str, Any]:
        """Return the content of the trace. Times are in microseconds."""
        pid = os.getpid()
        spans = [
            {
                "name": span.name,
                "cat": "lift",
                "ph": "X",
                "pid": pid,
                "tid": f"lift: {span.name}" if span.beside else "lift",
                "ts": span.start * 1e6,
                "dur": span.seconds * 1e6,
            }
            for span in self.spans
        ]
        first = self.start * 1e6
        events = [
            {**event, "ts": event["ts"] - first} if "ts" in event else event
            for event in (*spans, *self._events)
        ]
        return {"displayTimeUnit": "ms", "traceEvents": events}

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each part by name. Parts of parts are named `PART/PART`."""
        sums: dict[str, float] = {}
        for span in self.spans:
            name = "/".join((*span.parents, span.name))
            sums[name] = sums.get(name, 0.0) + span.seconds
        return sums

    def table(self) -> str:
        """Return the table of the parts, in Markdown. Times of parts with one name are added."""
        total = max((span.start + span.seconds for span in self.spans), default=self.start)
        total -= self.start
        lines = ["| part | times | seconds | share |", "|---|---|---|---|"]
        lines += self._rows((), "", total)
        outer = sum(s.seconds for s in self.spans if not s.parents and not s.beside)
        lines += [_row("other", 1, total - outer, total), _row("all", 1, total, total)]
        return "\n".join(lines) + "\n"

    def _rows(self, parents: tuple[str, ...], indent: str, total: float) -> list[str]:
        """Return the lines of the parts of a part."""
        lines = []
        for name, seconds, count in _sums(self.spans, parents):
            lines.append(_row(f"{indent}{name}", count, seconds, total))
            lines += self._rows((*parents, name), f"- {indent}", total)
        return lines

    def write(self, folder: Path) -> Path:
        """Write the trace and the table.

        Args:
            folder: Folder of the run.

        Returns:
            The folder of the profile.
        """
        target = folder / FOLDER
        target.mkdir(exist_ok=True)
        (target / TRACE).write_text(json.dumps(self.trace()), encoding="utf-8")
        (target / TABLE).write_text(self.table(), encoding="utf-8")
        return target


def _sums(spans: list[Span], parents: tuple[str, ...]) -> list[tuple[str, float, int]]:
    """Return name, seconds and number of the spans within another one, in order of time."""
    sums: dict[str, tuple[float, int]] = {}
    for span in sorted(spans, key=lambda span: span.start):
        if span.parents == parents:
            name = f"{span.name} (beside)" if span.beside else span.name
            seconds, count = sums.get(name, (0.0, 0))
            sums[name] = seconds + span.seconds, count + 1
    return [(name, *values) for name, values in sums.items()]


def _row(name: str, count: int, seconds: float, total: float) -> str:
    return f"| {name} | {count} | {seconds:.2f} | {seconds / max(total, 1e-9):.0%} |"


_active: Profile | None = None


@contextmanager
def profile_run(started: float | None = None, operations: bool = True) -> Iterator[Profile]:
    """Profile what this process does in the block. What came before counts as `start`.

    Args:
        started: Time in seconds since 1970 at which the run began. None: when the process did.
        operations: Whether operations of torch are recorded.
    """
    import psutil

    global _active
    profile = Profile(started or psutil.Process().create_time(), operations)
    profile.spans.append(Span("start", profile.start, time.time() - profile.start, ()))
    _active = profile
    try:
        yield profile
    finally:
        _active = None


@contextmanager
def span(name: str, operations: bool = False) -> Iterator[None]:
    """Measure the block, if the run is profiled.

    Args:
        name: What it does.
        operations: Whether the operations of torch are recorded, the first time.
    """
    if _active is None:
        yield
    else:
        with _active.span(name, operations):
            yield


@contextmanager
def step_span(step: int, count: int, steps: int) -> Iterator[None]:
    """Measure some steps of the fit, if the run is profiled.

    Operations are recorded when pictures have their full size.

    Args:
        step: First step of the block.
        count: Number of steps of the block.
        steps: Number of steps of the fit.
    """
    if step + count <= STEPS_AFTER * steps:
        with span("first steps"):
            yield
    else:
        with span("steps at full size", operations=True):
            yield


def measured_beside(name: str, function: Callable[[], Result]) -> Callable[[], Result]:
    """Return a function for another thread that measures its call, if the run is profiled.

    Args:
        name: What it does.
        function: Does it.
    """
    return function if _active is None else _active.beside(name, function)


def profiled(name: str, function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Return a function that measures its calls with the operations of torch, if asked to.

    Args:
        name: What it does.
        function: Does it.
    """

    def measured(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        with span(name, operations=True):
            return function(*args, **kwargs)

    return measured
