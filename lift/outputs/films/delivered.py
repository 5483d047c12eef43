"""The film that a run delivers: video.mp4, and still pictures of it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from lift.io.film_writer import write_film_file
from lift.io.video_writer import VideoToolError
from lift.outputs.films.film import FilmSource
from lift.outputs.films.options import FilmOptions
from lift.types import Cameras

VIDEO = "video.mp4"
"""File of the film."""

STILLS = 8
"""Number of still pictures, evenly spaced."""

SIZE_FACTOR = 2
"""Shorter side of the film in units of the frames', if the setting is null."""

MAX_DEFAULT_SIZE = 540
"""Largest shorter side in pixels if the setting is null and frames are not larger.

Rendering 72 frames takes two CPU cores about 4 seconds.
"""


def film_options(settings: Any, frames: Cameras) -> FilmOptions:
    """Turn the settings `export.film` into options.

    Args:
        settings: The settings, with the fields of `lift.config.film_schema.Film`.
        frames: Cameras of the frames, for the default size.

    Returns:
        The options.
    """
    frame_size = min(frames.width, frames.height)
    default_size = max(frame_size, min(SIZE_FACTOR * frame_size, MAX_DEFAULT_SIZE))
    return FilmOptions(
        preset=settings.preset,
        aspect=settings.aspect,
        seconds=settings.seconds,
        fps=settings.fps,
        size=settings.size or default_size,
        kind=settings.kind,
    )


def write_run_film(
    folder: Path, source: FilmSource, options: FilmOptions, note: Callable[[str], Any]
) -> list[UInt8[Tensor, "height width 3"]]:
    """Write the film of a run. Without ffmpeg there is a note instead.

    Args:
        folder: Folder of the run.
        source: The scene.
        options: What the film shows.
        note: Receives a sentence for the user.

    Returns:
        Still pictures of the film, evenly spaced, the first one first.
    """
    plan = source.plan(options)
    if plan.note:
        note(plan.note)
    count = len(plan.cameras)
    chosen = _still_numbers(count)
    stills: dict[int, np.ndarray] = {}

    def pictures() -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        for number, picture in enumerate(source.pictures(plan, options.kind)):
            if number in chosen:
                stills[number] = picture
            yield picture

    size = (plan.cameras.width, plan.cameras.height)
    try:
        write_film_file(folder / VIDEO, pictures(), size, options.fps)
    except VideoToolError as error:
        note(f"the scene has no {VIDEO}: {error}; lift render RUN --to OUT makes a film")
    if missing := [number for number in chosen if number not in stills]:
        rest = replace(plan, cameras=plan.cameras[missing])
        stills |= dict(zip(missing, source.pictures(rest, options.kind), strict=True))
    return [torch.from_numpy(stills[number]) for number in chosen]


def film_stills(source: FilmSource, options: FilmOptions) -> list[UInt8[Tensor, "height width 3"]]:
    """Render the still pictures of a film without the film.

    Args:
        source: The scene.
        options: What the film would show.

    Returns:
        Still pictures of the film, evenly spaced, the first one first.
    """
    plan = source.plan(options)
    plan = replace(plan, cameras=plan.cameras[_still_numbers(len(plan.cameras))])
    return [torch.from_numpy(picture) for picture in source.pictures(plan, options.kind)]


def _still_numbers(count: int) -> list[int]:
    """Choose the still pictures of a film of so many frames."""
    return sorted({count * number // STILLS for number in range(STILLS)})
