"""Limit planned motions to views that the input picture mostly covers."""

from typing import Literal

import torch
from jaxtyping import Float
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
_BISECTION_STEPS = 6
_MAX_CHECKED_FRAMES = 8


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
    measured = depth.valid & (depth.depth > 0)
    if not bool(measured.any()):
        raise ValueError("the picture has no valid depth, so no motion can be judged by it")
    filled = depth.depth.where(measured, depth.depth[measured].max()).float()
    scale = _SIZE / max(cameras.width, cameras.height)
    width = max(1, round(cameras.width * scale))
    height = max(1, round(cameras.height * scale))
    sample_size = (_SAMPLES_PER_PIXEL * height, _SAMPLES_PER_PIXEL * width)
    samples = interpolate(filled[None, None], sample_size, mode="nearest-exact")[0]
    sample_camera = camera.to(filled.device).resized(sample_size[1], sample_size[0])
    points = unproject(samples, sample_camera)[0].reshape(-1, 3)
    targets = cameras.to(filled.device).resized(width, height)
    focal = camera.resized(width, height).intrinsics[0, [0, 1], [0, 1]].prod()
    source_depth = samples.reshape(-1)
    return torch.stack(
        parallel_map(
            lambda index: _unseen(points, source_depth, focal.to(source_depth), targets[index]),
            range(len(targets)),
        )
    )


def _unseen(
    points: Float[Tensor, "point 3"],
    source_depth: Float[Tensor, "point"],
    focal: Tensor,
    target: Cameras,
) -> Tensor:
    """Measure the unseen fraction of one view.

    Args:
        points: World positions of the depth samples.
        source_depth: Their z-depth in the input view.
        focal: Product of the input's two focal lengths, in pixels at the target's size.
        target: The view, one camera.
    """
    width = target.width
    height = target.height
    local = points @ target.world_to_camera[0, :3, :3].T + target.world_to_camera[0, :3, 3]
    z = local[:, 2]
    front = z > 1e-3 * source_depth
    local = local[front]
    z = z[front]
    source_depth = source_depth[front]
    image = local @ target.intrinsics[0].T
    x = image[:, 0] / z - 0.5
    y = image[:, 1] / z - 0.5
    # The area in pixels that a sample covers, magnified by the change of distance and focal length.
    area = (
        (source_depth / z) ** 2
        * (target.intrinsics[0, 0, 0] * target.intrinsics[0, 1, 1] / focal)
        / _SAMPLES_PER_PIXEL**2
    )
    left = x.floor()
    top = y.floor()
    indices = []
    weights = []
    for dx in (0, 1):
        for dy in (0, 1):
            column = left + dx
            row = top + dy
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            weights.append(inside * area * (1 - (x - column).abs()) * (1 - (y - row).abs()))
            indices.append((row * width + column).where(inside, torch.zeros_like(x)).long())
    # bincount is far faster than index_add_ on a CPU.
    cover = torch.bincount(torch.cat(indices), torch.cat(weights), minlength=height * width)
    return (cover < _MIN_COVERAGE).float().mean()


def limit_motion(
    planner: Planner,
    camera: Cameras,
    depth: Depth,
    clip_length: int | None,
    max_unseen: float,
    on_exceed: Literal["limit", "warn", "ignore"],
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

    Returns:
        The trajectory, its magnitude in (0, 1], and notes for the user.

    Raises:
        ValueError: If even the smallest motion exceeds `max_unseen`.
    """
    full = planner(camera, depth, clip_length)
    if on_exceed == "ignore" or full.hint == "requested":
        return full, 1.0, ()
    unseen = unseen_fraction(camera, depth, full.cameras)
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
    low, high = _shrink(planner, camera, depth, clip_length, max_unseen, unseen)
    if low == 0:
        raise ValueError(
            f"{finding}, and even {high:.1%} of the motion shows too much; "
            "choose a larger motion_limit.max_unseen, or motion_limit.on_exceed=warn"
        )
    trajectory = planner(camera, depth, clip_length, low)
    worst_unseen = float(unseen_fraction(camera, depth, trajectory.cameras).max())
    note = f"{finding}; the motion was shrunk to {low:.0%}, where it is {worst_unseen:.0%}"
    return trajectory, low, (note,)


def _shrink(
    planner: Planner,
    camera: Cameras,
    depth: Depth,
    clip_length: int | None,
    max_unseen: float,
    unseen: Float[Tensor, "view"],
) -> tuple[float, float]:
    """Bisect the magnitude. Return one that fits (or 0) and one that exceeds `max_unseen`."""
    # The worst frames decide. The other frames follow them.
    checked = (unseen > max_unseen).nonzero()[:, 0]
    checked = checked[unseen[checked].argsort(descending=True)][:_MAX_CHECKED_FRAMES]
    low = 0.0
    high = 1.0
    for _ in range(_BISECTION_STEPS):
        candidate = 0.5 * (low + high)
        cameras = planner(camera, depth, clip_length, candidate).cameras[checked]
        if float(unseen_fraction(camera, depth, cameras).max()) <= max_unseen:
            low = candidate
        else:
            high = candidate
    return low, high
