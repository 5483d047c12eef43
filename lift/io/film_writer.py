"""Write the pictures of a film: a video, an animated picture, or a folder of PNG files."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from lift import __version__
from lift.io.image import save_image
from lift.io.json_files import read_json
from lift.io.output_paths import check_writable
from lift.io.video_writer import MAX_GIF_FPS, VIDEO_SUFFIXES, VideoToolError, stream_video
from lift.runtime.atomic_io import hidden_path, make_folder, prepare_draft, publish, publish_folder

FILM_SUFFIXES = (*VIDEO_SUFFIXES, ".webp")
"""Suffixes of films in one file. A name without a suffix is a folder of PNG files."""

FORMAT_CHOICES = f"a name that ends with {', '.join(FILM_SUFFIXES)}, or a folder without a suffix"
"""The choices of the output, for messages."""

_WITHOUT_FFMPEG = ".webp and a folder of PNG files need no ffmpeg"

MAX_WEBP_BYTES = 2**31
"""Largest size in bytes of the pictures of a WebP film, which are in memory until it is written."""

_WEBP_QUALITY = 85

MAX_WEBP_SIDE = 16383
"""Longest side in pixels of a WebP picture."""

FILM_RECORD = "film.json"
"""File in a folder of PNG files with what they show. Only a folder with it is replaced."""


def check_film_path(path: Path, fps: int) -> None:
    """Check the name of a film before it is rendered.

    Args:
        path: The output.
        fps: Frames per second.

    Raises:
        ValueError: The suffix is another one, the output cannot be written, a folder holds no
            earlier film, or a GIF is too fast.
    """
    suffix = path.suffix.lower()
    if suffix and suffix not in FILM_SUFFIXES:
        raise ValueError(f"the output is {str(path)!r}; choose {FORMAT_CHOICES}")
    check_writable(path)
    if suffix and path.is_dir():
        raise ValueError(f"the output is {str(path)!r}, a folder; choose the name of a file")
    if path.exists() and not path.is_dir() and not path.is_file():
        raise ValueError(f"the output is {str(path)!r}, a device; choose {FORMAT_CHOICES}")
    if not suffix and os.path.lexists(path) and not path.is_dir():
        raise ValueError(f"the output is {str(path)!r}, a file; choose {FORMAT_CHOICES}")
    if not suffix and path.is_symlink():
        raise ValueError(
            f"the output is {str(path)!r}, a link to {str(path.resolve())!r}; choose that folder "
            "or a new one"
        )
    if not suffix and path.is_dir() and (other := _first_other_file(path)):
        raise ValueError(
            f"the folder {str(path)!r} has files that are no earlier film of lift, such as "
            f"{other!r}; choose a new folder"
        )
    if suffix == ".gif" and fps > MAX_GIF_FPS:
        raise ValueError(f"fps is {fps}; choose at most {MAX_GIF_FPS} for a GIF, or another format")


def check_film_size(path: Path, size: tuple[int, int], count: int) -> None:
    """Check that a film can hold its pictures, before they are rendered.

    Args:
        path: The output.
        size: Width and height of the pictures in pixels.
        count: Number of pictures.

    Raises:
        ValueError: It is a WebP film whose pictures are larger than MAX_WEBP_SIDE or need more
            than MAX_WEBP_BYTES.
    """
    if path.suffix.lower() == ".webp" and max(size) > MAX_WEBP_SIDE:
        raise ValueError(
            f"the output is {str(path)!r}, a WebP film of {size[0]} x {size[1]} pixels; choose at "
            f"most {MAX_WEBP_SIDE} pixels a side, .mp4 or a folder"
        )
    needed = 3 * size[0] * size[1] * count
    if path.suffix.lower() == ".webp" and needed > MAX_WEBP_BYTES:
        raise ValueError(
            f"the output is {str(path)!r}, a WebP film of {count} pictures of {size[0]} x "
            f"{size[1]} pixels, which need {needed / 2**30:.1f} GiB of memory at once, more than "
            f"{MAX_WEBP_BYTES / 2**30:g} GiB; choose .mp4, a folder, fewer seconds or a smaller "
            "size"
        )


def write_film_file(
    path: Path,
    frames: Iterable[UInt8[np.ndarray, "height width 3"]],
    size: tuple[int, int],
    fps: int,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Write pictures while they are made. An interrupted film leaves nothing.

    Args:
        path: The output, as `check_film_path` takes it. Its folder is created.
        frames: At least one picture.
        size: Width and height of the pictures in pixels.
        fps: Frames per second. Pictures in a folder have none.
        options: What the film shows, for the file `film.json` of a folder.

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
        _write_folder(path, frames, options or {})


def _first_other_file(folder: Path) -> str | None:
    """Return the name of a file that does not belong to an earlier film, if there is one."""
    try:
        record = read_json(folder / FILM_RECORD)
        count = record["frames"] if "lift" in record else 0
        film = {FILM_RECORD, *(_picture_name(number) for number in range(min(count, 10**6)))}
    except (OSError, ValueError, LookupError, TypeError):
        film = set()
    return min((entry.name for entry in folder.iterdir() if entry.name not in film), default=None)


def _picture_name(number: int) -> str:
    """Return the name of a picture in a folder."""
    return f"{number:06d}.png"


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


def _write_folder(path: Path, frames: Iterable[np.ndarray], options: Mapping[str, Any]) -> None:
    """Write numbered PNG files and their record to a hidden folder, and rename it."""
    count = 0
    draft = hidden_path(path, ".draft")
    prepare_draft(draft)
    try:
        for frame in frames:
            save_image(draft / _picture_name(count), torch.from_numpy(frame))
            count += 1
        record = {"lift": __version__, "frames": count, **options}
        (draft / FILM_RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        publish_folder(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
