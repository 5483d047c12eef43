"""Open the source of a capture's frames: a video file, a folder, or a list of pictures."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from lift.io.image import PHOTOS, picture_size, read_image
from lift.io.lens import needs_rotation
from lift.io.names import user_path
from lift.io.picture_formats import check_pixels, damage_error, open_picture
from lift.io.selection import FrameScores, score_frames
from lift.io.video import VIDEO_SUFFIXES, decode_video, picture_files, video_size
from lift.runtime.parallel import parallel_map
from lift.synthetic.scenes import SCENES

ResultT = TypeVar("ResultT")
ImageSource = str | Sequence[str]
"""The setting `image`: the name of a picture, a video or a folder, or a list of pictures."""

_SCORE_SIDE = 256
"""Longer side in pixels of the frames whose sharpness is measured."""


class Source(ABC):
    """Frames in a fixed order, decoded on demand."""

    title: str
    """Name of the runs on this source."""
    kind: str
    """Either "video" or "pictures"."""
    names: tuple[str, ...]
    """Name of each frame: its file's name, or the video's name and the frame's number."""
    ordered: bool
    """Whether the frames follow one another in time."""
    notes: tuple[str, ...] = ()
    """Sentences about defects of the files."""

    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Return width and height of the frames in pixels, upright and with square pixels."""

    @abstractmethod
    def scores(self, indices: Sequence[int]) -> FrameScores:
        """Measure sharpness and motion of frames.

        Args:
            indices: The frames, in ascending order.

        Returns:
            The scores of these frames.
        """

    @abstractmethod
    def map(
        self,
        indices: Sequence[int],
        function: Callable[[int, UInt8[Tensor, "height width 3"]], ResultT],
        camera_size: tuple[int, int] | None = None,
    ) -> list[ResultT]:
        """Apply a function to frames of full size. Only a few of them are in memory at a time.

        Args:
            indices: The frames, in ascending order.
            function: Receives a frame's index and pixels.
            camera_size: Width and height of the cameras' pictures. If it is set, frames are rotated
                as the cameras describe them (`lift.io.lens`). Otherwise they are upright.

        Returns:
            The results in order.
        """

    @abstractmethod
    def digest(self) -> str:
        """Return the SHA-256 of the bytes of all files."""


class VideoSource(Source):
    """The frames of a video file in the order of time.

    Args:
        path: The video file.

    Raises:
        ValueError: The file holds no video frames.
    """

    kind = "video"
    ordered = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.title = path.stem
        notes: list[str] = []
        self._scores = score_frames(decode_video(path, grey_side=_SCORE_SIDE, notes=notes))
        self.notes = tuple(notes)
        count = len(self._scores.sharpness)
        if count == 0:
            raise ValueError(f"image is {str(path)!r}, which holds no video frames")
        self.names = tuple(f"{path.name}#{index}" for index in range(count))

    def size(self) -> tuple[int, int]:
        """Return width and height of the frames in pixels, upright and with square pixels."""
        return video_size(self.path)

    def scores(self, indices: Sequence[int]) -> FrameScores:
        """Select scores that were measured when the file was opened.

        Args:
            indices: The frames, in ascending order.

        Returns:
            Sharpness of the frames, and the motion from each frame to the next of `indices`.
        """
        sharpness = tuple(self._scores.sharpness[index] for index in indices)
        cumulative_motion = np.cumsum(self._scores.motion)[list(indices)]
        return FrameScores(
            sharpness, tuple(np.diff(cumulative_motion, prepend=cumulative_motion[0]).tolist())
        )

    def map(
        self,
        indices: Sequence[int],
        function: Callable[[int, UInt8[Tensor, "height width 3"]], ResultT],
        camera_size: tuple[int, int] | None = None,
    ) -> list[ResultT]:
        """Decode frames one by one and apply a function to each.

        Args:
            indices: The frames, in ascending order.
            function: Receives a frame's index and pixels.
            camera_size: Not used. Frames of a video are always upright.

        Returns:
            The results in order.
        """
        use_all = len(indices) == len(self.names)
        frames: Iterator = decode_video(self.path, None if use_all else indices)
        pairs = zip(indices, frames, strict=True)
        return [function(index, torch.from_numpy(frame.copy())) for index, frame in pairs]

    def digest(self) -> str:
        """Return the SHA-256 of the file."""
        return _hash([self.path])


class PictureSource(Source):
    """Picture files of one size.

    Args:
        files: The files in the order of the frames.
        title: Name of the runs on these files.

    Raises:
        ValueError: A file occurs more than once.
    """

    kind = "pictures"
    ordered = False

    def __init__(self, files: Sequence[Path], title: str) -> None:
        self.files = tuple(files)
        self.title = title
        names = [file.name for file in files]
        if len(set(names)) < len(names):
            names = [str(file) for file in files]
        if duplicates := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"image has the picture {duplicates[0]!r} more than once")
        self.names = tuple(names)

    def size(self) -> tuple[int, int]:
        """Return width and height of all pictures in pixels, upright."""
        return self.common_size(picture_size)

    def common_size(self, size_of: Callable[[Path], tuple[int, int]]) -> tuple[int, int]:
        """Return the size of all pictures.

        Args:
            size_of: Returns width and height of a picture file.

        Returns:
            Width and height in pixels.

        Raises:
            ValueError: Two files differ in size. The message names them.
        """
        size = size_of(self.files[0])
        for file in self.files[1:]:
            if (other := size_of(file)) != size:
                raise ValueError(
                    f"pictures of one scene have one size, but {self.files[0]} is {size[0]} x "
                    f"{size[1]} pixels and {file} is {other[0]} x {other[1]}"
                )
        return size

    def scores(self, indices: Sequence[int]) -> FrameScores:
        """Measure the sharpness of the pictures. Their motion is 0.

        Args:
            indices: The pictures, in ascending order.

        Returns:
            The scores of these pictures.
        """
        grey = parallel_map(lambda index: _load_grey(self.files[index]), indices)
        return score_frames(grey, ordered=False)

    def map(
        self,
        indices: Sequence[int],
        function: Callable[[int, UInt8[Tensor, "height width 3"]], ResultT],
        camera_size: tuple[int, int] | None = None,
    ) -> list[ResultT]:
        """Load pictures in several threads and apply a function to each.

        Args:
            indices: The pictures, in ascending order.
            function: Receives a picture's index and pixels.
            camera_size: Width and height of the cameras' pictures; see `Source.map`.

        Returns:
            The results in order.
        """

        def load(index: int) -> ResultT:
            file = self.files[index]
            upright = camera_size is None or needs_rotation(file, camera_size)
            return function(index, read_image(file, upright))

        return parallel_map(load, indices)

    def digest(self) -> str:
        """Return the SHA-256 of the bytes of all files."""
        return _hash(self.files)


def is_capture(image: ImageSource) -> bool:
    """Whether the setting `image` stands for several frames and not for one picture.

    A list of one picture and a GIF of one frame are pictures. The name of a built-in picture is a
    picture even if a folder of that name exists, for example the folder of its runs.

    Args:
        image: The setting `image`.

    Returns:
        True for a video, a folder of pictures, and a list of several pictures.
    """
    if not isinstance(image, str):
        return len(image) != 1 or is_capture(image[0])
    path = user_path(image)
    if path.is_dir():
        return image not in PHOTOS and image not in SCENES
    if not path.is_file() or path.suffix.lower() not in VIDEO_SUFFIXES:
        return False
    return path.suffix.lower() != ".gif" or _count_frames(path) > 1


def open_source(image: ImageSource) -> Source:
    """Open the files that the setting `image` names.

    Args:
        image: A video, a folder of pictures, or a list of pictures.

    Returns:
        The source of at least two frames.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: There are fewer than two frames, or the file is not a video.
    """
    if not isinstance(image, str):
        return _open_list(list(image))
    path = user_path(image)
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


def _open_list(images: list[str]) -> Source:
    """Open a list of picture files."""
    if len(images) == 1:
        return open_source(images[0])
    if not images:
        raise ValueError("image is an empty list; give two pictures or more")
    files = [user_path(image) for image in images]
    if missing := [file for file in files if not file.is_file()]:
        raise FileNotFoundError(
            f"image names {str(missing[0])!r}, which is no file; missing are {len(missing)} of "
            f"{len(files)} pictures"
        )
    if video := next((file for file in files if file.suffix.lower() in VIDEO_SUFFIXES), None):
        raise ValueError(f"image lists {str(video)!r}, a video; a list takes pictures only")
    return PictureSource(files, list_title(images))


def list_title(images: Sequence[str]) -> str:
    """Return the name of the runs on a list of pictures.

    Args:
        images: At least two names of files.

    Returns:
        The name of the first file without its suffix, and the number of the others.
    """
    return f"{user_path(images[0]).stem}-and-{len(images) - 1}-more"


def _count_frames(path: Path) -> int:
    """Count the frames of a GIF file up to 2."""
    try:
        with open_picture(path, str(path)) as image:
            return 2 if getattr(image, "is_animated", False) else 1
    except Exception:  # decoders raise many types; the picture reader reports the error
        return 1


def _load_grey(file: Path) -> UInt8[np.ndarray, "height width"]:
    """Load a picture as a small grey image."""
    with open_picture(file, str(file)) as image:
        image.draft("L", (_SCORE_SIDE, _SCORE_SIDE))
        check_pixels(image.size, str(file))
        try:
            small = image.convert("L")
            small.thumbnail((_SCORE_SIDE, _SCORE_SIDE))
            return np.array(small)
        except Exception as error:  # decoders raise many types for damaged data
            raise damage_error(str(file), error) from None


def _hash(files: Sequence[Path]) -> str:
    """Hash the bytes and names of files."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        digest.update(b"\0" + file.name.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
