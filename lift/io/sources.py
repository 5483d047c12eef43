"""Where the frames of a capture come from: a video file, a folder, or a list of pictures."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from lift.io.image import PHOTOS, picture_size, read_image
from lift.io.lens import needs_turning
from lift.io.selection import FrameScores, score_frames
from lift.io.video import VIDEOS, decode_video, picture_files, video_size
from lift.runtime.parallel import each
from lift.synthetic.scenes import SCENES

ResultT = TypeVar("ResultT")
ImageSource = str | Sequence[str]
"""The setting `image`: the name of a picture, a video or a folder, or a list of pictures."""

_SCORED = 256
"""Longer side in pixels of the frames whose sharpness is measured."""


class Source(ABC):
    """Frames in a fixed order, decoded when they are asked for."""

    title: str
    """What a run of them is called."""
    kind: str
    """video or pictures."""
    names: tuple[str, ...]
    """Of each frame: its file's name, or the video's and the frame's number."""
    ordered: bool
    """Whether the frames follow one another in time."""
    notes: tuple[str, ...] = ()
    """What is wrong with the files, in sentences."""

    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Find width and height of the frames, upright and with square pixels."""

    @abstractmethod
    def scores(self, indices: Sequence[int]) -> FrameScores:
        """Measure sharpness and motion of the frames of these indices."""

    @abstractmethod
    def map(
        self,
        indices: Sequence[int],
        function: Callable[[int, UInt8[Tensor, "height width 3"]], ResultT],
        camera_size: tuple[int, int] | None = None,
    ) -> list[ResultT]:
        """Apply a function to frames of full size, of which few are in memory at a time.

        Args:
            indices: The frames, rising.
            function: Gets a frame's index and pixels.
            camera_size: Size of the cameras' pictures. If given, frames are turned as these
                describe them (`lift.io.lens`), else upright.

        Returns:
            The results in order.
        """

    @abstractmethod
    def digest(self) -> str:
        """Hash the bytes of all files."""


class VideoSource(Source):
    """The frames of a video file, in time."""

    kind = "video"
    ordered = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.title = path.stem
        notes: list[str] = []
        self._scores = score_frames(decode_video(path, grey=_SCORED, notes=notes))
        self.notes = tuple(notes)
        count = len(self._scores.sharpness)
        if count == 0:
            raise ValueError(f"image is {str(path)!r}, which holds no video frames")
        self.names = tuple(f"{path.name}#{index}" for index in range(count))

    def size(self) -> tuple[int, int]:
        return video_size(self.path)

    def scores(self, indices: Sequence[int]) -> FrameScores:
        sharpness = tuple(self._scores.sharpness[index] for index in indices)
        total = np.cumsum(self._scores.motion)[list(indices)]
        return FrameScores(sharpness, tuple(np.diff(total, prepend=total[0]).tolist()))

    def map(
        self,
        indices: Sequence[int],
        function: Callable[[int, UInt8[Tensor, "height width 3"]], ResultT],
        camera_size: tuple[int, int] | None = None,
    ) -> list[ResultT]:
        every = len(indices) == len(self.names)
        frames: Iterator = decode_video(self.path, None if every else indices)
        pairs = zip(indices, frames, strict=True)
        return [function(index, torch.from_numpy(frame.copy())) for index, frame in pairs]

    def digest(self) -> str:
        return _hash([self.path])


class PictureSource(Source):
    """Picture files."""

    kind = "pictures"
    ordered = False

    def __init__(self, files: Sequence[Path], title: str) -> None:
        self.files = tuple(files)
        self.title = title
        names = [file.name for file in files]
        if len(set(names)) < len(names):
            names = [str(file) for file in files]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"image has the picture {twice[0]!r} more than once")
        self.names = tuple(names)

    def size(self) -> tuple[int, int]:
        return self.common_size(picture_size)

    def common_size(self, size_of: Callable[[Path], tuple[int, int]]) -> tuple[int, int]:
        """The size of all pictures. Raises ValueError, naming two files, if there are several."""
        size = size_of(self.files[0])
        for file in self.files[1:]:
            if (other := size_of(file)) != size:
                raise ValueError(
                    f"pictures of one scene have one size, but {self.files[0]} is {size[0]} x "
                    f"{size[1]} pixels and {file} is {other[0]} x {other[1]}"
                )
        return size

    def scores(self, indices: Sequence[int]) -> FrameScores:
        grey = each(lambda index: _grey(self.files[index]), indices)
        return score_frames(grey, ordered=False)

    def map(
        self,
        indices: Sequence[int],
        function: Callable[[int, UInt8[Tensor, "height width 3"]], ResultT],
        camera_size: tuple[int, int] | None = None,
    ) -> list[ResultT]:
        def load(index: int) -> ResultT:
            file = self.files[index]
            upright = camera_size is None or needs_turning(file, camera_size)
            return function(index, read_image(file, upright))

        return each(load, indices)

    def digest(self) -> str:
        return _hash(self.files)


def is_capture(image: ImageSource) -> bool:
    """Tell whether the setting `image` stands for several frames rather than for one picture.

    A list of one picture, and a GIF of one, are pictures. So is a built-in picture's name, even
    where there is a folder of that name, such as the one that holds its runs.
    """
    if not isinstance(image, str):
        return len(image) != 1 or is_capture(image[0])
    path = Path(image).expanduser()
    if path.is_dir():
        return image not in PHOTOS and image not in SCENES
    if not path.is_file() or path.suffix.lower() not in VIDEOS:
        return False
    return path.suffix.lower() != ".gif" or _pictures_in(path) > 1


def open_source(image: ImageSource) -> Source:
    """Open what the setting `image` names.

    Args:
        image: A video, a folder of pictures, or a list of pictures.

    Returns:
        The source, of at least two frames.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: There are fewer than two frames, or the file is not a video.
    """
    if not isinstance(image, str):
        return _listed(list(image))
    path = Path(image).expanduser()
    if path.is_dir():
        source: Source = PictureSource(picture_files(path), path.resolve().name or "pictures")
    else:
        source = VideoSource(path)
    if len(source.names) < 2:
        raise ValueError(
            f"image is {image!r}, which holds one frame only; choose one of two or more, or give "
            "a single picture by its file's name"
        )
    return source


def _listed(images: list[str]) -> Source:
    if len(images) == 1:
        return open_source(images[0])
    if not images:
        raise ValueError("image is an empty list; give two pictures or more")
    files = [Path(image).expanduser() for image in images]
    if missing := [file for file in files if not file.is_file()]:
        raise FileNotFoundError(
            f"image names {str(missing[0])!r}, which is no file; missing are {len(missing)} of "
            f"{len(files)} pictures"
        )
    if video := next((file for file in files if file.suffix.lower() in VIDEOS), None):
        raise ValueError(f"image lists {str(video)!r}, a video; a list takes pictures only")
    return PictureSource(files, f"{files[0].stem}-and-{len(files) - 1}-more")


def _pictures_in(path: Path) -> int:
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1)
    except (OSError, SyntaxError, ValueError):
        return 1  # reading it as a picture says what is wrong


def _grey(file: Path) -> UInt8[np.ndarray, "height width"]:
    with Image.open(file) as image:
        image.draft("L", (_SCORED, _SCORED))
        small = image.convert("L")
        small.thumbnail((_SCORED, _SCORED))
        return np.array(small)


def _hash(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        digest.update(b"\0" + file.name.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
