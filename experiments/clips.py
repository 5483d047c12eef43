"""Clips of `$LIFT_SHARED/data/generated_clips`: index, frames, requested cameras."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageSequence
from torch import Tensor

from lift.io.image import save_image
from lift.types import Cameras

Images = UInt8[Tensor, "frame height width 3"]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class GeneratedClip:
    """One row of index.csv."""

    name: str
    generator: str
    folder: Path
    """Folder of the clip's own files."""
    video: Path
    numbers: range
    """Frame numbers in the video."""
    crop: Box | None
    """x, y, width and height in pixels. None is the full frame."""
    real_numbers: range | None
    """Frame numbers of real frames of the same path. None if there are none."""
    real_crop: Box | None
    static: str
    """Whether the scene is static: yes, nearly or no."""


def read_index(root: Path) -> list[GeneratedClip]:
    """Read index.csv.

    Args:
        root: Folder with index.csv.

    Returns:
        The clips in the order of the file.

    Raises:
        FileNotFoundError: If there is no index.csv.
    """
    index = root / "index.csv"
    if not index.is_file():
        raise FileNotFoundError(f"there is no {index}; set LIFT_SHARED to the folder with the data")
    with index.open(newline="", encoding="utf-8") as file:
        return [_clip(root, row) for row in csv.DictReader(file)]


def _clip(root: Path, row: dict[str, str]) -> GeneratedClip:
    real = row["real_frame_list"]
    return GeneratedClip(
        row["folder"],
        row["generator"],
        root / row["folder"],
        root / row["video"],
        frame_numbers(row["frame_list"]),
        _box(row["crop"]),
        frame_numbers(real) if real else None,
        _box(row["real_crop"]),
        row["static"],
    )


def frame_numbers(text: str) -> range:
    """Parse `first:last:step`. The last frame is included.

    Raises:
        ValueError: If the text has another form.
    """
    parts = text.split(":")
    if len(parts) != 3 or not all(part.strip().isdigit() for part in parts) or int(parts[2]) < 1:
        raise ValueError(f"frame list is {text!r}; write first:last:step, such as 0:48:1")
    first, last, step = map(int, parts)
    return range(first, last + 1, step)


def _box(text: str) -> Box | None:
    numbers = tuple(map(int, text.split()))
    return numbers or None  # type: ignore[return-value]


def decode(video: Path, numbers: Sequence[int], crop: Box | None) -> Images:
    """Decode some frames of a video or GIF.

    Args:
        video: File.
        numbers: Frame numbers in increasing order.
        crop: Box in pixels, or None.

    Returns:
        RGB frames.

    Raises:
        ValueError: If the video has fewer frames.
    """
    number_set = set(numbers)
    frames = {
        number: frame for number, frame in enumerate(_pictures(video)) if number in number_set
    }
    if missing := number_set - frames.keys():
        raise ValueError(f"{video} has no frame {min(missing)}")
    pictures = [frames[number] for number in numbers]
    if crop:
        x, y, width, height = crop
        pictures = [picture[y : y + height, x : x + width] for picture in pictures]
    return torch.from_numpy(np.stack(pictures))


def _pictures(video: Path):
    if video.suffix == ".gif":
        with Image.open(video) as picture:
            for frame in ImageSequence.Iterator(picture):
                yield np.asarray(frame.convert("RGB"))
        return
    with av.open(str(video)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def generated_frames(clip: GeneratedClip) -> Images:
    """Decode the generated frames of a clip."""
    return decode(clip.video, clip.numbers, clip.crop)


def real_frames(clip: GeneratedClip) -> Images | None:
    """Decode the real frames of a clip's path. None if there are none."""
    if clip.real_numbers is None:
        return None
    return decode(clip.video, clip.real_numbers, clip.real_crop)


def resize_to_width(images: Images, width: int) -> Images:
    """Resize frames to a width in pixels, with antialiasing. Smaller frames do not change."""
    height = round(images.shape[1] * width / images.shape[2])
    if images.shape[2] <= width:
        return images
    small = [
        cv2.resize(image.numpy(), (width, height), interpolation=cv2.INTER_AREA) for image in images
    ]
    return torch.from_numpy(np.stack(small))


def write_frames(images: Images, folder: Path) -> list[Path]:
    """Write frames as 0000.png, 0001.png, ... and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number:04d}.png" for number in range(len(images))]
    for file, image in zip(files, images, strict=True):
        save_image(file, image)
    return files


def requested_cameras(clip: GeneratedClip, width: int, height: int) -> Cameras | None:
    """Read the requested cameras of a clip.

    Args:
        clip: The clip.
        width: Width in pixels of the pictures that the intrinsics are for.
        height: Height in pixels.

    Returns:
        Cameras of the frames in `clip.numbers`, or None if the clip has no camera file.
    """
    text = clip.folder / "cameras.txt"
    arrays = clip.folder / "cameras.npz"
    if text.is_file():
        rows = [line.split() for line in text.read_text().splitlines()]
        numbers = np.array([row for row in rows if len(row) == 19], dtype=np.float64)
        poses = np.tile(np.eye(4), (len(numbers), 1, 1))
        poses[:, :3] = numbers[:, 7:].reshape(-1, 3, 4)
        intrinsics = _intrinsics(numbers[:, 1:5] * [width, height, width, height])
    elif arrays.is_file():
        with np.load(arrays) as camera_file:
            gen3c = "w2c" in camera_file
            poses = camera_file["w2c" if gen3c else "extrinsics"].astype(np.float64)
            if not gen3c:  # EX-4D's axes are OpenGL's: y up, z backwards
                poses = np.diag([1.0, -1.0, -1.0, 1.0]) @ poses
            matrices = camera_file["K" if gen3c else "intrinsics"].astype(np.float64)
            matrices = np.broadcast_to(matrices, (len(poses), 3, 3))
            full = 2 * matrices[:, 0, 2], 2 * matrices[:, 1, 2]
        values = matrices[:, [0, 1, 0, 1], [0, 1, 2, 2]]
        scale = np.stack([width / full[0], height / full[1]] * 2, -1)
        intrinsics = _intrinsics(values * scale)
    else:
        return None
    frame_indices = list(clip.numbers)
    camera_poses = torch.from_numpy(poses[frame_indices]).float()
    camera_intrinsics = torch.from_numpy(intrinsics[frame_indices]).float()
    return Cameras(camera_poses, camera_intrinsics, width, height)


def _intrinsics(values: np.ndarray) -> np.ndarray:
    matrices = np.tile(np.eye(3), (len(values), 1, 1))
    matrices[:, [0, 1, 0, 1], [0, 1, 2, 2]] = values
    return matrices
