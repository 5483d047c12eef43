"""Write the pictures of a film: a video, an animated picture, or a folder of PNG files."""

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from lift.io.image import save_image
from lift.io.video_writer import MAX_GIF_FPS, VIDEO_SUFFIXES, VideoToolError, stream_video
from lift.runtime.atomic_io import hidden_path, make_folder, prepare_draft, publish, publish_folder

FILM_SUFFIXES = (*VIDEO_SUFFIXES, ".webp")
"""Suffixes of films in one file. A name without a suffix is a folder of PNG files."""

FORMAT_CHOICES = f"a name that ends with {', '.join(FILM_SUFFIXES)}, or a folder without a suffix"
"""The choices of the output, for messages."""

_WITHOUT_FFMPEG = ".webp and a folder of PNG files need no ffmpeg"

_WEBP_QUALITY = 85

_FRAME_NAME = re.compile(r"\d{6}\.png")
"""Name of a picture in a folder."""


def check_film_path(path: Path, fps: int) -> None:
    """Check the name of a film before it is rendered.

    Args:
        path: The output.
        fps: Frames per second.

    Raises:
        ValueError: The suffix is another one, a folder has other files, or a GIF is too fast.
    """
    suffix = path.suffix.lower()
    if suffix and suffix not in FILM_SUFFIXES:
        raise ValueError(f"the output is {str(path)!r}; choose {FORMAT_CHOICES}")
    if suffix and path.is_dir():
        raise ValueError(f"the output is {str(path)!r}, a folder; choose the name of a file")
    if path.exists() and not path.is_dir() and not path.is_file():
        raise ValueError(f"the output is {str(path)!r}, a device; choose {FORMAT_CHOICES}")
    if not suffix and os.path.lexists(path) and not path.is_dir():
        raise ValueError(f"the output is {str(path)!r}, a file; choose {FORMAT_CHOICES}")
    if not suffix and path.is_dir() and (other := _first_other_file(path)):
        raise ValueError(
            f"the folder {str(path)!r} has other files, such as {other!r}; choose a new folder"
        )
    if suffix == ".gif" and fps > MAX_GIF_FPS:
        raise ValueError(f"fps is {fps}; choose at most {MAX_GIF_FPS} for a GIF, or another format")


def write_film_file(
    path: Path,
    frames: Iterable[UInt8[np.ndarray, "height width 3"]],
    size: tuple[int, int],
    fps: int,
) -> None:
    """Write pictures while they are made. An interrupted film leaves nothing.

    Args:
        path: The output, as `check_film_path` takes it. Its folder is created.
        frames: At least one picture.
        size: Width and height of the pictures in pixels.
        fps: Frames per second. Pictures in a folder have none.

    Raises:
        VideoToolError: ffmpeg is missing or fails. WebP and PNG need none.
        OSError: The output cannot be written.
    """
    make_folder(path.parent)
    suffix = path.suffix.lower()
    if suffix == ".webp":
        publish(path, lambda draft: _write_webp(draft, frames, fps))
    elif suffix:
        try:
            stream_video(path, frames, size, fps)
        except VideoToolError as error:
            raise VideoToolError(f"{error}; {_WITHOUT_FFMPEG}") from None
    else:
        _write_folder(path, frames)


def _first_other_file(folder: Path) -> str | None:
    """Return the name of a file that is no picture of an earlier film, if there is one."""
    names = sorted(entry.name for entry in folder.iterdir())
    return next((name for name in names if not _FRAME_NAME.fullmatch(name)), None)


def _write_webp(draft: Path, frames: Iterable[np.ndarray], fps: int) -> None:
    """Write an animated WebP picture that repeats forever."""
    images: Iterator[Image.Image] = (Image.fromarray(frame) for frame in frames)
    first = next(images)
    rest = list(images)  # Pillow takes a list
    # Durations are whole milliseconds. Their sum stays that of the film.
    ends = [round(1000 * number / fps) for number in range(len(rest) + 2)]
    durations = [end - start for start, end in zip(ends, ends[1:], strict=False)]
    first.save(
        draft,
        "webp",
        save_all=True,
        append_images=rest,
        duration=durations,
        loop=0,
        quality=_WEBP_QUALITY,
    )


def _write_folder(path: Path, frames: Iterable[np.ndarray]) -> None:
    """Write numbered PNG files to a hidden folder, and rename it."""
    draft = hidden_path(path, ".draft")
    prepare_draft(draft)
    try:
        for number, frame in enumerate(frames):
            save_image(draft / f"{number:06d}.png", torch.from_numpy(frame))
        publish_folder(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
