"""The files that a finished run has in its folder, by the setting `deliver.keep`."""

from contextlib import suppress
from pathlib import Path

from omegaconf import OmegaConf

from lift.config.delivery_schema import FULL, KEEP, MINIMAL, SCENE
from lift.config.files import load_config
from lift.runtime.integrity import read_manifest

KEPT = "keep"
"""Entry of a run folder's manifest: the value of `deliver.keep`."""

PLY = "gaussians.ply"
"""File of the scene, unless `deliver.keep` is minimal."""

LOSSY_FORMATS = ("sog", "compressed.ply")
"""Formats of the scene of `deliver.keep=minimal`. The first one that holds the scene is written."""

INPUT_PICTURES = {
    FULL: "frames/000000.png",
    SCENE: "input.png",
    MINIMAL: "input.jpg",
}
"""File of the input picture, at the size of the frames, for each value of `deliver.keep`."""

_ALWAYS = (
    "transforms.json",
    "fly_through.json",
    "split.json",
    "metrics.json",
    "config.yaml",
    "provenance.json",
)
"""Files that every finished run has, besides the scene."""

REQUIRED = {
    FULL: (PLY, "frames", "distortion.safetensors", *_ALWAYS),
    SCENE: (PLY, INPUT_PICTURES[SCENE], *_ALWAYS),
    MINIMAL: (INPUT_PICTURES[MINIMAL], *_ALWAYS),
}
"""Files and folders without which a folder is no finished run, for each value of `deliver.keep`.

The scene of a minimal delivery may be in one of several files (`scene_file`).
"""

_MINIMAL_SCENES = (*(f"gaussians.{name}" for name in LOSSY_FORMATS), PLY)


def delivered_kind(folder: Path) -> str:
    """Find out what a run was told to keep.

    Args:
        folder: Folder of the run.

    Returns:
        A value of `deliver.keep`. `full` for older runs, and for a folder that cannot be read.
    """
    kind = None
    with suppress(OSError, ValueError):
        kind = read_manifest(folder).get(KEPT)
    if kind is None:  # the user may have removed the manifest
        with suppress(Exception):  # YAML of any content; whoever reads the settings names damage
            kind = OmegaConf.select(load_config(folder / "config.yaml"), "deliver.keep")
    return kind if kind in KEEP else FULL


def scene_file(folder: Path, kind: str | None = None) -> str:
    """Return the name of the file with the scene of a run.

    Args:
        folder: Folder of the run.
        kind: Value of `deliver.keep`. None: that of the run.

    Returns:
        The name. The file may be missing.
    """
    if (delivered_kind(folder) if kind is None else kind) != MINIMAL:
        return PLY
    found = (name for name in _MINIMAL_SCENES if (folder / name).is_file())
    return next(found, _MINIMAL_SCENES[0])


def has_scene(folder: Path) -> bool:
    """Whether a folder has the scene of a run.

    Args:
        folder: The folder. It need not exist.
    """
    return (folder / scene_file(folder)).is_file()


def missing_files(folder: Path) -> list[str]:
    """List the files and folders that a finished run needs and a folder lacks.

    Args:
        folder: The folder. It need not exist.
    """
    kind = delivered_kind(folder)
    names = dict.fromkeys((scene_file(folder, kind), *REQUIRED[kind]))
    return [name for name in names if not (folder / name).exists()]


def describe_missing(folder: Path, name: str, purpose: str) -> str:
    """Say in one line what a run lacks, and how to get it.

    Args:
        folder: Folder of the run.
        name: Name of the missing file or folder.
        purpose: What needs it, in the plural.
    """
    kind = delivered_kind(folder)
    if kind == FULL:
        advice = "run it again with --redeliver, its stages are found in the cache"
    else:
        advice = (
            f"deliver.keep={kind} leaves it out; run it again with deliver.keep={FULL}, which "
            "makes only the stages that are no longer in the cache"
        )
    return f"{folder} has no {name}, which {purpose} need; {advice}"
