"""Frames in video files and in folders of pictures."""

import re
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from lift.io.image import read_image
from lift.types import Frames

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def write_video(path: Path, frames: UInt8[Tensor, "frame height width 3"], fps: float | int) -> None:
    """Writes H.264 (yuv420p, BT.709), which every browser plays. It holds even sizes only: the last row or column of an odd one is
    repeated. Raises ValueError if there are no frames or `fps` is not positive."""
    import imageio_ffmpeg

    if len(frames) == 0 or not fps > 0:
        raise ValueError(f"a video needs frames and a positive fps, not {len(frames)} frames at {fps}")
    pixels = frames.detach().cpu().numpy()
    pixels = np.pad(pixels, ((0, 0), (0, pixels.shape[1] % 2), (0, pixels.shape[2] % 2), (0, 0)), mode="edge")
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
            "-crf", "16", "-vf", "scale=out_color_matrix=bt709:out_range=tv", "-movflags", "+faststart",
            "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv",
        ],
    )  # fmt: skip
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


def _read_folder(path: Path) -> UInt8[Tensor, "frame height width 3"]:
    files = sorted((file for file in path.iterdir() if file.suffix.lower() in PICTURES and not file.name.startswith(".")), key=_natural)
    if not files:
        raise ValueError(f"folder {str(path)!r} holds no pictures ({', '.join(PICTURES)})")
    images = [read_image(file) for file in files]
    for file, image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            sizes = [f"{i.shape[1]} x {i.shape[0]}" for i in (images[0], image)]
            raise ValueError(f"pictures in {str(path)!r} differ in size: {files[0].name} is {sizes[0]}, {file.name} is {sizes[1]}")
    return torch.stack(images)


def _natural(file: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", file.name.lower())]


def _read_video(path: Path) -> UInt8[Tensor, "frame height width 3"]:
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(str(path))
    try:
        width, height = next(reader)["size"]
        frames = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
    except (OSError, RuntimeError, StopIteration, KeyError, IndexError, ValueError):  # it parses ffmpeg's messages, whatever they are
        raise ValueError(f"{str(path)!r} is not a video that ffmpeg can read") from None
    finally:
        reader.close()
    if not frames:
        raise ValueError(f"{str(path)!r} holds no video frames")
    return torch.from_numpy(np.stack(frames))
