"""Limit planned motions to views that the input picture mostly covers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate

from lift.geometry import unproject
from lift.planners import Planner
from lift.runtime.parallel import parallel_map
from lift.types import Cameras, Depth, Trajectory

_SIZE = 64
"""Longer side in pixels of the views in which coverage is measured."""
_SAMPLES_PER_PIXEL = 2
"""Depth samples per pixel and axis. More than one keeps surfaces closed when they come nearer."""
_MIN_COVERAGE = 0.5
"""A pixel counts as seen if samples cover at least this fraction of its area."""
_MAX_BATCH_SAMPLES = 2**20
"""Largest number of samples of all views that a GPU splats at a time, in about 200 MiB."""
_BISECTION_STEPS = 6
_MAX_CHECKED_FRAMES = 8


@dataclass(frozen=True)
class SurfaceSamples:
    """Samples of the surface that the input picture shows."""

    points: Float[Tensor, "point 3"]
    """World positions of the samples."""
    depth: Float[Tensor, "point"]
    """Their z-depth in the input view."""
    focal: float
    """Product of the input's two focal lengths, in pixels at the size of the checked views."""
    width: int
    """Width in pixels of the checked views."""
    height: int
    """Height in pixels of the checked views."""

    @classmethod
    def sample(
        cls, camera: Cameras, depth: Depth, device: torch.device | str | None = None
    ) -> "SurfaceSamples":
        """Sample the input's depth on an even grid.

        Args:
            camera: The input camera, one view.
            depth: Depth of the input picture.
            device: Device of the samples, on which coverage is computed. None: that of the depth.

        Raises:
            ValueError: If `depth` has no valid pixel.
        """
        valid = depth.valid.to(device)
        values = depth.depth.to(device)
        measured = valid & (values > 0)
        if not bool(measured.any()):
            raise ValueError("the picture has no valid depth, so no motion can be judged by it")
        filled = values.where(measured, values[measured].max()).float()
        scale = _SIZE / max(camera.width, camera.height)
        width = max(1, round(camera.width * scale))
        height = max(1, round(camera.height * scale))
        sample_size = (_SAMPLES_PER_PIXEL * height, _SAMPLES_PER_PIXEL * width)
        samples = interpolate(filled[None, None], sample_size, mode="nearest-exact")[0]
        sample_camera = camera.to(filled.device).resized(sample_size[1], sample_size[0])
        points = unproject(samples, sample_camera)[0].reshape(-1, 3)
        focal = camera.resized(width, height).intrinsics[0, [0, 1], [0, 1]].prod()
        return cls(points, samples.reshape(-1), float(focal), width, height)

    def unseen_fraction(
        self, cameras: Cameras, batch_size: int | None = None
    ) -> Float[Tensor, "view"]:
        """Measure the fraction of each view that the surface does not cover.

        Args:
            cameras: The views.
            batch_size: Number of views that are computed at a time. None: many on a GPU, and one
                for each thread on a CPU, whose caches hold its samples.

        Returns:
            Fractions in [0, 1], on the device of the surface.
        """
        device = self.points.device
        targets = cameras.to(device).resized(self.width, self.height)
        if batch_size is None:
            cuda_batch = max(1, _MAX_BATCH_SAMPLES // len(self.points))
            batch_size = cuda_batch if device.type == "cuda" else 1
        starts = range(0, len(targets), batch_size)
        batches = [targets[start : start + batch_size] for start in starts]
        apply = map if device.type == "cuda" else parallel_map
        return torch.cat(list(apply(self._unseen, batches)))

    def _unseen(self, targets: Cameras) -> Float[Tensor, "view"]:
        """Measure the unseen fraction of a batch of views of the checked size."""
        rotation = targets.world_to_camera[:, :3, :3]
        local = self.points @ rotation.mT + targets.world_to_camera[:, None, :3, 3]
        z = local[..., 2]
        x, y = (local @ targets.intrinsics.mT)[..., :2].unbind(-1)
        x = x / z - 0.5
        y = y / z - 0.5
        # The area in pixels that a sample covers, magnified by the change of distance and focal
        # length.
        magnification = targets.intrinsics[:, 0, 0] * targets.intrinsics[:, 1, 1] / self.focal
        area = (self.depth / z) ** 2 * magnification[:, None] / _SAMPLES_PER_PIXEL**2
        cover = self._splat(x, y, area, z > 1e-3 * self.depth)
        return (cover < _MIN_COVERAGE).float().flatten(1).mean(1)

    def _splat(
        self,
        x: Float[Tensor, "view point"],
        y: Float[Tensor, "view point"],
        area: Float[Tensor, "view point"],
        front: Bool[Tensor, "view point"],
    ) -> Float[Tensor, "view height width"]:
        """Add the area of each sample to the four nearest pixels of its view.

        Args:
            x: Position along x in pixels, relative to the centre of the first pixel.
            y: Position along y.
            area: Area in pixels.
            front: Whether the sample is in front of the camera.
        """
        left = x.floor()
        top = y.floor()
        view = torch.arange(len(x), device=x.device)[:, None] * (self.height * self.width)
        indices = []
        weights = []
        for dx in (0, 1):
            for dy in (0, 1):
                column = left + dx
                row = top + dy
                inside = (column >= 0) & (column < self.width) & (row >= 0) & (row < self.height)
                inside &= front
                weight = area * (1 - (x - column).abs()) * (1 - (y - row).abs())
                weights.append(weight.where(inside, 0.0))
                indices.append((row * self.width + column).where(inside, 0.0).long() + view)
        weight = torch.stack(weights).flatten()
        if weight.is_cuda:
            # Sums of these are exact, so they do not depend on the order, which CUDA does not keep.
            weight = (weight.double() * 2**20).round() / 2**20
        # bincount is far faster than index_add_ on a CPU.
        size = len(x) * self.height * self.width
        cover = torch.bincount(torch.stack(indices).flatten(), weight, minlength=size)
        return cover.view(-1, self.height, self.width)


def unseen_fraction(camera: Cameras, depth: Depth, cameras: Cameras) -> Float[Tensor, "view"]:
    """Measure the fraction of each view that the input picture does not show.

    Unseen pixels lie outside the input's border or behind its foreground. Samples of the input's
    depth are splatted into each view. A sample is as large as its piece of surface appears there.
    A surface that appears more than twice as large as in the input counts as unseen. Pixels
    without depth count as far as the farthest pixel with depth. The accuracy is about half a pixel
    in 64 along every border.

    Args:
        camera: The input camera, one view.
        depth: Depth of the input picture. Computation runs on its device.
        cameras: The planned views.

    Returns:
        Fractions in [0, 1].

    Raises:
        ValueError: If `depth` has no valid pixel.
    """
    return SurfaceSamples.sample(camera, depth).unseen_fraction(cameras)


def limit_motion(
    planner: Planner,
    camera: Cameras,
    depth: Depth,
    clip_length: int | None,
    max_unseen: float,
    on_exceed: Literal["limit", "warn", "ignore"],
    device: torch.device | str | None = None,
) -> tuple[Trajectory, float, tuple[str, ...]]:
    """Plan a trajectory and shrink it where a view would show too much unseen scene.

    Args:
        planner: Plans the trajectory.
        camera: The input camera, one view.
        depth: Depth of the input picture.
        clip_length: New frames per clip of the prior. None: any number.
        max_unseen: Largest unseen fraction per view, in [0, 1].
        on_exceed: `limit` shrinks the motion by bisection until no view exceeds `max_unseen`. A
            planner without `supports_magnitude` keeps its motion, as with `warn`. `warn` keeps the
            motion and adds a note. `ignore` skips the check. It is skipped, too, for a trajectory
            whose hint is `requested`: nobody knows what its frames will show.
        device: Device on which coverage is computed. None: that of the depth.

    Returns:
        The trajectory, its magnitude in (0, 1], and notes for the user.

    Raises:
        ValueError: If even the smallest motion exceeds `max_unseen`.
    """
    full = planner(camera, depth, clip_length)
    if on_exceed == "ignore" or full.hint == "requested":
        return full, 1.0, ()
    surface = SurfaceSamples.sample(camera, depth, device)
    unseen = surface.unseen_fraction(full.cameras).cpu()
    worst = int(unseen.argmax())
    if float(unseen[worst]) <= max_unseen:
        return full, 1.0, ()
    finding = (
        f"frame {worst} would show {float(unseen[worst]):.0%} of unseen scene, "
        f"more than motion_limit.max_unseen={max_unseen:g}"
    )
    if on_exceed == "warn" or not planner.supports_magnitude:
        reason = (
            "the motion is kept"
            if planner.supports_magnitude
            else "this planner's motion cannot be shrunk and is kept"
        )
        return full, 1.0, (f"{finding}; {reason}",)
    # The worst frames decide. The other frames follow them.
    checked = (unseen > max_unseen).nonzero()[:, 0]
    checked = checked[unseen[checked].argsort(descending=True)][:_MAX_CHECKED_FRAMES]

    def fits(magnitude: float) -> bool:
        cameras = planner(camera, depth, clip_length, magnitude).cameras[checked]
        return float(surface.unseen_fraction(cameras).max()) <= max_unseen

    low, high = _bisect(fits)
    if low == 0:
        raise ValueError(
            f"{finding}, and even {high:.1%} of the motion shows too much; "
            "choose a larger motion_limit.max_unseen, or motion_limit.on_exceed=warn"
        )
    trajectory = planner(camera, depth, clip_length, low)
    worst_unseen = float(surface.unseen_fraction(trajectory.cameras).max())
    note = f"{finding}; the motion was shrunk to {low:.0%}, where it is {worst_unseen:.0%}"
    return trajectory, low, (note,)


def _bisect(fits: Callable[[float], bool]) -> tuple[float, float]:
    """Bisect the magnitude. Return one that fits (or 0) and one that does not."""
    low = 0.0
    high = 1.0
    for _ in range(_BISECTION_STEPS):
        candidate = 0.5 * (low + high)
        if fits(candidate):
            low = candidate
        else:
            high = candidate
    return low, high
