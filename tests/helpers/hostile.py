"""A folder whose files take the place of packages and leave a mark if they are imported."""

from pathlib import Path

MARK = "imported-by-mistake"
"""File that a module of the folder writes."""

MODULES = (
    "json",
    "numba",
    "numpy",
    "runpy",
    "subprocess",
    "imageio_ffmpeg",
    "torch",
    "lift/__init__",
    "hydra/__init__",
)
"""Modules that the folder imitates."""


def make_hostile_folder(folder: Path) -> Path:
    """Write the modules to a folder, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / MARK
    for name in MODULES:
        file = folder / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"open({str(mark)!r}, 'a').write({name!r})\nraise SystemExit(66)\n")
    return folder


def imported(folder: Path) -> str:
    """Return the names of the modules that were imported from the folder."""
    mark = folder / MARK
    return mark.read_text() if mark.exists() else ""
