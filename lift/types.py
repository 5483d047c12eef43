"""The values that stages hand to one another.

Conventions, everywhere in `lift`:
- OpenCV cameras: x right, y down, z forward; `world_to_camera` maps column vectors; the centre of pixel (row i, column j) lies at
  (j + 0.5, i + 0.5).
- `depth` is z along the optical axis, 0 where unknown; lengths are in the units of the scene.
- images are height x width x channel, uint8 at rest (a PNG then round-trips exactly) and float in [0, 1] in use.
- Gaussians hold physical, activated values: standard deviations, opacities in [0, 1], unit quaternions w x y z.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

ItemsT = TypeVar("ItemsT", bound="Items")

Hint = Literal["planned", "known", "sequence", "unordered"]
"""What the cameras of a trajectory are worth to the pose stage.

planned: the cameras that a generator was asked for; the frames follow them roughly.
known: measured cameras; they are used as they are.
sequence: placeholders, all equal to the input's camera; the frames follow one another in time.
unordered: placeholders, all equal to the input's camera; the frames come in no order.
"""


class Items:
    """A frozen dataclass whose tensors share their first axis, the item axis; what is not a tensor is shared by all items."""

    def tensors(self) -> dict[str, Tensor]:
        return {
            f.name: value
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }

    def map(self: ItemsT, function: Callable[[Tensor], Tensor]) -> ItemsT:
        return replace(self, **{name: function(value) for name, value in self.tensors().items()})

    def to(self: ItemsT, *args: Any, **kwargs: Any) -> ItemsT:
        """Moves every tensor; a dtype moves the floating ones only."""
        dtypes = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.dtype)]
        return self.map(
            lambda value: (
                value if dtypes and not value.is_floating_point() else value.to(*args, **kwargs)
            )
        )

    def __len__(self) -> int:
        return len(next(iter(self.tensors().values())))

    def __getitem__(self: ItemsT, index: int | slice | Sequence[int] | Tensor) -> ItemsT:
        """Always keeps the item axis: `cameras[3]` is a `Cameras` of one view."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"item {index} of {len(self)} {type(self).__name__}")
            index = [index]
        return self.map(lambda value: value[index])

    @classmethod
    def cat(cls: type[ItemsT], items: Sequence[ItemsT]) -> ItemsT:
        """Joins along the item axis; what is shared must agree."""
        first = items[0]
        names = set(first.tensors())
        for other in items[1:]:
            for f in fields(first):
                mine, theirs = getattr(first, f.name), getattr(other, f.name)
                if (f.name in names) != isinstance(theirs, Tensor) or (
                    f.name not in names and mine != theirs
                ):
                    raise ValueError(f"{cls.__name__}.{f.name} differs: {mine!r} and {theirs!r}")
        return replace(
            first, **{name: torch.cat([getattr(item, name) for item in items]) for name in names}
        )


@dataclass(frozen=True)
class Cameras(Items):
    """Pinhole cameras of one picture size (`width`, `height` in pixels)."""

    world_to_camera: Float[Tensor, "view 4 4"]
    intrinsics: Float[Tensor, "view 3 3"]
    width: int
    height: int

    @property
    def camera_to_world(self) -> Float[Tensor, "view 4 4"]:
        rotation = self.world_to_camera[:, :3, :3].mT
        moved = -rotation @ self.world_to_camera[:, :3, 3:]
        last = self.world_to_camera[:, 3:]
        return torch.cat([torch.cat([rotation, moved], dim=-1), last], dim=-2)

    @property
    def centers(self) -> Float[Tensor, "view 3"]:
        """Positions in the world."""
        return -(self.world_to_camera[:, :3, :3] * self.world_to_camera[:, :3, 3:]).sum(1)

    def resized(self, width: int, height: int) -> "Cameras":
        """The same cameras with pictures of another size."""
        factor = self.intrinsics.new_tensor([[width / self.width], [height / self.height], [1.0]])
        return replace(self, intrinsics=self.intrinsics * factor, width=width, height=height)


@dataclass(frozen=True)
class Frames(Items):
    """Pictures, with z-depth where their maker knows it (0 = unknown pixel; None = not known at all)."""

    images: UInt8[Tensor, "view height width 3"]
    depth: Float[Tensor, "view height width"] | None = None

    @property
    def rgb(self) -> Float[Tensor, "view height width 3"]:
        return self.images.float() / 255


@dataclass(frozen=True)
class Clip:
    """A continuous motion that starts at an earlier frame and adds one new frame a camera."""

    name: str
    source: int
    """Index of the frame it continues; that frame is not repeated in `cameras`."""
    cameras: Cameras


@dataclass(frozen=True)
class Trajectory:
    """A tree of clips. Frame 0 is the input; the clips' frames follow in order."""

    start: Cameras
    clips: tuple[Clip, ...]
    hint: Hint = "planned"

    def __post_init__(self) -> None:
        known = 1
        for clip in self.clips:
            if not 0 <= clip.source < known:
                raise ValueError(
                    f"clip {clip.name!r} continues frame {clip.source}, but only {known} frames come before it"
                )
            known += len(clip.cameras)

    @property
    def cameras(self) -> Cameras:
        """Every frame's camera, the input first."""
        return Cameras.cat([self.start, *(clip.cameras for clip in self.clips)])

    @property
    def parents(self) -> tuple[int | None, ...]:
        """The index of the clip that each clip continues; None for those that continue the input."""
        clip_of = [
            None,
            *(number for number, clip in enumerate(self.clips) for _ in range(len(clip.cameras))),
        ]
        return tuple(clip_of[clip.source] for clip in self.clips)

    @property
    def spans(self) -> tuple[range, ...]:
        """The frame indices of each clip."""
        spans, first = [], 1
        for clip in self.clips:
            spans.append(range(first, first + len(clip.cameras)))
            first += len(clip.cameras)
        return tuple(spans)


@dataclass(frozen=True)
class Depth:
    """z-depth of one picture. `kind` says what it is worth: `metric` in metres, `scale` up to a factor, `affine-invariant` if its
    inverse was known up to scale and shift only and something chose them.
    """

    depth: Float[Tensor, "height width"]
    valid: Bool[Tensor, "height width"]
    kind: Literal["metric", "scale", "affine-invariant"]

    @property
    def typical(self) -> float:
        """The scene's unit of length: the median depth of the valid pixels."""
        return float(self.depth[self.valid].median())


@dataclass(frozen=True)
class PointCloud(Items):
    points: Float[Tensor, "point 3"]
    colors: Float[Tensor, "point 3"]


@dataclass(frozen=True)
class Reconstruction:
    """Where the frames were taken and what they saw. Confidence is in [0, 1]; a frame whose confidence is 0 everywhere was not placed."""

    cameras: Cameras
    points: PointCloud
    depth: Float[Tensor, "view height width"]
    confidence: Float[Tensor, "view height width"]
    tracks: Float[Tensor, "view height width"] | None = None
    """z-depth of the triangulated points at the pixels where each frame shows them, 0 elsewhere; None
    where the estimator has no such points."""


@dataclass(frozen=True)
class Gaussians(Items):
    """Physical 3D Gaussians, shared by all views or, with a leading view axis, one set a view.

    `sh_coeffs` are real spherical harmonics of the colour minus 0.5, basis 1, 4, 9 or 16 (degree 0 to 3).
    """

    means: Float[Tensor, "*view gaussian 3"]
    quats: Float[Tensor, "*view gaussian 4"]
    scales: Float[Tensor, "*view gaussian 3"]
    opacities: Float[Tensor, "*view gaussian"]
    sh_coeffs: Float[Tensor, "*view gaussian basis 3"]

    @property
    def sh_degree(self) -> int:
        return round(self.sh_coeffs.shape[-2] ** 0.5) - 1


@dataclass(frozen=True)
class Render:
    """What a renderer makes: colour over the background, coverage in [0, 1], expected z-depth (0 where nothing was hit)."""

    rgb: Float[Tensor, "view height width 3"]
    alpha: Float[Tensor, "view height width"]
    depth: Float[Tensor, "view height width"]
    info: dict[str, Any] = field(default_factory=dict)
