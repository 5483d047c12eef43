"""Read the curves of a fit from whichever log has them."""

import csv
import logging
from collections.abc import Callable
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

Curves = dict[str, dict[int, float]]
"""Name of a curve -> step -> value."""


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
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 1, "tensors": 1})
    events.Reload()
    return {
        tag: {event.step: event.value for event in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
    }


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
