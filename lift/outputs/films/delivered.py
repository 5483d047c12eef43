"""The film that a run delivers: video.mp4, and still pictures of it."""

from collections.abc import Callable
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
from lift.runtime.background import Background, BackgroundTask, Handover
from lift.types import Cameras

VIDEO = "video.mp4"
"""File of the film."""

MAX_WAITING_BYTES = 128 * 2**20
"""Largest size of the rendered pictures that wait for ffmpeg."""

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


def start_run_film(
    folder: Path,
    source: FilmSource,
    options: FilmOptions,
    note: Callable[[str], Any],
    tasks: Background,
) -> tuple[list[UInt8[Tensor, "height width 3"]], BackgroundTask[None]]:
    """Render the film of a run, and let another thread write it.

    Args:
        folder: Folder of the run.
        source: The scene.
        options: What the film shows.
        note: Receives a sentence for the user.
        tasks: Runs the other thread.

    Returns:
        Still pictures of the film, evenly spaced, the first one first; and the writing of the film,
        for `finish_run_film`.
    """
    plan = source.plan(options)
    if plan.note:
        note(plan.note)
    chosen = _still_numbers(len(plan.cameras))
    stills: dict[int, np.ndarray] = {}
    size = (plan.cameras.width, plan.cameras.height)
    pictures: Handover[UInt8[np.ndarray, "height width 3"]] = Handover(
        max(1, MAX_WAITING_BYTES // (3 * size[0] * size[1]))
    )

    def write() -> None:
        try:
            write_film_file(folder / VIDEO, pictures, size, options.fps)
        finally:
            pictures.abandon()

    task = tasks.start("film", write, own_thread=True)
    with pictures:
        for number, picture in enumerate(source.pictures(plan, options.kind)):
            if number in chosen:
                stills[number] = picture
            if not pictures.put(picture):
                break
    if missing := [number for number in chosen if number not in stills]:
        rest = replace(plan, cameras=plan.cameras[missing])
        stills |= dict(zip(missing, source.pictures(rest, options.kind), strict=True))
    return [torch.from_numpy(stills[number]) for number in chosen], task


def finish_run_film(task: BackgroundTask[None], note: Callable[[str], Any]) -> None:
    """Wait until the film of a run is written. Without ffmpeg there is a note instead.

    Args:
        task: The writing of the film.
        note: Receives a sentence for the user.

    Raises:
        OSError: The film cannot be written, for another reason than ffmpeg.
    """
    try:
        task.result()
    except VideoToolError as error:
        note(f"the scene has no {VIDEO}: {error}; lift render RUN --to OUT makes a film")


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
