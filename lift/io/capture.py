"""Load a video, a folder or a few photographs as the frames of one scene."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from lift.geometry import pinhole
from lift.io.image import Picture, assumed_focal, read_picture, working_size
from lift.io.known import KnownCameras, read_known_cameras
from lift.io.selection import choose_frames
from lift.io.sizing import FRAMES_SIZE
from lift.io.sources import ImageSource, PictureSource, Source, open_source
from lift.runtime.parallel import parallel_map
from lift.types import Cameras, Clip, Frames, Hint, Trajectory

Centrality = Callable[[UInt8[Tensor, "view height width 3"]], Float[Tensor, "view"]]
"""Computes how central each picture of a set is, -1 for pictures that are not compared."""

SAME_FOCAL = 0.01
"""Relative difference up to which the focal lengths of a set's pictures count as equal."""


@dataclass(frozen=True)
class CaptureSettings:
    """Settings of a run that select and prepare the frames of a capture."""

    size: int
    """`preprocess.size`: largest length of the longer side in pixels."""
    field_of_view: float
    """`preprocess.field_of_view`: degrees along the longer side, if no focal length is known."""
    max_count: int = 60
    """`frames.max_count`: largest number of frames."""
    start: int = 0
    """`frames.start`: index of the first frame in the source."""
    stride: int = 1
    """`frames.stride`: step between frames in the source."""
    ordered: bool | None = None
    """`frames.ordered`: whether frames follow one another in time. None means only for a video."""
    cameras: str | None = None
    """`cameras`: file or folder with the cameras of the frames."""
    input: str | None = None
    """`input`: name or index of the frame that becomes the input view."""
    test_every: int = 0
    """`fit.test_every`: N, where every N-th picture is held out. 0 holds out none."""

    @classmethod
    def from_config(cls, config: DictConfig) -> "CaptureSettings":
        """Read the settings from a run's configuration.

        Args:
            config: The configuration of a run.

        Returns:
            The settings.
        """
        frames = config.frames
        return cls(
            config.preprocess.size or FRAMES_SIZE,
            config.preprocess.field_of_view,
            frames.max_count,
            frames.start,
            frames.stride,
            frames.ordered,
            config.cameras,
            config.input,
            config.fit.test_every,
        )


@dataclass(frozen=True)
class Capture:
    """Frames of one scene that a camera recorded. The input view comes first."""

    picture: Picture
    """The input view, with its camera at the world's origin."""
    frames: Frames
    """The pictures of all frames, the input view first."""
    trajectory: Trajectory
    """Cameras of the frames, in their order. The hint is known, sequence or unordered."""
    names: tuple[str, ...]
    """Name of each frame in the source, such as `a.jpg` or `clip.mp4#17`."""
    source_index: tuple[int, ...]
    """Index of each frame in the source's order."""
    ordered: bool
    """Whether the frames follow one another in time."""
    kind: str
    """Either "video" or "pictures"."""
    digest: str
    """SHA-256 of the source's bytes, of its cameras and of the settings that select frames."""

    def held_out(self, test_every: int) -> tuple[int, ...] | None:
        """Select the test frames, which are not trained on, as evaluations on LLFF do.

        Args:
            test_every: N of the setting `fit.test_every`. Frames 0, N, 2N, ... of the used frames
                are test frames, in the source's order.

        Returns:
            Indices into `frames`, without the input. None for an ordered capture: its frames are
            split as generated frames are. If there are fewer than N pictures, the result is empty.
        """
        if self.ordered:
            return None
        order = sorted(range(len(self.names)), key=lambda frame: self.source_index[frame])
        test_ranks = _test_positions(len(order), test_every)
        return tuple(sorted(order[rank] for rank in test_ranks if order[rank] != 0))


def load_capture(image: ImageSource, settings: CaptureSettings, centrality: Centrality) -> Capture:
    """Load the frames of a video, a folder or a list of pictures.

    Args:
        image: The setting `image`.
        settings: Which frames to use, at what size, with which cameras.
        centrality: Computes how central the pictures of an unordered set without cameras are.

    Returns:
        The capture.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: A file or a setting is invalid. The message names it.
    """
    source = open_source(image)
    ordered = source.ordered if settings.ordered is None else settings.ordered
    candidates = list(range(len(source.names)))[settings.start :: settings.stride]
    if len(candidates) < 2:
        raise ValueError(
            f"frames.start={settings.start} and frames.stride={settings.stride} leave "
            f"{len(candidates)} of {len(source.names)} frames; a scene needs two"
        )
    input_index = None if settings.input is None else _find_input(source, settings, candidates)
    known_cameras = (
        read_known_cameras(settings.cameras, source) if settings.cameras is not None else None
    )
    required = [input_index] if input_index is not None else [candidates[0]] if ordered else []
    indices = candidates
    if len(candidates) > settings.max_count:
        scores = source.scores(candidates)
        positions = choose_frames(
            scores, settings.max_count, [candidates.index(index) for index in required]
        )
        indices = [candidates[position] for position in positions]
    if known_cameras:
        frames = _load_with_cameras(source, indices, known_cameras, settings)
    else:
        frames = _load_frames(source, indices, settings)
    if required:
        start = indices.index(required[0])
    else:
        start = _find_central(frames, known_cameras is not None, centrality, settings.test_every)
    return _build_capture(source, indices, frames, start, ordered, known_cameras, settings)


@dataclass(frozen=True)
class _LoadedFrames:
    """The selected frames in the source's order."""

    images: UInt8[Tensor, "view height width 3"]
    cameras: Cameras
    """Poses are in the world of the camera file. Without a camera file they are the identity."""
    focal_known: bool
    notes: tuple[str, ...]


def _load_frames(
    source: Source, indices: Sequence[int], settings: CaptureSettings
) -> _LoadedFrames:
    """Load frames without cameras."""
    if isinstance(source, PictureSource):
        return _load_pictures(source, indices, settings)
    notes: list[str] = []
    full_size = source.size()
    width, height, crop = working_size(*full_size, settings.size, notes)
    focal = assumed_focal(*full_size, settings.field_of_view, notes) * width / (crop[2] - crop[0])

    def resize(index: int, image: UInt8[Tensor, "y x 3"]) -> UInt8[Tensor, "height width 3"]:
        if tuple(image.shape[1::-1]) != full_size:
            name = source.names[index]
            raise ValueError(f"{name} is not {full_size[0]} x {full_size[1]} pixels, as frame 0 is")
        picture = Image.fromarray(image.numpy())
        resized = picture.resize((width, height), Image.Resampling.LANCZOS, box=crop)
        return torch.from_numpy(np.array(resized))

    images = torch.stack(source.map(indices, resize))
    cameras = _repeat_camera(pinhole(width, height, focal), len(indices))
    return _LoadedFrames(images, cameras, False, tuple(notes))


def _load_pictures(
    source: PictureSource, indices: Sequence[int], settings: CaptureSettings
) -> _LoadedFrames:
    """Load picture files without cameras. EXIF may state the focal length."""
    source.size()  # refuses several sizes before anything is decoded
    pictures = parallel_map(
        lambda index: read_picture(source.files[index], settings.size, settings.field_of_view),
        indices,
    )
    cameras = Cameras.cat([picture.cameras for picture in pictures])
    focal = cameras.intrinsics[:, 0, 0]
    has_focal = torch.tensor([picture.focal_known for picture in pictures])
    notes = list(dict.fromkeys(note for picture in pictures for note in picture.notes))
    focal_known = bool(has_focal.all()) and float(focal.max() / focal.min()) <= 1 + SAME_FOCAL
    if has_focal.any() and not focal_known:
        median_focal = float(focal[has_focal].median())
        intrinsics = cameras.intrinsics.clone()
        intrinsics[:, [0, 1], [0, 1]] = median_focal
        cameras = replace(cameras, intrinsics=intrinsics)
        partly = f"are in {int(has_focal.sum())} of {len(pictures)} files"
        difference = "differ" if has_focal.all() else partly
        notes = [note for note in notes if "focal length" not in note]
        notes.append(
            f"focal lengths in EXIF {difference}; their median is where the cameras start from"
        )
    elif focal_known:
        notes = [note for note in notes if "focal length" not in note]
        notes.append("focal length from EXIF, the same in all pictures")
    images = torch.cat([picture.frames.images for picture in pictures])
    return _LoadedFrames(images, cameras, focal_known, tuple(notes))


def _load_with_cameras(
    source: Source, indices: Sequence[int], known_cameras: KnownCameras, settings: CaptureSettings
) -> _LoadedFrames:
    """Load frames with cameras, resampled as pinhole cameras at the same poses."""
    notes: list[str] = []
    width, height = known_cameras.target_size(settings.size, notes)
    pairs = source.map(
        indices,
        lambda index, image: known_cameras.undistort(index, image, (width, height)),
        known_cameras.camera_size,
    )
    images = torch.stack([image for image, _ in pairs])
    if known_cameras.has_lens:
        notes.append("lens distortion undone")
    return _LoadedFrames(images, Cameras.cat([camera for _, camera in pairs]), True, tuple(notes))


def _find_central(
    frames: _LoadedFrames, has_cameras: bool, centrality: Centrality, test_every: int
) -> int:
    """Find the most central frame that is not held out."""
    from lift.io.central import camera_centrality

    scores = camera_centrality(frames.cameras) if has_cameras else centrality(frames.images)
    scores = scores.clone()
    scores[list(_test_positions(len(scores), test_every))] = -torch.inf
    return int(scores.argmax())


def _test_positions(count: int, test_every: int) -> range:
    """Return the positions that are held out among `count` pictures."""
    return range(0, count, test_every) if 0 < test_every <= count else range(0)


def _build_capture(
    source: Source,
    indices: Sequence[int],
    frames: _LoadedFrames,
    start: int,
    ordered: bool,
    known_cameras: KnownCameras | None,
    settings: CaptureSettings,
) -> Capture:
    """Put the input first and its camera at the origin."""
    after = list(range(start + 1, len(indices)))
    before = list(range(start))
    if ordered:
        parts = {"forward": after, "backward": before[::-1]}
    else:
        parts = {source.kind: before + after}
    order = [start, *(frame for part in parts.values() for frame in part)]
    if known_cameras:
        cameras = _relative_to(frames.cameras, start)
    else:
        cameras = _repeat_camera(frames.cameras[start], len(indices))
    clips = []
    for name, part in parts.items():
        if part:
            clips.append(Clip(name, 0, cameras[part]))
    hint: Hint = "known" if known_cameras else "sequence" if ordered else "unordered"
    images = frames.images[order]
    pixel_digest = hashlib.sha256(images[0].numpy().tobytes()).hexdigest()
    settings_text = repr(
        (known_cameras.digest if known_cameras else None, settings, indices[start], ordered)
    )
    notes = (*source.notes, *frames.notes)
    picture = Picture(
        source.title, Frames(images[:1]), cameras[start], pixel_digest, notes, frames.focal_known
    )
    return Capture(
        picture=picture,
        frames=Frames(images),
        trajectory=Trajectory(cameras[start], tuple(clips), hint),
        names=tuple(source.names[indices[frame]] for frame in order),
        source_index=tuple(indices[frame] for frame in order),
        ordered=ordered,
        kind=source.kind,
        digest=hashlib.sha256((source.digest() + settings_text).encode()).hexdigest(),
    )


def _relative_to(cameras: Cameras, start: int) -> Cameras:
    """Move the origin of the world to camera `start`. Lengths do not change."""
    matrices = cameras.world_to_camera.double()
    relative = matrices @ torch.linalg.inv(matrices[start])
    relative[start] = torch.eye(4, dtype=relative.dtype)
    return replace(cameras, world_to_camera=relative.to(cameras.world_to_camera))


def _repeat_camera(camera: Cameras, count: int) -> Cameras:
    """Repeat a camera of one view."""
    return camera.map(lambda value: value[:1].repeat(count, 1, 1))


def sequence_trajectory(camera: Cameras, count: int) -> Trajectory:
    """Build a trajectory for frames that follow the input in time, with unknown cameras.

    Args:
        camera: The input's camera, one view.
        count: Number of frames without the input.

    Returns:
        A trajectory of one clip. Its cameras are placeholders, equal to the input's camera.
    """
    clip = Clip("frames", 0, _repeat_camera(camera, count))
    return Trajectory(camera, (clip,), "sequence")


def _find_input(source: Source, settings: CaptureSettings, candidates: Sequence[int]) -> int:
    """Find the index of the frame that the setting `input` names."""
    name = str(settings.input)
    names = list(source.names)
    base_names = [Path(name).name for name in names]
    if name in names:
        index = names.index(name)
    elif base_names.count(name) == 1:
        index = base_names.index(name)
    elif name.isdecimal() and int(name) < len(names):
        index = int(name)
    else:
        raise ValueError(
            f"input is {name!r}; choose a frame's name, such as {names[0]!r}, or its index "
            f"from 0 to {len(names) - 1}"
        )
    if index not in candidates:
        raise ValueError(
            f"input is {name!r}, frame {index}, which frames.start={settings.start} and "
            f"frames.stride={settings.stride} leave out"
        )
    return index
