"""Write video files with ffmpeg."""

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from lift.runtime.atomic_io import publish

_COLORS = (
    # Without an explicit colour matrix, players guess it from the size, and colours shift.
    *("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"),
    *("-color_range", "tv", "-pix_fmt", "yuv420p"),
)
"""Options of ffmpeg for colours that every browser shows alike."""

_TO_BT709 = "scale=out_color_matrix=bt709:out_range=tv"
"""Filter of ffmpeg from RGB to the colours above."""

_ENCODINGS: dict[str, tuple[str, ...]] = {
    ".mp4": (
        *("-vcodec", "libx264", "-crf", "16", "-vf", _TO_BT709, *_COLORS),
        *("-movflags", "+faststart"),
    ),
    ".webm": (
        *("-vcodec", "libvpx-vp9", "-crf", "24", "-b:v", "0", "-vf", _TO_BT709, *_COLORS),
        *("-deadline", "good", "-cpu-used", "4", "-row-mt", "1"),
    ),
    ".gif": (
        "-filter_complex",
        # One palette for the whole film, else colours flicker. Ordered dithering stands still.
        "split[a][b];[a]palettegen=stats_mode=full[p];[b][p]paletteuse=dither=bayer:bayer_scale=4",
        *("-loop", "0"),
    ),
}
"""Options of ffmpeg by the suffix of the file: H.264, VP9 and GIF, which every browser plays."""

MAX_GIF_FPS = 50
"""Largest frame rate of a GIF. Browsers slow down a faster one."""

VIDEO_SUFFIXES = tuple(_ENCODINGS)
"""Suffixes of the files that ffmpeg writes."""

_DISK_ERRORS = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "Read-only file system": errno.EROFS,
    "File too large": errno.EFBIG,
    "Input/output error": errno.EIO,
    "Permission denied": errno.EACCES,
}
"""What ffmpeg says of the disk, and the error's number."""


class VideoToolError(OSError):
    """ffmpeg is missing or fails, so that there is no video. The disk is not the reason."""


def write_video(
    path: Path, frames: UInt8[Tensor, "frame height width 3"], fps: float | int
) -> None:
    """Write a video or an animated GIF. The suffix of the file chooses the format.

    .webm is VP9, .gif has one palette of 256 colours, and all others are H.264 (yuv420p, BT.709).

    Args:
        path: The file.
        frames: At least one frame.
        fps: Frames per second, above 0.

    Raises:
        ValueError: There are no frames, or `fps` is not positive.
        VideoToolError: ffmpeg is missing or fails.
        OSError: The file cannot be written.
    """
    if len(frames) == 0 or not fps > 0:
        raise ValueError(
            f"a video needs frames and a positive fps, not {len(frames)} frames at {fps}"
        )
    height, width = frames.shape[1:3]
    stream_video(path, (frame.cpu().numpy() for frame in frames), (width, height), fps)


def stream_video(
    path: Path,
    frames: Iterable[UInt8[np.ndarray, "height width 3"]],
    size: tuple[int, int],
    fps: float | int,
) -> None:
    """Write a video or an animated GIF while its frames are made. See `write_video`.

    The video formats need even sizes. The last row or column of an odd size is repeated.

    Args:
        path: The file.
        frames: At least one frame. An exception from here leaves no file.
        size: Width and height of the frames in pixels.
        fps: Frames per second, above 0.

    Raises:
        VideoToolError: ffmpeg is missing or fails.
        OSError: The file cannot be written.
    """
    path = Path(path)
    encoding = _ENCODINGS.get(path.suffix.lower(), _ENCODINGS[".mp4"])
    odd = (0, 0) if path.suffix.lower() == ".gif" else (size[1] % 2, size[0] % 2)
    text = f"{size[0] + odd[1]}x{size[1] + odd[0]}"
    rate = str(Fraction(fps).limit_denominator())
    source = ("-f", "rawvideo", "-vcodec", "rawvideo", "-s", text, "-pix_fmt", "rgb24")
    command = [find_ffmpeg(), "-y", *source, "-r", rate, "-i", "-", "-an", "-v", "error", *encoding]
    padded = (np.pad(frame, ((0, odd[0]), (0, odd[1]), (0, 0)), mode="edge") for frame in frames)
    publish(path, lambda draft: _encode(command, draft, padded, path))


def find_ffmpeg() -> str:
    """Return the path of ffmpeg.

    Raises:
        VideoToolError: There is none.
    """
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise VideoToolError(
            f"ffmpeg is not found ({reason[:200]}); pip install 'imageio[ffmpeg]', or set "
            "IMAGEIO_FFMPEG_EXE to its path"
        ) from None


def start_error(error: Exception, program: str) -> VideoToolError:
    """Make the error for an ffmpeg that does not start.

    Args:
        error: The exception of the process.
        program: Path of ffmpeg.

    Returns:
        An error of one line.
    """
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
    return VideoToolError(f"ffmpeg does not start ({reason}): {program}")


def start_ffmpeg(
    command: list[str], stdin: int, stdout: int, messages: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start ffmpeg.

    Args:
        command: Path of ffmpeg and its arguments.
        stdin: Where it reads, as for `subprocess.Popen`.
        stdout: Where it writes, as for `subprocess.Popen`.
        messages: File for what it says.

    Raises:
        VideoToolError: It does not start.
    """
    try:
        return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=messages)
    except OSError as error:
        raise start_error(error, command[0]) from None


def _encode(command: list[str], draft: Path, frames: Iterable[np.ndarray], path: Path) -> None:
    """Let ffmpeg encode frames to a file, and check that it did."""
    # `file:` keeps ffmpeg from taking a part of the name for a protocol.
    command = [*command, f"file:{draft}"]
    with tempfile.TemporaryFile() as messages:
        process = start_ffmpeg(command, subprocess.PIPE, subprocess.DEVNULL, messages)
        assert process.stdin is not None
        try:
            _feed(process.stdin, frames)
            status = process.wait()
        finally:
            process.kill()
            process.wait()
        messages.seek(0)
        text = messages.read().decode("utf-8", "replace")
    if status:
        raise _failure(text.replace(f"file:{draft}", str(path)), status, path)
    if not draft.is_file() or draft.stat().st_size == 0:
        raise VideoToolError(f"ffmpeg wrote no video to {path}")


def _feed(stream: IO[bytes], frames: Iterable[np.ndarray]) -> None:
    """Write frames to ffmpeg. Its exit status tells why it reads no more."""
    try:
        with stream:
            for frame in frames:
                stream.write(np.ascontiguousarray(frame).data)
    except BrokenPipeError:
        pass


def _failure(text: str, status: int, path: Path) -> OSError:
    """Return the error for what ffmpeg wrote to its standard error."""
    for words, number in _DISK_ERRORS.items():
        if words in text:
            return OSError(number, os.strerror(number), str(path))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reason = lines[0] if lines else f"status {status}"
    return VideoToolError(f"ffmpeg fails to write the video ({reason[:200]})")
