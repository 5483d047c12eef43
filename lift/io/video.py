"""Read and write video files, and list folders of pictures."""

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
from lift.io.views import natural_key
from lift.types import Frames

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Suffixes of the files that count as pictures of a folder."""
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
_MAX_SELECTED = 1000
"""Largest number of frames that ffmpeg selects by index. For more, all frames are decoded."""


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
        fps=fps,  # pyright: ignore[reportArgumentType]
        codec="libx264",
        pix_fmt_out="yuv420p",
        macro_block_size=1,
        quality=None,  # pyright: ignore[reportArgumentType]
        # Without an explicit colour matrix, players guess it from the size, and colours shift.
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
    pictures = [
        file for file in files if file.suffix.lower() in PICTURE_SUFFIXES and file.is_file()
    ]
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

    Frames are rotated as the file's metadata says, and stretched so that pixels are square.

    Args:
        path: The video file.
        indices: Indices of the frames to decode, in ascending order. None decodes all.
        grey_side: Longer side in pixels, at most, of grey frames. None decodes RGB at full size.
        notes: Receives a sentence if ffmpeg could not decode the complete file.

    Yields:
        RGB frames [height width 3], or grey ones [height width].

    Raises:
        ValueError: The file is not a video that ffmpeg can read.
    """
    index_set = None if indices is None else set(indices)
    by_number = index_set is not None and len(index_set) <= _MAX_SELECTED
    filters = []
    if index_set is not None and by_number:
        filters.append("select='" + "+".join(f"eq(n,{index})" for index in sorted(index_set)) + "'")
    filters += ["scale='max(1,round(iw*sar))':ih", "setsar=1"]
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


def _run_ffmpeg(
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
        assert process.stdout is not None
        count = 0
        try:
            while (frame := _next_frame(process.stdout)) is not None:
                count += 1
                yield frame
            if process.wait() and not count:
                raise ValueError(f"{str(path)!r} is not a video that ffmpeg can read")
            messages.seek(0)
            message = messages.read().decode("utf-8", "replace").strip().split("\n")[0]
            reason = re.sub(
                r"^(\[[^]]* @ [^]]*\] *)+", "", message
            )  # drops names of ffmpeg's parts
            if reason and notes is not None:
                notes.append(f"{path.name} is damaged, and frames may be broken: {reason}")
            if process.returncode:
                raise ValueError(f"{str(path)!r} is damaged after {count} frames: {reason}")
        finally:
            process.stdout.close()
            process.kill()
            process.wait()


def _next_frame(stream: Any) -> np.ndarray | None:
    """Read the next PPM or PGM picture. Return None where the stream ends or breaks off."""
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
    """Return ffmpeg's option to keep every frame unchanged. Version 5.1 renamed it."""
    import imageio_ffmpeg

    version = re.search(r"(\d+)\.(\d+)", imageio_ffmpeg.get_ffmpeg_version())
    before_rename = version is not None and (int(version[1]), int(version[2])) < (5, 1)
    return ("-vsync", "0") if before_rename else ("-fps_mode", "passthrough")


def _read_folder(path: Path) -> UInt8[Tensor, "frame height width 3"]:
    files = picture_files(path)
    images = [read_image(file) for file in files]
    for file, image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            sizes = [f"{i.shape[1]} x {i.shape[0]}" for i in (images[0], image)]
            raise ValueError(
                f"pictures in {str(path)!r} differ in size: {files[0].name} is {sizes[0]}, "
                f"{file.name} is {sizes[1]}"
            )
    return torch.stack(images)


def _natural_key(file: Path) -> list[tuple[int, str]]:
    """Build a sort key that puts frame_2 before frame_10, whatever the case of letters."""
    return natural_key(file.name.lower())


def _read_video(path: Path) -> UInt8[Tensor, "frame height width 3"]:
    frames = list(decode_video(path))
    if not frames:
        raise ValueError(f"{str(path)!r} holds no video frames")
    return torch.from_numpy(np.stack(frames))
