"""Tell how far a batch is: lines on standard error, JSON lines, and a file for Prometheus."""

import json
import sys
import time
from collections import Counter
from pathlib import Path

from lift.batch.records import Record
from lift.registry import ComponentError


class Progress:
    """How far a batch is.

    Args:
        count: Number of pictures.
        as_json: Whether each line is a JSON object.
        prometheus: Text file with figures for Prometheus's node exporter; None for none.
        noun: What tasks are called, in the plural.
    """

    def __init__(
        self,
        count: int,
        as_json: bool = False,
        prometheus: Path | None = None,
        noun: str = "pictures",
    ) -> None:
        self.count = count
        self._noun = noun
        self.as_json = as_json
        self._states: Counter[str] = Counter()
        self._seconds = 0.0
        self._start = time.monotonic()
        self._metrics = _Metrics(prometheus, count) if prometheus else None

    def start(self, image: str, index: int) -> None:
        """Tell that a picture is begun.

        Args:
            image: Its name.
            index: Its number in the list, from 0.
        """
        if self.as_json:
            self._print_json("started", image=image, index=index)
        else:
            self._print(f"[{index + 1}/{self.count}] {image}")

    def retry(self, record: Record) -> None:
        """Tell that a picture is tried again.

        Args:
            record: Why the last try failed.
        """
        if self.as_json:
            self._print_json("retried", **record.values())
        else:
            self._print(f"{record.image} failed and is tried again: {record.error}")

    def finish(self, record: Record, index: int) -> None:
        """Tell what became of a picture.

        Args:
            record: Its record.
            index: Its number in the list, from 0.
        """
        self._states[record.state] += 1
        self._seconds += record.seconds if record.state != "passed over" else 0.0
        if self._metrics:
            self._metrics.write(self._states, self._seconds)
        if record.result and not self.as_json:
            print(record.result, flush=True)
        if self.as_json:
            self._print_json("done", index=index, **record.values(), counts=dict(self._states))
        elif record.state == "failed":
            self._print(f"[{index + 1}/{self.count}] {record.image} failed: {record.error}")
        elif record.state == "held":
            self._print(f"[{index + 1}/{self.count}] {record.image} is being made by another job")
        is_last = sum(self._states.values()) == self.count
        if not self.as_json and (is_last or record.state != "passed over") and self.count > 1:
            self._print(self.summary())

    def note(self, event: str, line: str, **values: object) -> None:
        """Tell what happens to jobs.

        Args:
            event: Name of the event in JSON.
            line: What people read.
            **values: What programs read.
        """
        if self.as_json:
            self._print_json(event, **values)
        else:
            self._print(line)

    def summary(self) -> str:
        """Return the counts and the time that is left, in one line."""
        done = sum(self._states.values())
        counts = [f"{number} {state}" for state, number in sorted(self._states.items())]
        worked = done - self._states["passed over"]
        left = self.count - done
        if worked and left:
            seconds = (time.monotonic() - self._start) / worked * left
            counts.append(f"about {format_duration(seconds)} left")
        return f"{done} of {self.count} {self._noun}: {', '.join(counts)}"

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def _print_json(self, event: str, **values: object) -> None:
        self._print(json.dumps({"event": event, "time": round(time.time(), 3), **values}))


def format_duration(seconds: float) -> str:
    """Write a duration in words, such as `2 h 5 min`.

    Args:
        seconds: The duration.
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


class _Metrics:
    """The file for Prometheus, written by its own client."""

    def __init__(self, path: Path, count: int) -> None:
        try:
            from prometheus_client import CollectorRegistry, Gauge, write_to_textfile
        except ImportError as error:
            raise ComponentError(
                "--prometheus needs the package prometheus-client: pip install 'lift[cluster]'"
            ) from error
        self._path = path
        self._write = write_to_textfile
        self._registry = CollectorRegistry()
        names = ("lift_batch_pictures", "Pictures by state", ["state"])
        self._pictures = Gauge(*names, registry=self._registry)
        self._seconds = Gauge(
            "lift_batch_work_seconds", "Seconds of work on pictures", registry=self._registry
        )
        total = Gauge("lift_batch_pictures_total", "Pictures in all", registry=self._registry)
        total.set(count)
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, states: Counter[str], seconds: float) -> None:
        """Write the figures."""
        for state, number in states.items():
            self._pictures.labels(state).set(number)
        self._seconds.set(seconds)
        self._write(str(self._path), self._registry)
