"""A video, a folder or a few photographs as the frames of one scene, with or without cameras."""

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
from lift.io.known import KnownCameras, read_known
from lift.io.selection import choose_frames
from lift.io.sources import ImageSource, PictureSource, Source, open_source
from lift.runtime.parallel import each
from lift.types import Cameras, Clip, Frames, Hint, Trajectory

Centrality = Callable[[UInt8[Tensor, "view height width 3"]], Float[Tensor, "view"]]
"""Tells how central each picture of a set is; -1 for those that are not compared."""

SAME_FOCAL = 0.01
"""Relative difference up to which the focal lengths of a set's pictures count as one."""


@dataclass(frozen=True)
class CaptureSettings:
    """The settings of a run that say what a capture is made of."""

    size: int
    """`intake.size`: pixels of the longer side, at most."""
    field_of_view: float
    """`intake.field_of_view`: degrees of the longer side, if no focal length is known."""
    most: int = 60
    """`frames.most`: number of frames, at most."""
    first: int = 0
    """`frames.first`: index of the first frame in the source."""
    stride: int = 1
    """`frames.stride`: step between frames in the source."""
    ordered: bool | None = None
    """`frames.ordered`: whether frames follow one another in time; None: a video's do."""
    cameras: str | None = None
    """`cameras`: a file or folder with the frames' cameras."""
    input: str | None = None
    """`input`: name or index of the input view's frame."""
    held_out: int = 0
    """`fit.held_out`: N, where every N-th picture is held out."""

    @classmethod
    def of(cls, config: DictConfig) -> "CaptureSettings":
        """Take the settings out of a run's configuration."""
        frames = config.frames
        return cls(
            config.intake.size,
            config.intake.field_of_view,
            frames.most,
            frames.first,
            frames.stride,
            frames.ordered,
            config.cameras,
            config.input,
            config.fit.held_out,
        )


@dataclass(frozen=True)
class Capture:
    """Frames of one scene that were taken, not generated; the input view comes first."""

    picture: Picture
    """The input view, with its camera at the world's origin."""
    frames: Frames
    trajectory: Trajectory
    """Cameras of the frames one by one. Its hint is known, sequence or unordered."""
    names: tuple[str, ...]
    """What each frame is called in the source, such as `a.jpg` or `clip.mp4#17`."""
    source_index: tuple[int, ...]
    """Index of each frame in the source's order."""
    ordered: bool
    """Whether the frames follow one another in time."""
    kind: str
    """video or pictures."""
    digest: str
    """SHA-256 of the source's bytes, of its cameras and of the settings that choose frames."""

    def held_out(self, every: int) -> tuple[int, ...] | None:
        """Choose the frames that are never trained on, as evaluations on LLFF do.

        Args:
            every: Hold out the frames 0, N, 2N, ... of those used, in the source's order.

        Returns:
            Indices into `frames`, without the input; None for an ordered capture, whose frames
            are split as generated ones are. Fewer than N pictures are all trained on.
        """
        if self.ordered:
            return None
        order = sorted(range(len(self.names)), key=lambda frame: self.source_index[frame])
        held = _held_out(len(order), every)
        return tuple(sorted(order[rank] for rank in held if order[rank] != 0))


def load_capture(image: ImageSource, settings: CaptureSettings, centrality: Centrality) -> Capture:
    """Load the frames of a video, a folder or a list of pictures.

    Args:
        image: The setting `image`.
        settings: Which frames, at what size, with which cameras.
        centrality: Compares the pictures of an unordered set without cameras.

    Returns:
        The capture.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A file or a setting is wrong; the message names it.
    """
    source = open_source(image)
    ordered = source.ordered if settings.ordered is None else settings.ordered
    usable = list(range(len(source.names)))[settings.first :: settings.stride]
    if len(usable) < 2:
        raise ValueError(
            f"frames.first={settings.first} and frames.stride={settings.stride} leave "
            f"{len(usable)} of {len(source.names)} frames; a scene needs two"
        )
    given = None if settings.input is None else _named(source, settings, usable)
    known = read_known(settings.cameras, source) if settings.cameras is not None else None
    kept = [given] if given is not None else [usable[0]] if ordered else []
    chosen = usable
    if len(usable) > settings.most:
        scores = source.scores(usable)
        picks = choose_frames(scores, settings.most, [usable.index(index) for index in kept])
        chosen = [usable[pick] for pick in picks]
    if known:
        shots = _known_shots(source, chosen, known, settings)
    else:
        shots = _shots(source, chosen, settings)
    if kept:
        start = chosen.index(kept[0])
    else:
        start = _most_central(shots, known is not None, centrality, settings.held_out)
    return _arranged(source, chosen, shots, start, ordered, known, settings)


@dataclass(frozen=True)
class _Shots:
    """The chosen frames in the source's order."""

    images: UInt8[Tensor, "view height width 3"]
    cameras: Cameras
    """In the world of the camera file; without one, at the origin."""
    focal_known: bool
    notes: tuple[str, ...]


def _shots(source: Source, chosen: Sequence[int], settings: CaptureSettings) -> _Shots:
    """Frames without cameras."""
    if isinstance(source, PictureSource):
        return _pictures(source, chosen, settings)
    notes: list[str] = []
    full = source.size()
    width, height, box = working_size(*full, settings.size, notes)
    focal = assumed_focal(*full, settings.field_of_view, notes) * width / (box[2] - box[0])

    def fitted(index: int, image: UInt8[Tensor, "y x 3"]) -> UInt8[Tensor, "height width 3"]:
        if tuple(image.shape[1::-1]) != full:
            name = source.names[index]
            raise ValueError(f"{name} is not {full[0]} x {full[1]} pixels, as frame 0 is")
        picture = Image.fromarray(image.numpy())
        small = picture.resize((width, height), Image.Resampling.LANCZOS, box=box)
        return torch.from_numpy(np.array(small))

    images = torch.stack(source.map(chosen, fitted))
    cameras = _repeated(pinhole(width, height, focal), len(chosen))
    return _Shots(images, cameras, False, tuple(notes))


def _pictures(source: PictureSource, chosen: Sequence[int], settings: CaptureSettings) -> _Shots:
    """Picture files without cameras; EXIF may tell the focal length."""
    source.size()  # refuses several sizes before anything is decoded
    loaded = each(
        lambda index: read_picture(source.files[index], settings.size, settings.field_of_view),
        chosen,
    )
    cameras = Cameras.cat([picture.cameras for picture in loaded])
    focal = cameras.intrinsics[:, 0, 0]
    measured = torch.tensor([picture.focal_known for picture in loaded])
    notes = list(dict.fromkeys(note for picture in loaded for note in picture.notes))
    known = bool(measured.all()) and float(focal.max() / focal.min()) <= 1 + SAME_FOCAL
    if measured.any() and not known:
        shared = float(focal[measured].median())
        intrinsics = cameras.intrinsics.clone()
        intrinsics[:, [0, 1], [0, 1]] = shared
        cameras = replace(cameras, intrinsics=intrinsics)
        stating = f"are in {int(measured.sum())} of {len(loaded)} files"
        about = "differ" if measured.all() else stating
        notes = [note for note in notes if "focal length" not in note]
        notes.append(f"focal lengths in EXIF {about}; their median is where the cameras start from")
    elif known:
        notes = [note for note in notes if "focal length" not in note]
        notes.append("focal length from EXIF, the same in all pictures")
    images = torch.cat([picture.frames.images for picture in loaded])
    return _Shots(images, cameras, known, tuple(notes))


def _known_shots(
    source: Source, chosen: Sequence[int], known: KnownCameras, settings: CaptureSettings
) -> _Shots:
    """Frames with cameras: what pinhole cameras at the same poses would have taken."""
    notes: list[str] = []
    width, height = known.target_size(settings.size, notes)
    pairs = source.map(
        chosen,
        lambda index, image: known.undistorted(index, image, (width, height)),
        known.camera_size,
    )
    images = torch.stack([image for image, _ in pairs])
    if known.has_lens:
        notes.append("lens distortion undone")
    return _Shots(images, Cameras.cat([camera for _, camera in pairs]), True, tuple(notes))


def _most_central(shots: _Shots, known: bool, centrality: Centrality, every: int) -> int:
    """The most central frame that is not held out."""
    from lift.io.central import camera_centrality

    central = camera_centrality(shots.cameras) if known else centrality(shots.images)
    central = central.clone()
    central[list(_held_out(len(central), every))] = -torch.inf
    return int(central.argmax())


def _held_out(count: int, every: int) -> range:
    """Which of `count` pictures are held out."""
    return range(0, count, every) if 0 < every <= count else range(0)


def _arranged(
    source: Source,
    chosen: Sequence[int],
    shots: _Shots,
    start: int,
    ordered: bool,
    known: KnownCameras | None,
    settings: CaptureSettings,
) -> Capture:
    """Put the input first, and its camera at the origin."""
    after = list(range(start + 1, len(chosen)))
    before = list(range(start))
    if ordered:
        parts = {"forward": after, "backward": before[::-1]}
    else:
        parts = {source.kind: before + after}
    order = [start, *(frame for part in parts.values() for frame in part)]
    if known:
        cameras = _seen_from(shots.cameras, start)
    else:
        cameras = _repeated(shots.cameras[start], len(chosen))
    clips = []
    for name, part in parts.items():
        if part:
            clips.append(Clip(name, 0, cameras[part]))
    hint: Hint = "known" if known else "sequence" if ordered else "unordered"
    images = shots.images[order]
    pixels = hashlib.sha256(images[0].numpy().tobytes()).hexdigest()
    told = repr((known.digest if known else None, settings, chosen[start], ordered))
    notes = (*source.notes, *shots.notes)
    picture = Picture(
        source.title, Frames(images[:1]), cameras[start], pixels, notes, shots.focal_known
    )
    return Capture(
        picture=picture,
        frames=Frames(images),
        trajectory=Trajectory(cameras[start], tuple(clips), hint),
        names=tuple(source.names[chosen[frame]] for frame in order),
        source_index=tuple(chosen[frame] for frame in order),
        ordered=ordered,
        kind=source.kind,
        digest=hashlib.sha256((source.digest() + told).encode()).hexdigest(),
    )


def _seen_from(cameras: Cameras, start: int) -> Cameras:
    """The same cameras in a world whose origin is the camera `start`; lengths are kept."""
    matrices = cameras.world_to_camera.double()
    moved = matrices @ torch.linalg.inv(matrices[start])
    moved[start] = torch.eye(4, dtype=moved.dtype)
    return replace(cameras, world_to_camera=moved.to(cameras.world_to_camera))


def _repeated(camera: Cameras, count: int) -> Cameras:
    return camera.map(lambda value: value[:1].repeat(count, 1, 1))


def sequence(camera: Cameras, count: int) -> Trajectory:
    """Plan nothing: `count` frames that follow the input in time, from unknown cameras.

    Args:
        camera: The input's camera, one view.
        count: Number of frames, without the input.

    Returns:
        One clip whose cameras are placeholders, equal to the input's.
    """
    clip = Clip("frames", 0, _repeated(camera, count))
    return Trajectory(camera, (clip,), "sequence")


def _named(source: Source, settings: CaptureSettings, usable: Sequence[int]) -> int:
    """The index of the frame that `input` names."""
    wanted = str(settings.input)
    names = list(source.names)
    short = [Path(name).name for name in names]
    if wanted in names:
        index = names.index(wanted)
    elif short.count(wanted) == 1:
        index = short.index(wanted)
    elif wanted.isdecimal() and int(wanted) < len(names):
        index = int(wanted)
    else:
        raise ValueError(
            f"input is {wanted!r}; choose a frame's name, such as {names[0]!r}, or its index "
            f"from 0 to {len(names) - 1}"
        )
    if index not in usable:
        raise ValueError(
            f"input is {wanted!r}, frame {index}, which frames.first={settings.first} and "
            f"frames.stride={settings.stride} leave out"
        )
    return index
