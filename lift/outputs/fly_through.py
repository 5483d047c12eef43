"""A fly-through that stays where frames saw the scene.

The path is a kernel average of the cameras that were really found, not of those that were planned.
Every pose on it is a mean of poses of neighbouring frames: neighbours in time for a video,
neighbours in pose for anything else. If parts of the path still show what no frame saw, the motion
is shrunk towards the input view.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lift.geometry import quat_to_rotation, rigid, rotation_from_vector, rotation_to_quat
from lift.types import Cameras, Trajectory

REQUIRED_COVERAGE = 0.92
"""Smallest coverage along the path, as a share of the input view's own."""

MEASURED_VIEWS = 16
"""Views along the path whose coverage is measured, about."""

BISECTIONS = 5
"""Steps of the search for the factor on the motion, after the first measurement at full motion."""

LINE = 0.25
"""Spread of poses in their second principal direction, as a share of the first, below which the
motion is one-dimensional."""

OFF_CENTER = 0.5
"""Distance of the input from the middle of the poses, as a share of their extent, above which the
loop is an ellipse about that middle. Below, it is a figure of eight about the input."""

STILL = 1e-6
"""Spread of poses below which nothing moves; displacements over typical depth and angles in
radians."""

Measure = Callable[[Cameras], Float[Tensor, "view"]]


@dataclass(frozen=True)
class FlyThrough:
    """A closed path and what is known of it."""

    cameras: Cameras
    scale: float
    """Factor in [0, 1] by which the motion was shrunk to keep its views covered; 1 means not at
    all."""
    coverage: Float[Tensor, "view"]
    """Coverage of evenly spaced views along the path."""


def make_fly_through(
    cameras: Cameras,
    times: Sequence[int | float] | None,
    typical: float,
    count: int,
    measure: Measure,
) -> FlyThrough:
    """Plan a closed loop that starts at the input view, and shrink it until its views are covered.

    Args:
        cameras: Cameras of the frames that were found, the input first.
        times: When each of them was taken, in frames; None if they do not follow one another.
        typical: The scene's typical depth, its unit of length.
        count: Number of views of the path, at least 1.
        measure: Coverage of cameras in [0, 1] (`lift.outputs.coverage`).

    Returns:
        The path. Its cameras have the input's intrinsics.
    """
    path = _Path(cameras, times, typical, count)
    required = REQUIRED_COVERAGE * float(measure(cameras[:1])[0])
    step = max(1, count // MEASURED_VIEWS)

    def attempt(scale: float) -> FlyThrough:
        views = path.at(scale)
        return FlyThrough(views, scale, measure(views[::step]))

    def covered(candidate: FlyThrough) -> bool:
        return float(candidate.coverage.min()) >= required

    if covered(whole := attempt(1.0)):
        return whole
    best = None
    low = 0.0
    high = 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if covered(candidate := attempt(middle)):
            best = candidate
            low = middle
        else:
            high = middle
    return best or attempt(0.0)


def frame_times(trajectory: Trajectory) -> list[float] | None:
    """Say when each frame was taken, if the frames follow one another in time.

    A video may start before the input: of two clips that continue the input, the second then runs
    backwards.

    Args:
        trajectory: The run's trajectory; only a hint of "sequence" makes it a video.

    Returns:
        One time a frame in frames after the input, the input's 0 first. None if the frames do not
        follow one another.
    """
    if trajectory.hint != "sequence":
        return None
    times = [0.0]
    direction = [1.0]
    used: set[int] = set()
    for number, clip in enumerate(trajectory.clips):
        if clip.source in used and (clip.source != 0 or number > 1):
            return None  # a third way out of one frame is no video
        sign = -1.0 if clip.source in used else direction[clip.source]
        used.add(clip.source)
        start = times[clip.source]
        times += [start + sign * (offset + 1) for offset in range(len(clip.cameras))]
        direction += [sign] * len(clip.cameras)
    return times


class _Path:
    """Closed paths among cameras, for any factor on their motion."""

    def __init__(
        self, cameras: Cameras, times: Sequence[int | float] | None, typical: float, count: int
    ) -> None:
        self._cameras = cameras.to(torch.float64)
        self._count = count
        start = self._cameras.world_to_camera[0]
        local = start @ self._cameras.camera_to_world
        self._centers = local[:, :3, 3]
        self._quats = rotation_to_quat(local[:, :3, :3])
        self._phase = 2 * math.pi * torch.arange(count, dtype=torch.float64) / count
        self._still = False
        if times is not None:
            self._plan_sequence(torch.tensor(times, dtype=torch.float64)[:, None])
        else:
            self._plan_set(
                torch.cat([self._centers / typical, _rotation_vectors(self._quats)], dim=-1)
            )

    def at(self, scale: float) -> Cameras:
        """Compute the views.

        Args:
            scale: Factor on the motion, in [0, 1]. A one-dimensional path is traversed less far;
                another one is drawn towards the input.

        Returns:
            Cameras along the path, the first of them the input's.
        """
        if self._still or scale == 0:
            centers = torch.zeros(self._count, 3, dtype=torch.float64)
            rotations = torch.eye(3, dtype=torch.float64).expand(self._count, 3, 3)
        elif self._line:
            centers, rotations = self._average(scale * self._course)
        else:
            centers, rotations = self._average(self._course)
            centers = scale * centers
            rotations = rotation_from_vector(scale * _rotation_vectors(rotation_to_quat(rotations)))
        to_camera = rigid(rotations.mT, -(rotations.mT @ centers[..., None])[..., 0])
        first = self._cameras
        views = to_camera @ first.world_to_camera[0]
        intrinsics = first.intrinsics[:1].expand(self._count, 3, 3)
        return Cameras(views.float(), intrinsics.float().clone(), first.width, first.height)

    def _plan_sequence(self, times: Float[Tensor, "frame 1"]) -> None:
        """Plan a way there and back in time. Averaging takes jitter out of it."""
        self._line = True
        self._places = times - times[0]
        self._still = len(times) < 2
        self._width = max(1.5, 0.05 * len(times))
        self._course = _sweep(self._places[:, 0], self._phase)[:, None]

    def _plan_set(self, poses: Float[Tensor, "frame 6"]) -> None:
        """Plan a loop along the principal directions of poses (displacement, rotation)."""
        _, spread, directions = torch.linalg.svd(poses - poses.mean(0), full_matrices=False)
        spread = spread / len(poses) ** 0.5
        leading = directions.abs().argmax(1, keepdim=True)
        directions = (
            directions * directions.gather(1, leading).sign()
        )  # the decomposition leaves the sign to chance
        self._line = len(poses) < 3 or bool(spread[1] < LINE * spread[0])
        self._still = len(poses) < 2 or bool(spread[0] < STILL)
        if self._still:
            return
        places = poses @ directions[: 1 if self._line else 2].T
        low, high = places.quantile(torch.tensor([0.05, 0.95], dtype=torch.float64), dim=0)
        half = ((high - low) / 2).clamp(min=STILL)
        self._places = places / half
        middle = (high + low) / 2 / half
        if self._line:
            self._width = max(0.2, 2 / (len(poses) - 1))
            self._course = _sweep(self._places[:, 0].clamp(middle - 1, middle + 1), self._phase)[
                :, None
            ]
        else:
            self._width = max(0.25, len(poses) ** -0.5)
            self._course = _loop(middle, self._phase)

    def _average(
        self, course: Float[Tensor, "view axis"]
    ) -> tuple[Float[Tensor, "view 3"], Float[Tensor, "view 3 3"]]:
        """Average the frames' poses around each place, relative to the average around the input's.

        Args:
            course: Places along the path; the input is at 0.

        Returns:
            Centres and camera-to-input rotations in the input camera's frame, exactly 0 and the
            identity for the place 0.
        """
        course = torch.cat([torch.zeros_like(course[:1]), course])
        square = (course[:, None] - self._places).square().sum(-1) / self._width**2
        weights = (-0.5 * square).softmax(dim=1)
        centers = weights @ self._centers
        moments = (
            weights[..., None, None] * self._quats[:, :, None] * self._quats[:, None, :]
        ).sum(1)
        # The mean rotation (Markley et al., 2007), whatever the signs of the quaternions.
        rotations = quat_to_rotation(torch.linalg.eigh(moments).eigenvectors[..., -1])
        return centers[1:] - centers[0], rotations[1:] @ rotations[0].T


def _sweep(places: Float[Tensor, "frame"], phase: Float[Tensor, "view"]) -> Float[Tensor, "view"]:
    """Swing between the ends of places on a line, starting at 0."""
    low = places.min().clamp(max=0)
    high = places.max().clamp(min=0)
    half = ((high - low) / 2).clamp(min=1e-12)
    middle = (high + low) / 2
    start = torch.asin((-middle / half).clamp(-1, 1))
    return middle + half * torch.sin(phase + start)


def _loop(middle: Float[Tensor, "2"], phase: Float[Tensor, "view"]) -> Float[Tensor, "view 2"]:
    """Circle through 0 among places within 1 of their middle in both directions."""
    if float(middle.norm()) < OFF_CENTER:
        return torch.stack([phase.sin(), 0.5 * (2 * phase).sin()], dim=-1)
    cos = phase.cos()
    sin = phase.sin()
    turned = torch.stack(
        [cos * -middle[0] + sin * middle[1], sin * -middle[0] - cos * middle[1]], dim=-1
    )
    return middle + turned


def _rotation_vectors(quats: Float[Tensor, "view 4"]) -> Float[Tensor, "view 3"]:
    """Return the logarithm of unit quaternions with w >= 0: axis times radians."""
    length = quats[:, 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(length, quats[:, :1])
    return quats[:, 1:] * torch.where(length > 1e-9, angle / length.clamp(min=1e-12), 2.0)
