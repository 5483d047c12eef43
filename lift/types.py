"""The values that the stages pass to one another.

Conventions in all of `lift`:

- Cameras follow OpenCV: x right, y down, z forward. `world_to_camera` maps column vectors. The
  centre of the pixel (row i, column j) is at (j + 0.5, i + 0.5).
- `depth` is z along the optical axis, and 0 where it is unknown. Lengths are in scene units.
- Images are height x width x channel: uint8 in storage (so a PNG is lossless), float in [0, 1] in
  computation.
- Gaussians hold activated values: standard deviations, opacities in [0, 1], unit quaternions w x y
  z.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

TensorDataclassT = TypeVar("TensorDataclassT", bound="TensorDataclass")
"""The type of a `TensorDataclass`, for methods that return their own class."""

Hint = Literal["planned", "requested", "known", "sequence", "unordered"]
"""How the pose stage may use the cameras of a trajectory.

planned: the cameras requested of a generator. The frames follow them approximately.
requested: in units of a generator that moves much less. The pose stage gets placeholders.
known: measured cameras. They are used unchanged.
sequence: placeholders, all equal to the input's camera. The frames are in temporal order.
unordered: placeholders, all equal to the input's camera. The frames have no order.
"""


class _ShortRepr:
    """A dataclass that is printed in one line: its tensors by dtype, shape and device."""

    def __repr__(self) -> str:
        """Return the name of the class and its fields."""
        names = [f.name for f in fields(self)]  # pyright: ignore[reportArgumentType]
        items = [f"{name}={_format_field(getattr(self, name))}" for name in names]
        return f"{type(self).__name__}({', '.join(items)})"


def _format_field(value: Any) -> str:
    """Format the value of a field: a tensor by dtype, shape and device."""
    if not isinstance(value, Tensor):
        return repr(value)
    device = "" if value.device.type == "cpu" else f" on {value.device}"
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}{device}"


@dataclass(frozen=True, repr=False)
class TensorDataclass(_ShortRepr):
    """A frozen dataclass whose tensors share their first axis, the item axis.

    Fields that are not tensors belong to all items.
    """

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensor fields by name."""
        return {
            f.name: value
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }

    def map(self: TensorDataclassT, function: Callable[[Tensor], Tensor]) -> TensorDataclassT:
        """Apply a function to every tensor.

        Args:
            function: Maps a tensor to a tensor with the same first axis.

        Returns:
            A copy with the new tensors.
        """
        return replace(self, **{name: function(value) for name, value in self.tensors().items()})

    def to(self: TensorDataclassT, *args: Any, **kwargs: Any) -> TensorDataclassT:
        """Move every tensor to a device or dtype. A dtype applies to floating-point tensors only.

        Args:
            *args: Positional arguments of `torch.Tensor.to`.
            **kwargs: Keyword arguments of `torch.Tensor.to`.

        Returns:
            A copy with the moved tensors.
        """
        dtypes = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.dtype)]
        return self.map(
            lambda value: (
                value if dtypes and not value.is_floating_point() else value.to(*args, **kwargs)
            )
        )

    def __len__(self) -> int:
        """Return the number of items."""
        return len(next(iter(self.tensors().values())))

    def __getitem__(
        self: TensorDataclassT, index: int | slice | Sequence[int] | Tensor
    ) -> TensorDataclassT:
        """Select items. The item axis stays: `cameras[3]` is a `Cameras` of one view.

        Args:
            index: An integer, a slice, a list of integers, or an index or mask tensor.

        Returns:
            The selected items.

        Raises:
            IndexError: If an integer is out of range.
        """
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"item {index} of {len(self)} {type(self).__name__}")
            start = index % len(self)
            # A list as an index would wait for a GPU.
            return self.map(lambda value: value[start : start + 1].clone())
        return self.map(lambda value: value[index])

    @classmethod
    def cat(cls: type[TensorDataclassT], items: Sequence[TensorDataclassT]) -> TensorDataclassT:
        """Concatenate along the item axis.

        Args:
            items: One or more values of this class. Fields that are not tensors must be equal.

        Returns:
            One value with all items.

        Raises:
            ValueError: If a field that is not a tensor differs.
        """
        reference = items[0]
        names = set(reference.tensors())
        for other in items[1:]:
            for f in fields(reference):
                expected = getattr(reference, f.name)
                value = getattr(other, f.name)
                if (f.name in names) != isinstance(value, Tensor) or (
                    f.name not in names and expected != value
                ):
                    raise ValueError(f"{cls.__name__}.{f.name} differs: {expected!r} and {value!r}")
        return replace(
            reference,
            **{name: torch.cat([getattr(item, name) for item in items]) for name in names},
        )


@dataclass(frozen=True, repr=False)
class Cameras(TensorDataclass):
    """Pinhole cameras of one picture size."""

    world_to_camera: Float[Tensor, "view 4 4"]
    """Rigid transforms from world to camera coordinates."""
    intrinsics: Float[Tensor, "view 3 3"]
    """Calibration matrices, in pixels."""
    width: int
    """Picture width in pixels."""
    height: int
    """Picture height in pixels."""

    @property
    def camera_to_world(self) -> Float[Tensor, "view 4 4"]:
        """Rigid transforms from camera to world coordinates."""
        rotation = self.world_to_camera[:, :3, :3].mT
        translation = -rotation @ self.world_to_camera[:, :3, 3:]
        last_row = self.world_to_camera[:, 3:]
        return torch.cat([torch.cat([rotation, translation], dim=-1), last_row], dim=-2)

    @property
    def centers(self) -> Float[Tensor, "view 3"]:
        """Camera centres in the world."""
        return -(self.world_to_camera[:, :3, :3] * self.world_to_camera[:, :3, 3:]).sum(1)

    def resized(self, width: int, height: int) -> "Cameras":
        """Return the same cameras for pictures of another size.

        Args:
            width: New picture width in pixels.
            height: New picture height in pixels.

        Returns:
            Cameras with scaled intrinsics.
        """
        factor = self.intrinsics.new_tensor([[width / self.width], [height / self.height], [1.0]])
        return replace(self, intrinsics=self.intrinsics * factor, width=width, height=height)


@dataclass(frozen=True, repr=False)
class Frames(TensorDataclass):
    """Pictures, optionally with z-depth."""

    images: UInt8[Tensor, "view height width 3"]
    """Colours, 0 to 255."""
    depth: Float[Tensor, "view height width"] | None = None
    """z-depth in scene units. 0 marks an unknown pixel. None: no depth at all."""

    @property
    def rgb(self) -> Float[Tensor, "view height width 3"]:
        """Colours in [0, 1]."""
        return self.images.float() / 255


class TrajectoryError(ValueError):
    """A clip continues a frame that does not come before it."""


@dataclass(frozen=True)
class Clip:
    """A continuous motion that starts at an earlier frame and adds one new frame per camera."""

    name: str
    """The path in the tree of clips, for example `right/up`."""
    source: int
    """Index of the frame that the clip continues. That frame is not repeated in `cameras`."""
    cameras: Cameras
    """The cameras of the new frames."""


@dataclass(frozen=True)
class Trajectory:
    """A tree of clips. Frame 0 is the input. The frames of the clips follow in order."""

    start: Cameras
    """The input camera, one view."""
    clips: tuple[Clip, ...]
    """The clips. A clip continues the input or a frame of an earlier clip."""
    hint: Hint = "planned"
    """How the pose stage may use the cameras."""

    def without_cameras(self) -> "Trajectory":
        """Return the tree of clips with placeholders: each camera equals the input's."""

        def repeated(count: int) -> Cameras:
            return self.start[torch.zeros(count, dtype=torch.long)]

        clips = (Clip(clip.name, clip.source, repeated(len(clip.cameras))) for clip in self.clips)
        return Trajectory(self.start, tuple(clips), self.hint)

    def __post_init__(self) -> None:
        """Check that every clip continues an earlier frame.

        Raises:
            TrajectoryError: A clip continues another frame.
        """
        count = 1
        for clip in self.clips:
            if not 0 <= clip.source < count:
                before = "frame 0 comes" if count == 1 else f"frames 0 to {count - 1} come"
                raise TrajectoryError(
                    f"clip {clip.name!r} continues frame {clip.source}, but only {before} before it"
                )
            count += len(clip.cameras)

    @property
    def cameras(self) -> Cameras:
        """The cameras of all frames, the input first."""
        return Cameras.cat([self.start, *(clip.cameras for clip in self.clips)])

    @property
    def parents(self) -> tuple[int | None, ...]:
        """The index of each clip's parent clip. None for a clip that continues the input."""
        clip_of = [
            None,
            *(number for number, clip in enumerate(self.clips) for _ in range(len(clip.cameras))),
        ]
        return tuple(clip_of[clip.source] for clip in self.clips)

    @property
    def spans(self) -> tuple[range, ...]:
        """The frame indices of each clip."""
        spans = []
        start = 1
        for clip in self.clips:
            spans.append(range(start, start + len(clip.cameras)))
            start += len(clip.cameras)
        return tuple(spans)


@dataclass(frozen=True, repr=False)
class Depth(_ShortRepr):
    """z-depth of one picture."""

    depth: Float[Tensor, "height width"]
    """z-depth in metres or scene units, depending on `kind`."""
    valid: Bool[Tensor, "height width"]
    """Which pixels have a depth."""
    kind: Literal["metric", "scale", "affine-invariant"]
    """What the values mean.

    `metric`: in metres. `scale`: known up to a factor. `affine-invariant`: the inverse is known up
    to scale and shift, and the estimator chose both.
    """

    @cached_property
    def typical(self) -> float:
        """The scene's unit of length: the median depth of the valid pixels."""
        return float(self.depth[self.valid].median())


@dataclass(frozen=True, repr=False)
class PointCloud(TensorDataclass):
    """Coloured points in the world."""

    points: Float[Tensor, "point 3"]
    """Positions in scene units."""
    colors: Float[Tensor, "point 3"]
    """Colours in [0, 1]."""


@dataclass(frozen=True, repr=False)
class Reconstruction(_ShortRepr):
    """Cameras, depth and points estimated from the frames."""

    cameras: Cameras
    """The estimated cameras of all frames."""
    points: PointCloud
    """The coloured point cloud."""
    depth: Float[Tensor, "view height width"]
    """z-depth of every frame in scene units, 0 where unknown."""
    confidence: Float[Tensor, "view height width"]
    """Confidence of the depth in [0, 1]. A frame with confidence 0 everywhere is not registered."""
    tracks: Float[Tensor, "view height width"] | None = None
    """z-depth of the triangulated points at the pixels where each frame shows them, 0 elsewhere.

    None if the estimator has no such points.
    """

    @cached_property
    def registered(self) -> Bool[Tensor, "view"]:
        """Which frames are registered: those with confidence above 0 somewhere."""
        return self.confidence.flatten(1).amax(1) > 0


@dataclass(frozen=True, repr=False)
class Gaussians(TensorDataclass):
    """3D Gaussians with activated values, shared by all views or one set per view."""

    means: Float[Tensor, "*view gaussian 3"]
    """Centres in scene units."""
    quats: Float[Tensor, "*view gaussian 4"]
    """Unit quaternions w x y z."""
    scales: Float[Tensor, "*view gaussian 3"]
    """Standard deviations along the axes, in scene units."""
    opacities: Float[Tensor, "*view gaussian"]
    """Opacities in [0, 1]."""
    sh_coeffs: Float[Tensor, "*view gaussian basis 3"]
    """Real spherical harmonics of the colour minus 0.5.

    The basis has 1, 4, 9 or 16 functions (degree 0 to 3).
    """

    @property
    def sh_degree(self) -> int:
        """Degree of the spherical harmonics, 0 to 3."""
        return round(self.sh_coeffs.shape[-2] ** 0.5) - 1


@dataclass(frozen=True, repr=False)
class Render(_ShortRepr):
    """The output of a renderer."""

    rgb: Float[Tensor, "view height width 3"]
    """Colour over the background."""
    alpha: Float[Tensor, "view height width"]
    """Coverage in [0, 1]."""
    depth: Float[Tensor, "view height width"]
    """Expected z-depth in scene units, 0 where no Gaussian is hit."""
    info: dict[str, Any] = field(default_factory=dict)
    """Further outputs of the renderer, by name."""
