"""Plan a fly-through that stays where frames observed the scene.

The path is a kernel average of the reconstructed cameras, not of the planned ones. Each pose is a
mean of poses of neighbouring frames: neighbours in time for a video, neighbours in pose otherwise.
If parts of the path show surfaces that no frame observed, the motion is shrunk towards the input
view.
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
"""Smallest coverage along the path, as a fraction of the input view's coverage."""

MEASURED_VIEWS = 16
"""Approximate number of views along the path whose coverage is measured."""

BISECTIONS = 5
"""Number of bisection steps for the factor on the motion, after the measurement at full motion."""

LINE_RATIO = 0.25
"""Ratio of the second to the first principal extent of the poses.

Below it, the motion counts as one-dimensional.
"""

MAX_CENTER_OFFSET = 0.5
"""Largest distance of the input from the centre of the poses, as a fraction of their extent.

Above it, the loop is an ellipse about that centre. Below it, the loop is a figure of eight about
the input.
"""

MIN_EXTENT = 1e-6
"""Smallest principal extent of the poses of a moving camera.

Displacements are divided by the typical depth. Angles are in radians.
"""

CoverageFunction = Callable[[Cameras], Float[Tensor, "view"]]
"""Computes the coverage of views in [0, 1]."""


@dataclass(frozen=True)
class FlyThrough:
    """A closed path with its coverage."""

    cameras: Cameras
    """Views along the path. The first is the input's."""
    scale: float
    """Factor in [0, 1] on the motion that keeps the views covered. 1 means unchanged."""
    coverage: Float[Tensor, "view"]
    """Coverage of evenly spaced views along the path."""

    @property
    def measured_cameras(self) -> Cameras:
        """The views whose coverage is measured."""
        return measured_views(self.cameras)


def measured_views(cameras: Cameras) -> Cameras:
    """Select evenly spaced views of a path, whose coverage is measured.

    Args:
        cameras: All views of the path.
    """
    return cameras[:: max(1, len(cameras) // MEASURED_VIEWS)]


def make_fly_through(
    cameras: Cameras,
    times: Sequence[int | float] | None,
    typical_depth: float,
    count: int,
    measure: CoverageFunction,
) -> FlyThrough:
    """Plan a closed loop that starts at the input view, and shrink it until its views are covered.

    Args:
        cameras: Cameras of the registered frames, the input first.
        times: Time of each frame in frames. None if the frames are not a sequence.
        typical_depth: The scene's typical depth, its unit of length.
        count: Number of views of the path, at least 1.
        measure: Computes the coverage of cameras in [0, 1] (`lift.outputs.coverage`).

    Returns:
        The path. Its cameras have the input's intrinsics.
    """
    path = _Path(cameras, times, typical_depth, count)
    required = REQUIRED_COVERAGE * float(measure(cameras[:1])[0])
    order: list[int] = []  # of the measured views: first those that are likely not covered

    def attempt(scale: float) -> FlyThrough | None:
        """Measure a path; None if a view is not covered."""
        views = path.at(scale)
        measured = measured_views(views)
        if not order:
            distances = (measured.centers - measured.centers[0]).norm(dim=-1)
            order.extend(distances.argsort(descending=True).tolist())
        coverage = torch.zeros(len(measured))
        for index in [*order]:
            coverage[index] = measure(measured[index : index + 1])[0]
            if float(coverage[index]) < required:
                order.remove(index)
                order.insert(0, index)
                return None
        return FlyThrough(views, scale, coverage)

    if full_motion := attempt(1.0):
        return full_motion
    best = None
    low = 0.0
    high = 1.0
    for _ in range(BISECTIONS):
        scale = (low + high) / 2
        if candidate := attempt(scale):
            best = candidate
            low = scale
        else:
            high = scale
    if best is None:
        views = path.at(0.0)
        best = FlyThrough(views, 0.0, measure(measured_views(views)))
    return best


def frame_times(trajectory: Trajectory) -> list[float] | None:
    """Compute the time of each frame, if the frames follow one another in time.

    A video may start before the input. If two clips continue the input, the second runs backwards.

    Args:
        trajectory: The run's trajectory. It is a video only if its hint is "sequence".

    Returns:
        Time of each frame in frames after the input, starting with 0 for the input. None if the
        frames are not a sequence.
    """
    if trajectory.hint != "sequence":
        return None
    times = [0.0]
    direction = [1.0]
    sources: set[int] = set()
    for number, clip in enumerate(trajectory.clips):
        if clip.source in sources and (clip.source != 0 or number > 1):
            return None  # three clips that continue one frame are no video
        sign = -1.0 if clip.source in sources else direction[clip.source]
        sources.add(clip.source)
        start = times[clip.source]
        times += [start + sign * (offset + 1) for offset in range(len(clip.cameras))]
        direction += [sign] * len(clip.cameras)
    return times


class _Path:
    """Closed paths among cameras, for any factor on their motion."""

    def __init__(
        self,
        cameras: Cameras,
        times: Sequence[int | float] | None,
        typical_depth: float,
        count: int,
    ) -> None:
        self._cameras = cameras.to(torch.float64)
        self._count = count
        start = self._cameras.world_to_camera[0]
        local = start @ self._cameras.camera_to_world
        self._centers = local[:, :3, 3]
        self._quats = rotation_to_quat(local[:, :3, :3])
        self._phase = 2 * math.pi * torch.arange(count, dtype=torch.float64) / count
        self._positions: Tensor
        self._path_positions: Tensor
        self._bandwidth: float
        self._is_line: bool
        self._is_static = False
        if times is not None:
            self._plan_sequence(torch.tensor(times, dtype=torch.float64)[:, None])
        else:
            self._plan_set(
                torch.cat([self._centers / typical_depth, _rotation_vectors(self._quats)], dim=-1)
            )

    def at(self, scale: float) -> Cameras:
        """Compute the views.

        Args:
            scale: Factor on the motion, in [0, 1]. It shortens a one-dimensional path and contracts
                another path towards the input.

        Returns:
            Cameras along the path. The first is the input's.
        """
        if self._is_static or scale == 0:
            centers = torch.zeros(self._count, 3, dtype=torch.float64)
            rotations = torch.eye(3, dtype=torch.float64).expand(self._count, 3, 3)
        elif self._is_line:
            centers, rotations = self._average(scale * self._path_positions)
        else:
            centers, rotations = self._average(self._path_positions)
            centers = scale * centers
            rotations = rotation_from_vector(scale * _rotation_vectors(rotation_to_quat(rotations)))
        to_camera = rigid(rotations.mT, -(rotations.mT @ centers[..., None])[..., 0])
        cameras = self._cameras
        views = to_camera @ cameras.world_to_camera[0]
        intrinsics = cameras.intrinsics[:1].expand(self._count, 3, 3)
        return Cameras(views.float(), intrinsics.float().clone(), cameras.width, cameras.height)

    def _plan_sequence(self, times: Float[Tensor, "frame 1"]) -> None:
        """Plan a path forth and back in time. Averaging removes jitter."""
        self._is_line = True
        self._positions = times - times[0]
        self._is_static = len(times) < 2
        self._bandwidth = max(1.5, 0.05 * len(times))
        self._path_positions = _sweep(self._positions[:, 0], self._phase)[:, None]

    def _plan_set(self, poses: Float[Tensor, "frame 6"]) -> None:
        """Plan a loop along the principal directions of poses (displacement, rotation)."""
        _, extents, directions = torch.linalg.svd(poses - poses.mean(0), full_matrices=False)
        extents = extents / len(poses) ** 0.5
        leading = directions.abs().argmax(1, keepdim=True)
        # The sign of a singular vector is arbitrary.
        directions = directions * directions.gather(1, leading).sign()
        self._is_line = len(poses) < 3 or bool(extents[1] < LINE_RATIO * extents[0])
        self._is_static = len(poses) < 2 or bool(extents[0] < MIN_EXTENT)
        if self._is_static:
            return
        positions = poses @ directions[: 1 if self._is_line else 2].T
        low, high = positions.quantile(torch.tensor([0.05, 0.95], dtype=torch.float64), dim=0)
        half_extent = ((high - low) / 2).clamp(min=MIN_EXTENT)
        self._positions = positions / half_extent
        center = (high + low) / 2 / half_extent
        if self._is_line:
            self._bandwidth = max(0.2, 2 / (len(poses) - 1))
            self._path_positions = _sweep(
                self._positions[:, 0].clamp(center - 1, center + 1), self._phase
            )[:, None]
        else:
            self._bandwidth = max(0.25, len(poses) ** -0.5)
            self._path_positions = _loop(center, self._phase)

    def _average(
        self, path_positions: Float[Tensor, "view axis"]
    ) -> tuple[Float[Tensor, "view 3"], Float[Tensor, "view 3 3"]]:
        """Average the frames' poses around each position, relative to the average around the input.

        Args:
            path_positions: Positions along the path. The input is at 0.

        Returns:
            Centres and camera-to-input rotations in the input camera's frame, exactly 0 and the
            identity for position 0.
        """
        path_positions = torch.cat([torch.zeros_like(path_positions[:1]), path_positions])
        offsets = path_positions[:, None] - self._positions
        squared_distance = offsets.square().sum(-1) / self._bandwidth**2
        weights = (-0.5 * squared_distance).softmax(dim=1)
        centers = weights @ self._centers
        moments = (
            weights[..., None, None] * self._quats[:, :, None] * self._quats[:, None, :]
        ).sum(1)
        # The mean rotation (Markley et al., 2007), whatever the signs of the quaternions.
        rotations = quat_to_rotation(torch.linalg.eigh(moments).eigenvectors[..., -1])
        return centers[1:] - centers[0], rotations[1:] @ rotations[0].T


def _sweep(
    positions: Float[Tensor, "frame"], phase: Float[Tensor, "view"]
) -> Float[Tensor, "view"]:
    """Oscillate between the ends of positions on a line, starting at 0."""
    low = positions.min().clamp(max=0)
    high = positions.max().clamp(min=0)
    half = ((high - low) / 2).clamp(min=1e-12)
    center = (high + low) / 2
    start = torch.asin((-center / half).clamp(-1, 1))
    return center + half * torch.sin(phase + start)


def _loop(center: Float[Tensor, "2"], phase: Float[Tensor, "view"]) -> Float[Tensor, "view 2"]:
    """Circle through 0 among positions within 1 of their centre in both directions."""
    if float(center.norm()) < MAX_CENTER_OFFSET:
        return torch.stack([phase.sin(), 0.5 * (2 * phase).sin()], dim=-1)
    cos = phase.cos()
    sin = phase.sin()
    offset = torch.stack(
        [cos * -center[0] + sin * center[1], sin * -center[0] - cos * center[1]], dim=-1
    )
    return center + offset


def _rotation_vectors(quats: Float[Tensor, "view 4"]) -> Float[Tensor, "view 3"]:
    """Compute the logarithm of unit quaternions with w >= 0: axis times radians."""
    length = quats[:, 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(length, quats[:, :1])
    return quats[:, 1:] * torch.where(length > 1e-9, angle / length.clamp(min=1e-12), 2.0)
