"""What became of each picture: `summary.jsonl`, one line a picture."""

import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, runtime_checkable

from filelock import FileLock

from lift.remote.results import read_json
from lift.runtime.atomic_io import acquire, open_lock

State = Literal["finished", "passed over", "held", "failed"]
"""`held`: another job is making it. `passed over`: it was finished before."""

Cause = Literal["permanent", "transient"]
"""A permanent failure is repeated by the next try, such as that of a broken picture. A transient
one may not be: too little memory, a lost machine, no network, too much time."""

_BEGUN = "begun"


@dataclass(slots=True)
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

    def values(self) -> dict[str, Any]:
        """Return the fields by name, as `asdict` does without copies."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def brief(self) -> "Record":
        """Return the record without its stages, as there may be a million records."""
        return replace(self, stages={}) if self.stages else self

    @property
    def key(self) -> tuple[str, ...]:
        """What tells the pictures of a batch apart."""
        return (self.title, *self.settings)

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


@runtime_checkable
class RecordWriter(Protocol):
    """Gets the records of a driver."""

    def has(self, record: Record) -> bool:
        """Whether it has the same result, from the job that made it."""
        ...

    def add(self, record: Record) -> None:
        """Add the last record of a picture."""
        ...


class Journal:
    """The records of one job, for the driver that submitted it. One process at a time writes it.

    Args:
        path: The file. A job that runs again adds to it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = open_lock(path.with_suffix(".lock"))
        acquire(self._lock, lambda: None)  # a job that counts as lost may end only now
        self.keys = {record.key for record in read_summary(path)} if path.is_file() else set()
        """Keys of the records that a job before has written."""
        self.begun = _read_begun(path) - self.keys
        """Keys of pictures that a job before has begun, one of which may have ended it."""
        self._stream = path.open("a+b")
        self._sync = _Sync()
        _end_line(self._stream)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._lock.release()

    def has(self, record: Record) -> bool:
        """Return False: the driver's summary knows, not this file.

        Args:
            record: A record.
        """
        return False

    def begin(self, key: tuple[str, ...]) -> None:
        """Note that a picture is begun.

        Args:
            key: Its key.
        """
        self._stream.write(json.dumps({_BEGUN: key}).encode() + b"\n")
        self._stream.flush()

    def add(self, record: Record) -> None:
        """Add the record of a picture.

        Args:
            record: The record.
        """
        self._stream.write(_line(record))
        self._sync.write(self._stream)


def summary_lock(path: Path) -> FileLock:
    """Return the lock of a file of `Summary`.

    Args:
        path: The file.
    """
    return open_lock(path.with_name(f".{path.name}.lock"))


class Summary:
    """The file with the records of a job and of those before it.

    A line is added when a picture is done, so a job that is killed leaves what it knew. `close`
    keeps the last line of each picture. Several jobs may share the file.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = summary_lock(path)
        self._sync = _Sync()
        self._results: dict[int, int] = {}  # hashes, as there may be a million pictures
        if path.is_file():
            for _, record in _read_lines(path):
                if record.result:
                    self._results[hash(record.key)] = hash(record.result)
                else:
                    self._results.pop(hash(record.key), None)

    def has(self, record: Record) -> bool:
        """Whether the file has a line of the same result, from the job that made it.

        Args:
            record: A record.
        """
        if record.result is None:
            return False
        return self._results.get(hash(record.key)) == hash(record.result)

    def add(self, record: Record) -> None:
        """Add the record of a picture, unless it says less than what the file has.

        Args:
            record: The record.
        """
        if record.state == "held" or (record.state == "passed over" and self.has(record)):
            return
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
        acquire(self._lock, lambda: None)
        try:
            with self.path.open("a+b") as stream:
                _end_line(stream)
                stream.write(_line(record))
                self._sync.write(stream)
        finally:
            self._lock.release()

    def close(self) -> None:
        """Keep the last line of each picture."""
        if not self.path.is_file():
            return
        acquire(self._lock, lambda: None)
        try:
            with self.path.open("rb") as stream:
                os.fsync(stream.fileno())
            size = 0
            last: dict[int, int] = {}
            for offset, record in _read_lines(self.path):
                last[hash(record.key)] = offset
                size += 1
            if size == len(last):
                return
            draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            with self.path.open("rb") as source, draft.open("wb") as target:
                for offset in last.values():
                    source.seek(offset)
                    target.write(source.readline())
            draft.replace(self.path)
        finally:
            self._lock.release()


class _Sync:
    """Writes a file to the disk at most once a second.

    A kill loses nothing that was written before. A power cut may lose the records of the last
    second; their pictures are finished, and a batch that runs again finds them.
    """

    def __init__(self) -> None:
        self._last = 0.0

    def write(self, stream: BinaryIO) -> None:
        stream.flush()
        if time.monotonic() - self._last >= 1.0:
            os.fsync(stream.fileno())
            self._last = time.monotonic()


def read_summary(path: Path) -> list[Record]:
    """Read the last record of each picture.

    Args:
        path: A file of `Summary`. Lines that a full disk or a kill has cut are left out.

    Returns:
        The records, in the order of their first line.
    """
    return list({record.key: record for _, record in _read_lines(path)}.values())


def parse_records(text: str) -> list[Record]:
    """Read the last record of each picture.

    Args:
        text: Content of a file of `Summary`.

    Returns:
        The records, in the order of their first line.
    """
    records: dict[tuple[str, ...], Record] = {}
    for line in text.splitlines():
        with suppress(ValueError, TypeError):
            record = Record(**json.loads(line))
            records[record.key] = record
    return list(records.values())


def format_records(records: Iterable[Record]) -> str:
    """Return the content of a file of `Summary`.

    Args:
        records: The records.
    """
    return b"".join(map(_line, records)).decode()


def follow_records(path: Path) -> Iterator[list[Record]]:
    """Read a file of records while another process writes it.

    Args:
        path: The file, which need not be there yet.

    Yields:
        The records since the last time, without end.
    """
    start = 0
    while True:
        records = []
        if path.is_file():
            for _, end, record in _read_spans(path, start):
                start = end
                records.append(record)
        yield records


def _read_begun(path: Path) -> set[tuple[str, ...]]:
    """Read the notes of `Journal.begin`."""
    keys = set()
    if path.is_file():
        for line in path.read_bytes().split(b"\n"):
            if line.startswith(f'{{"{_BEGUN}"'.encode()):
                with suppress(ValueError):
                    keys.add(tuple(json.loads(line)[_BEGUN]))
    return keys


def _read_lines(path: Path) -> Iterator[tuple[int, Record]]:
    """Read the lines of a file, each with its offset in bytes."""
    for start, _, record in _read_spans(path, 0):
        yield start, record


def _read_spans(path: Path, start: int) -> Iterator[tuple[int, int, Record]]:
    """Read the complete lines after an offset in a file, each with its begin and end."""
    with path.open("rb") as stream:
        stream.seek(start)
        for line in stream:
            end = start + len(line)
            try:
                record = Record(**json.loads(line))
            except (ValueError, TypeError):
                pass
            else:
                if line.endswith(b"\n"):
                    yield start, end, record
            start = end


def _line(record: Record) -> bytes:
    return json.dumps(record.values()).encode() + b"\n"


def _end_line(stream: BinaryIO) -> None:
    """End the line that a kill has cut, so that the next one can be read."""
    if stream.seek(0, os.SEEK_END):
        stream.seek(-1, os.SEEK_END)
        if stream.read(1) != b"\n":
            stream.write(b"\n")
