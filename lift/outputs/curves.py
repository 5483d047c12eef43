"""Read the curves of a fit from whichever log has them."""

import csv
import logging
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

Curves = dict[str, dict[int, float]]
"""Name of a curve -> step -> value."""

_MAX_SCALAR_BYTES = 4096
"""Size of the largest event that is read. A larger one holds a picture."""

_RECORD_LENGTH = struct.Struct("<Q4x")
"""Start of a record of an event file: its length, and the checksum of that."""


def read_curves(folder: Path) -> tuple[str, Curves]:
    """Read the curves of a fit from TensorBoard's event files, or from a CSV file.

    Args:
        folder: Folder of the fit or of the run.

    Returns:
        Name of the folder that has them, tensorboard or csv, and the curves. Without either the
        name is empty.
    """
    for name, read in _READERS.items():
        if (folder / name).is_dir() and (curves := read(folder / name)):
            return name, curves
    return "", {}


def _read_tensorboard(folder: Path) -> Curves:
    """Read event files. A resumed fit may have logged a step twice; the later value counts."""
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # that it drops what was repeated
    guidance = {"scalars": 0, "images": 1, "tensors": 1}
    with tempfile.TemporaryDirectory(prefix="lift-") as scratch:
        for file in folder.glob("*tfevents*"):
            (Path(scratch) / file.name).write_bytes(_small_records(file.read_bytes()))
        events = EventAccumulator(scratch, size_guidance=guidance)
        events.Reload()
    return {
        tag: {event.step: event.value for event in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
    }


def _small_records(data: bytes) -> bytes:
    """Leave out the pictures of an event file, whose checksums take TensorBoard a second."""
    records = []
    start = 0
    while start + _RECORD_LENGTH.size <= len(data):
        (length,) = _RECORD_LENGTH.unpack_from(data, start)
        end = start + _RECORD_LENGTH.size + length + 4  # the checksum of the event
        if length <= _MAX_SCALAR_BYTES or end > len(data):
            records.append(data[start:end])
        start = end
    return b"".join([*records, data[start:]])


def _read_csv(folder: Path) -> Curves:
    """Read the table of Lightning's CSVLogger: a row for each step, empty where not measured."""
    file = folder / "metrics.csv"
    if not file.is_file():
        return {}
    curves: Curves = {}
    with file.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            step = int(row.pop("step"))
            for name, value in row.items():
                if value:
                    curves.setdefault(name, {})[step] = float(value)
    return curves


_READERS: dict[str, Callable[[Path], Curves]] = {
    "tensorboard": _read_tensorboard,
    "csv": _read_csv,
}
