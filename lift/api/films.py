"""Films of a finished run."""

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from lift.config.delivery_schema import FULL
from lift.outputs.films import FilmOptions, FilmSource, write_film
from lift.outputs.publication import check_no_result
from lift.outputs.scene_files import REGISTERED, SPLIT
from lift.types import Cameras


def training_frames(
    count: int, held_out: Collection[int], registered: Sequence[bool] | None
) -> list[int]:
    """List the frames that a scene was fitted to, the input first.

    Args:
        count: Number of frames.
        held_out: Frames that were held out of the fit.
        registered: Whether the camera of each frame was found. None: all.
    """
    return [
        view
        for view in range(count)
        if view == 0 or (view not in held_out and (registered is None or registered[view]))
    ]


def registered_frames(scene: Any) -> list[bool] | None:
    """Look up whether the camera of each frame was found.

    Args:
        scene: The finished run, a `lift.Scene`.

    Returns:
        A value for each frame. None: all cameras were found.
    """
    count = len(scene.cameras)
    if scene.metrics.get("registered_frames", count) >= count:
        return None
    if scene.keep == FULL:
        return scene.views.reconstruction.registered.tolist()
    indices = scene.files.read(SPLIT, _read_registered)
    return [index in indices for index in range(count)]


def _read_registered(path: Path) -> set[int]:
    """Read the indices of the registered frames from split.json."""
    return set(json.loads(path.read_text(encoding="utf-8"))[REGISTERED])


def save_film(
    source: FilmSource,
    path: Path,
    preset: str,
    cameras: Cameras | None,
    options: Mapping[str, Any],
) -> Path:
    """Make a film and say how much its motion had to be shrunk. See `Scene.save_film`.

    Args:
        source: The scene.
        path: The output.
        preset: Name of the motion.
        cameras: A path instead of the preset.
        options: Other fields of `FilmOptions`.

    Returns:
        `path`.

    Raises:
        ValueError: An option does not exist, or does not go with a path. Or the output is a result
            of a run.
    """
    check_no_result(path)
    names = [field.name for field in fields(FilmOptions)]
    for name in options:
        if name not in names:
            raise ValueError(f"{name!r} is no option of a film; choose from {', '.join(names)}")
    if cameras is not None:
        for name in ("seconds", "motion"):
            if name in options:
                raise ValueError(
                    f"{name} does not go with a path of cameras, whose views are the film's frames"
                )
        if preset != "fly-through":
            raise ValueError(
                f"preset is {preset!r}, but there is a path of cameras; choose one of them"
            )
    plan = write_film(path, source, FilmOptions(preset, **options), cameras)
    if plan.note:
        print(f"note: {plan.note}", file=sys.stderr)
    return path
