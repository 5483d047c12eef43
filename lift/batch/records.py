"""What became of each picture: `summary.jsonl`, one line a picture."""

import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from lift.remote.results import read_json
from lift.runtime.atomic_io import acquire, open_lock

State = Literal["finished", "passed over", "held", "failed"]
"""`held`: another job is making it. `passed over`: it was finished before."""

Cause = Literal["permanent", "transient"]
"""A permanent failure is repeated by the next try, such as that of a broken picture. A transient
one may not be: too little memory, a lost machine, no network, too much time."""


@dataclass
class Record:
    """What became of one picture."""

    image: str
    """Its file or name."""
    title: str
    """Its name among the results."""
    state: State
    """Whether there is a scene."""
    settings: list[str] = field(default_factory=list)
    """Settings of this picture only."""
    attempts: int = 0
    """How often it was tried in this job."""
    seconds: float = 0.0
    """Duration of the last try."""
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds of each stage. Those of clips are added."""
    peak_gib: float | None = None
    """Largest memory of a stage: of the GPU, else of the process."""
    psnr: float | None = None
    """PSNR at the input in dB."""
    verdict: str | None = None
    """What the scene is like: good, fair or poor."""
    result: str | None = None
    """The run's folder, or its URL."""
    error: str | None = None
    """Why there is no scene, in one line."""
    cause: Cause | None = None
    """Whether another try may succeed."""
    when: float = field(default_factory=time.time)
    """Time of the record, in seconds since 1970."""

    @property
    def is_transient(self) -> bool:
        """Whether another try may succeed."""
        return self.state == "failed" and self.cause == "transient"


def read_result(record: Record) -> Record:
    """Fill a record with what the run's folder says.

    Args:
        record: The record, with its folder. It is changed.

    Returns:
        The record.
    """
    assert record.result is not None
    metrics = _read_json(record.result, "metrics.json")
    record.psnr = metrics.get("input_psnr")
    record.verdict = metrics.get("verdict")
    for stage in _read_json(record.result, "provenance.json").get("stages", ()):
        if not stage["cached"]:
            record.stages[stage["stage"]] = round(
                record.stages.get(stage["stage"], 0.0) + stage["seconds"], 3
            )
            peak = round(stage["peak_bytes"] / 2**30, 3)
            record.peak_gib = max(record.peak_gib or 0.0, peak)
    return record


def _read_json(folder: str, name: str) -> dict[str, Any]:
    try:
        return read_json(folder, name)
    except (OSError, ValueError):
        return {}


class Summary:
    """The file with the records of a job and of those before it.

    A line is added when a picture is done, so a job that is killed leaves what it knew. `close`
    keeps the last line of each picture. Several jobs may share the file.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = open_lock(path.with_name(f".{path.name}.lock"))
        before = read_summary(path) if path.is_file() else []
        self._is_whole = not path.is_file() or path.read_bytes()[-1:] in (b"", b"\n")
        self._results = {_key(r): r.result for r in before if r.result}

    def has(self, record: Record) -> bool:
        """Whether the file has a line of the same result, from the job that made it.

        Args:
            record: A record.
        """
        return record.result is not None and self._results.get(_key(record)) == record.result

    def add(self, record: Record) -> None:
        """Add the record of a picture, unless it says less than what the file has.

        Args:
            record: The record.
        """
        if record.state == "held" or (record.state == "passed over" and self.has(record)):
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(asdict(record)) + "\n"
        acquire(self._lock, lambda: None)
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                if not self._is_whole:  # a kill has cut the last line
                    stream.write("\n")
                    self._is_whole = True
                stream.write(line)
                stream.flush()
                if record.state != "passed over":
                    os.fsync(stream.fileno())
        finally:
            self._lock.release()

    def close(self) -> None:
        """Keep the last line of each picture."""
        if not self.path.is_file():
            return
        acquire(self._lock, lambda: None)
        try:
            draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            draft.write_text(format_records(read_summary(self.path)), encoding="utf-8")
            draft.replace(self.path)
        finally:
            self._lock.release()


def read_summary(path: Path) -> list[Record]:
    """Read the last record of each picture.

    Args:
        path: A file of `Summary`. Lines that a full disk or a kill has cut are left out.

    Returns:
        The records, in the order of their first line.
    """
    return parse_records(path.read_text(encoding="utf-8"))


def parse_records(text: str) -> list[Record]:
    """Read the last record of each picture.

    Args:
        text: Content of a file of `Summary`.

    Returns:
        The records, in the order of their first line.
    """
    records: dict[Any, Record] = {}
    for line in text.splitlines():
        try:
            record = Record(**json.loads(line))
        except (ValueError, TypeError):
            continue
        records[_key(record)] = record
    return list(records.values())


def format_records(records: Iterable[Record]) -> str:
    """Return the content of a file of `Summary`.

    Args:
        records: The records.
    """
    return "".join(json.dumps(asdict(record)) + "\n" for record in records)


def _key(record: Record) -> tuple[str, ...]:
    """Return what tells the pictures of a summary apart."""
    return (record.title, *record.settings)
