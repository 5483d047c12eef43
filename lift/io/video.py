"""Read video files, and list folders of pictures."""

import functools
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from lift.io.animations import decode_animation, is_animation
from lift.io.image import picture_size, read_image
from lift.io.video_writer import find_ffmpeg, start_error, start_ffmpeg
from lift.io.views import natural_key
from lift.types import Frames

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Suffixes of the files that count as pictures of a folder."""
PHONE_SUFFIXES = (".heic", ".heif", ".avif")
"""Suffixes of pictures that count if a folder has no others. Phones store JPEG beside them."""
VIDEO_SUFFIXES = (
    ".mp4",
    ".mov",
    ".m4v",
    ".webm",
    ".mkv",
    ".avi",
    ".gif",
    ".mpg",
    ".mpeg",
    ".wmv",
    ".flv",
    ".3gp",
    ".ogv",
    ".mts",
    ".m2ts",
    ".ts",
)
"""Suffixes of the files that are read as videos."""
_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpeg,mpegts,mpegvideo,h264,hevc,asf,flv,ogg"
)
"""ffmpeg's readers of containers that hold their frames. Playlists name other files instead."""
MAX_FRAME_PIXELS = 2**27
"""Largest number of pixels of a video's frame. 16K has 133 million."""
MAX_FRAMES = 1_000_000
"""Largest number of frames of a video. It is nine hours at 30 frames per second."""
_MAX_MESSAGE = 4096
"""Number of bytes of ffmpeg's messages that are read."""
_MAX_WIDTH = 2**15
"""Largest width in pixels after pixels are made square."""
_MAX_SELECTED = 1000
"""Largest number of frames that ffmpeg selects by index. For more, all frames are decoded."""


def read_frames(path: Path) -> Frames:
    """Read all frames of a video, or the pictures of a folder, at their own size.

    Args:
        path: A video file, or a folder whose pictures are read in natural order (frame_2 before
            frame_10).

    Returns:
        The frames.

    Raises:
        FileNotFoundError: The file or folder does not exist.
        ValueError: The file is not a video, the folder holds no pictures, or their sizes differ.
    """
    path = Path(path)
    if path.is_dir():
        return Frames(_read_folder(path))
    if not path.is_file():
        raise FileNotFoundError(f"no video file or folder of pictures {str(path)!r}")
    return Frames(_read_video(path))


def picture_files(folder: Path) -> list[Path]:
    """List the pictures of a folder in natural order (frame_2 before frame_10).

    Args:
        folder: The folder. Hidden files and subfolders are ignored.

    Returns:
        The files, at least one.

    Raises:
        ValueError: There is no picture. The message suggests what the folder holds instead.
    """
    files = [file for file in folder.iterdir() if not file.name.startswith(".")]
    for suffixes in (PICTURE_SUFFIXES, PHONE_SUFFIXES):
        pictures = [file for file in files if file.suffix.lower() in suffixes and file.is_file()]
        if pictures:
            return sorted(pictures, key=_natural_key)
    hint = ""
    if (folder / "images").is_dir():
        hint = f"; its subfolder {str(folder / 'images')!r} may be meant"
    elif videos := sorted(file.name for file in files if file.suffix.lower() in VIDEO_SUFFIXES):
        hint = f"; its video {videos[0]!r} may be meant"
    raise ValueError(
        f"folder {str(folder)!r} holds no pictures ({', '.join(PICTURE_SUFFIXES)}){hint}"
    )


def decode_video(
    path: Path,
    indices: Sequence[int] | None = None,
    grey_side: int | None = None,
    notes: list[str] | None = None,
) -> Iterator[UInt8[np.ndarray, "height width *channel"]]:
    """Decode a video frame by frame, each frame of the file once, whatever its frame rate.

    Frames are rotated as the file's metadata says, and stretched so that pixels are square. Pillow
    reads animated GIF, WebP and PNG files, ffmpeg all others.

    Args:
        path: The video file.
        indices: Indices of the frames to decode, in ascending order. None decodes all.
        grey_side: Longer side in pixels, at most, of grey frames. None decodes RGB at full size.
        notes: Receives a sentence if ffmpeg could not decode the complete file.

    Yields:
        RGB frames [height width 3], or grey ones [height width].

    Raises:
        ValueError: The file is not a video that ffmpeg can read.
        VideoToolError: ffmpeg is missing or does not start.
    """
    if is_animation(path):
        yield from decode_animation(path, indices, grey_side, MAX_FRAMES, MAX_FRAME_PIXELS)
        return
    index_set = None if indices is None else set(indices)
    by_number = index_set is not None and len(index_set) <= _MAX_SELECTED
    filters = []
    if index_set is not None and by_number:
        filters.append("select='" + "+".join(f"eq(n,{index})" for index in sorted(index_set)) + "'")
    # A pixel aspect beyond 8:1 is a mistake of the file, and must not make huge frames.
    width = f"clip(round(iw*clip(sar,1/8,8)),1,{_MAX_WIDTH})"
    filters += [f"scale='{width}':ih", "setsar=1"]
    if grey_side is not None:
        longer = f"min({grey_side},max(iw,ih))"
        other = "max(iw,ih)"
        sides = [f"'max(1,round({side}*{longer}/{other}))'" for side in ("iw", "ih")]
        filters.append(f"scale={sides[0]}:{sides[1]}:flags=area")
    frames = _run_ffmpeg(path, filters, grey_side is not None, notes)
    if index_set is None or by_number:
        yield from frames if index_set is None else _take_frames(frames, len(index_set))
        return
    for index, frame in enumerate(frames):
        if index in index_set:
            yield frame
        if index >= max(index_set):
            return


def _take_frames(frames: Iterator[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """Yield the first `count` frames without requesting another one."""
    for number, frame in enumerate(frames, 1):
        yield frame
        if number == count:
            return


def video_size(path: Path) -> tuple[int, int]:
    """Read the size of a video's frames, upright and with square pixels.

    Args:
        path: The video file.

    Returns:
        Width and height in pixels.

    Raises:
        ValueError: The file is not a video that ffmpeg can read, or it holds no frames.
    """
    for frame in decode_video(path):
        return frame.shape[1], frame.shape[0]
    raise ValueError(f"{str(path)!r} holds no video frames")


def _decode_command(path: Path, filters: Sequence[str], grey: bool) -> list[str]:
    """Build the command that writes each frame as a PPM or PGM picture to standard output."""
    return [
        find_ffmpeg(),
        "-nostdin",
        "-v",
        "error",
        # A file may name others, for example as a playlist. None of them is opened.
        "-protocol_whitelist",
        "file,pipe",
        "-format_whitelist",
        _DEMUXERS,
        "-max_pixels",
        str(MAX_FRAME_PIXELS),
        "-i",
        f"file:{path}",
        "-map",
        "0:V:0",
        *_passthrough(),
        "-vf",
        ",".join(filters),
        "-pix_fmt",
        "gray" if grey else "rgb24",
        "-c:v",
        "pgm" if grey else "ppm",
        "-f",
        "image2pipe",
        "-",
    ]


def _run_ffmpeg(
    path: Path, filters: Sequence[str], grey: bool, notes: list[str] | None = None
) -> Iterator[np.ndarray]:
    """Run ffmpeg, which writes each frame as a PPM or PGM picture with its size in the header."""
    command = _decode_command(path, filters, grey)
    with tempfile.TemporaryFile() as messages:
        process = start_ffmpeg(command, subprocess.DEVNULL, subprocess.PIPE, messages)
        assert process.stdout is not None
        count = 0
        try:
            while (frame := _next_frame(process.stdout, path)) is not None:
                count += 1
                if count > MAX_FRAMES:
                    raise ValueError(
                        f"{str(path)!r} has more than {MAX_FRAMES} frames; cut out a part of it"
                    )
                yield frame
            status = process.wait()
            messages.seek(0)
            message = messages.read(_MAX_MESSAGE).decode("utf-8", "replace").strip().split("\n")[0]
            reason = re.sub(
                r"^(\[[^]]* @ [^]]*\] *)+", "", message
            )  # drops names of ffmpeg's parts
            if status and not count:
                raise ValueError(
                    f"{str(path)!r} is not a video that ffmpeg can read: {reason[:200]}"
                )
            if reason and notes is not None:
                notes.append(f"{path.name} is damaged, and frames may be broken: {reason}")
            if process.returncode:
                raise ValueError(f"{str(path)!r} is damaged after {count} frames: {reason}")
        finally:
            process.stdout.close()
            process.kill()
            process.wait()


def _next_frame(stream: Any, path: Path) -> np.ndarray | None:
    """Read the next PPM or PGM picture. Return None where the stream ends or breaks off."""
    kind = stream.readline().strip()
    if kind not in (b"P5", b"P6"):
        return None
    width, height = (int(word) for word in stream.readline().split())
    stream.readline()  # the largest value, 255
    if width * height > MAX_FRAME_PIXELS:
        raise ValueError(
            f"{str(path)!r} has frames of {width} x {height} pixels; at most "
            f"{MAX_FRAME_PIXELS // 10**6} million are read"
        )
    shape = (height, width, 3) if kind == b"P6" else (height, width)
    data = stream.read(int(np.prod(shape)))
    return np.frombuffer(data, np.uint8).reshape(shape) if len(data) == np.prod(shape) else None


@functools.cache
def _passthrough() -> tuple[str, str]:
    """Return ffmpeg's option to keep every frame unchanged. Version 5.1 renamed it."""
    import imageio_ffmpeg

    try:
        text = imageio_ffmpeg.get_ffmpeg_version()
    except (OSError, subprocess.SubprocessError) as error:
        raise start_error(error, find_ffmpeg()) from None
    version = re.search(r"(\d+)\.(\d+)", text)
    before_rename = version is not None and (int(version[1]), int(version[2])) < (5, 1)
    return ("-vsync", "0") if before_rename else ("-fps_mode", "passthrough")


def _read_folder(path: Path) -> UInt8[Tensor, "frame height width 3"]:
    files = picture_files(path)
    width, height = picture_size(files[0])
    _check_memory(path, 3 * width * height * len(files), _memory_limit())
    images = [read_image(file) for file in files]
    for file, image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            sizes = [f"{i.shape[1]} x {i.shape[0]}" for i in (images[0], image)]
            raise ValueError(
                f"pictures in {str(path)!r} differ in size: {files[0].name} is {sizes[0]}, "
                f"{file.name} is {sizes[1]}"
            )
    return torch.stack(images)


def _memory_limit() -> int:
    """Return the number of bytes that the frames of a file may take, half of the free memory."""
    import psutil

    return psutil.virtual_memory().available // 2


def _check_memory(path: Path, size: int, limit: int) -> None:
    """Raise ValueError if frames take too much memory."""
    if size > limit:
        raise ValueError(
            f"the frames of {str(path)!r} take more than {limit / 2**30:.1f} GiB, half of the free "
            "memory; use fewer or smaller frames"
        )


def _natural_key(file: Path) -> list[tuple[int, str]]:
    """Build a sort key that puts frame_2 before frame_10, whatever the case of letters."""
    return natural_key(file.name.lower())


def _read_video(path: Path) -> UInt8[Tensor, "frame height width 3"]:
    frames = []
    size = 0
    limit = _memory_limit()
    for frame in decode_video(path):
        frames.append(frame)
        size += frame.nbytes
        _check_memory(path, size, limit)
    if not frames:
        raise ValueError(f"{str(path)!r} holds no video frames")
    return torch.from_numpy(np.stack(frames))
