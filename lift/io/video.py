"""Frames in video files and in folders of pictures."""

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

from lift.io.image import read_image
from lift.types import Frames

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Suffixes of the files that count as pictures of a folder."""
VIDEOS = (
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
_TERMS = 1000
"""Number of frames that ffmpeg is asked for by number; for more, all are decoded and sorted out."""


def write_video(
    path: Path, frames: UInt8[Tensor, "frame height width 3"], fps: float | int
) -> None:
    """Writes H.264 (yuv420p, BT.709), which every browser plays. It holds even sizes only: the last row or column of an odd one is
    repeated. Raises ValueError if there are no frames or `fps` is not positive.
    """
    import imageio_ffmpeg

    if len(frames) == 0 or not fps > 0:
        raise ValueError(
            f"a video needs frames and a positive fps, not {len(frames)} frames at {fps}"
        )
    pixels = frames.detach().cpu().numpy()
    pixels = np.pad(
        pixels, ((0, 0), (0, pixels.shape[1] % 2), (0, pixels.shape[2] % 2), (0, 0)), mode="edge"
    )
    writer = imageio_ffmpeg.write_frames(
        str(path),
        (pixels.shape[2], pixels.shape[1]),
        fps=fps,
        codec="libx264",
        pix_fmt_out="yuv420p",
        macro_block_size=1,
        quality=None,
        # Without a stated matrix players guess one from the picture's size, and colours shift.
        output_params=[
            "-crf",
            "16",
            "-vf",
            "scale=out_color_matrix=bt709:out_range=tv",
            "-movflags",
            "+faststart",
            "-colorspace",
            "bt709",
            "-color_primaries",
            "bt709",
            "-color_trc",
            "bt709",
            "-color_range",
            "tv",
        ],
    )
    writer.send(None)
    try:
        for frame in pixels:
            writer.send(np.ascontiguousarray(frame))
    finally:
        writer.close()


def read_frames(path: Path) -> Frames:
    """All frames of a video file, or the pictures of a folder in natural order (frame_2 before frame_10), at their own size.

    Raises FileNotFoundError or ValueError, one line: nothing there, no picture in the folder, sizes that differ, not a video.
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
        folder: The folder; hidden files and folders in it do not count.

    Returns:
        The files, at least one.

    Raises:
        ValueError: There is none. The message names what is there instead.
    """
    files = [file for file in folder.iterdir() if not file.name.startswith(".")]
    pictures = [file for file in files if file.suffix.lower() in PICTURES and file.is_file()]
    if pictures:
        return sorted(pictures, key=_natural)
    hint = ""
    if (folder / "images").is_dir():
        hint = f"; its subfolder {str(folder / 'images')!r} may be meant"
    elif videos := sorted(file.name for file in files if file.suffix.lower() in VIDEOS):
        hint = f"; its video {videos[0]!r} may be meant"
    raise ValueError(f"folder {str(folder)!r} holds no pictures ({', '.join(PICTURES)}){hint}")


def decode_video(
    path: Path,
    chosen: Sequence[int] | None = None,
    grey: int | None = None,
    notes: list[str] | None = None,
) -> Iterator[UInt8[np.ndarray, "height width *channel"]]:
    """Decode a video frame by frame: every frame of the file once, whatever its frame rate.

    Frames are turned as the file's metadata says, and stretched so that pixels are square.

    Args:
        path: The video file.
        chosen: Indices of the frames to decode, rising; all if not given.
        grey: If given, frames are grey, and their longer side has at most so many pixels.
        notes: If given, gets a sentence if ffmpeg could not decode all of the file.

    Yields:
        RGB frames [height width 3], or grey ones [height width].

    Raises:
        ValueError: The file is not a video that ffmpeg can read.
    """
    wanted = None if chosen is None else set(chosen)
    by_number = wanted is not None and len(wanted) <= _TERMS
    filters = []
    if by_number:
        filters.append("select='" + "+".join(f"eq(n,{index})" for index in sorted(wanted)) + "'")
    filters += ["scale='max(1,round(iw*sar))':ih", "setsar=1"]
    if grey is not None:
        longer, other = f"min({grey},max(iw,ih))", "max(iw,ih)"
        sides = [f"'max(1,round({side}*{longer}/{other}))'" for side in ("iw", "ih")]
        filters.append(f"scale={sides[0]}:{sides[1]}:flags=area")
    frames = _piped(path, filters, grey is not None, notes)
    if wanted is None or by_number:
        yield from frames if wanted is None else _first(frames, len(wanted))
        return
    for index, frame in enumerate(frames):
        if index in wanted:
            yield frame
        if index >= max(wanted):
            return


def _first(frames: Iterator[np.ndarray], count: int) -> Iterator[np.ndarray]:
    for number, frame in enumerate(frames, 1):
        yield frame
        if number == count:
            return


def video_size(path: Path) -> tuple[int, int]:
    """Find width and height of a video's frames, upright and with square pixels.

    Raises:
        ValueError: The file is not a video that ffmpeg can read, or it holds no frames.
    """
    for frame in decode_video(path):
        return frame.shape[1], frame.shape[0]
    raise ValueError(f"{str(path)!r} holds no video frames")


def _piped(
    path: Path, filters: Sequence[str], grey: bool, notes: list[str] | None = None
) -> Iterator[np.ndarray]:
    """Run ffmpeg, which writes each frame as a PPM or PGM picture with its size in the header."""
    import imageio_ffmpeg

    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-nostdin",
        "-v",
        "error",
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
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages
        )
        count = 0
        try:
            while (frame := _next_frame(process.stdout)) is not None:
                count += 1
                yield frame
            if process.wait() and not count:
                raise ValueError(f"{str(path)!r} is not a video that ffmpeg can read")
            messages.seek(0)
            said = messages.read().decode("utf-8", "replace").strip().split("\n")[0]
            reason = re.sub(r"^(\[[^]]* @ [^]]*\] *)+", "", said)  # names of ffmpeg's parts
            if reason and notes is not None:
                notes.append(f"{path.name} is damaged, and frames may be broken: {reason}")
            if process.returncode:
                raise ValueError(f"{str(path)!r} is damaged after {count} frames: {reason}")
        finally:
            process.stdout.close()
            process.kill()
            process.wait()


def _next_frame(stream: Any) -> np.ndarray | None:
    """The next PPM or PGM picture of a stream; None at its end, or where it breaks off."""
    kind = stream.readline().strip()
    if kind not in (b"P5", b"P6"):
        return None
    width, height = (int(word) for word in stream.readline().split())
    stream.readline()  # the largest value, 255
    shape = (height, width, 3) if kind == b"P6" else (height, width)
    data = stream.read(int(np.prod(shape)))
    return np.frombuffer(data, np.uint8).reshape(shape) if len(data) == np.prod(shape) else None


@functools.cache
def _passthrough() -> tuple[str, str]:
    """Ffmpeg's option to keep every frame as it is; it has another name since version 5.1."""
    import imageio_ffmpeg

    version = re.search(r"(\d+)\.(\d+)", imageio_ffmpeg.get_ffmpeg_version())
    old = version is not None and (int(version[1]), int(version[2])) < (5, 1)
    return ("-vsync", "0") if old else ("-fps_mode", "passthrough")


def _read_folder(path: Path) -> UInt8[Tensor, "frame height width 3"]:
    files = picture_files(path)
    images = [read_image(file) for file in files]
    for file, image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            sizes = [f"{i.shape[1]} x {i.shape[0]}" for i in (images[0], image)]
            raise ValueError(
                f"pictures in {str(path)!r} differ in size: {files[0].name} is {sizes[0]}, {file.name} is {sizes[1]}"
            )
    return torch.stack(images)


def _natural(file: Path) -> list[tuple[int, str]]:
    return [
        (int(part), "") if part.isdigit() else (-1, part)
        for part in re.split(r"(\d+)", file.name.lower())
    ]


def _read_video(path: Path) -> UInt8[Tensor, "frame height width 3"]:
    frames = list(decode_video(path))
    if not frames:
        raise ValueError(f"{str(path)!r} holds no video frames")
    return torch.from_numpy(np.stack(frames))
