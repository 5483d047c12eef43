"""Write video files with ffmpeg."""

import errno
import os
import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from lift.runtime.atomic_io import publish

_ENCODING = (
    *("-an", "-vcodec", "libx264", "-pix_fmt", "yuv420p", "-v", "error", "-crf", "16"),
    # Without an explicit colour matrix, players guess it from the size, and colours shift.
    *("-vf", "scale=out_color_matrix=bt709:out_range=tv", "-movflags", "+faststart"),
    *("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"),
    *("-color_range", "tv"),
)
"""Options of ffmpeg for H.264 that every browser plays."""

_DISK_ERRORS = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "Read-only file system": errno.EROFS,
    "File too large": errno.EFBIG,
    "Input/output error": errno.EIO,
}
"""What ffmpeg says of the disk, and the error's number."""


class VideoToolError(OSError):
    """ffmpeg is missing or fails, so that there is no video. The disk is not the reason."""


def write_video(
    path: Path, frames: UInt8[Tensor, "frame height width 3"], fps: float | int
) -> None:
    """Write an H.264 video (yuv420p, BT.709), which every browser plays.

    The format needs even sizes. The last row or column of an odd size is repeated.

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
    pixels = frames.detach().cpu().numpy()
    pixels = np.pad(
        pixels, ((0, 0), (0, pixels.shape[1] % 2), (0, pixels.shape[2] % 2), (0, 0)), mode="edge"
    )
    path = Path(path)
    size = f"{pixels.shape[2]}x{pixels.shape[1]}"
    rate = str(Fraction(fps).limit_denominator())
    source = ("-f", "rawvideo", "-vcodec", "rawvideo", "-s", size, "-pix_fmt", "rgb24")
    command = [find_ffmpeg(), "-y", *source, "-r", rate, "-i", "-", *_ENCODING]
    publish(path, lambda draft: _encode(command, draft, pixels, path))


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


def _encode(command: list[str], draft: Path, pixels: np.ndarray, path: Path) -> None:
    """Let ffmpeg encode frames to a file, and check that it did."""
    # `file:` keeps ffmpeg from taking a part of the name for a protocol.
    command = [*command, f"file:{draft}"]
    with tempfile.TemporaryFile() as messages:
        process = start_ffmpeg(command, subprocess.PIPE, subprocess.DEVNULL, messages)
        assert process.stdin is not None
        try:
            _feed(process.stdin, pixels)
            status = process.wait()
        finally:
            process.kill()
            process.wait()
        messages.seek(0)
        text = messages.read().decode("utf-8", "replace")
    if status:
        raise _failure(text, status, path)
    if not draft.is_file() or draft.stat().st_size == 0:
        raise VideoToolError(f"ffmpeg wrote no video to {path}")


def _feed(stream: IO[bytes], pixels: np.ndarray) -> None:
    """Write frames to ffmpeg. Its exit status tells why it reads no more."""
    try:
        with stream:
            for frame in pixels:
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
