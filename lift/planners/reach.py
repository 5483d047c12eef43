"""How much of what a planned camera sees the input's picture does not show, and motions kept within what it does."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from lift.geometry import unproject
from lift.planners import Planner
from lift.runtime.parallel import each
from lift.types import Cameras, Depth, Trajectory

_SIZE = 64
"""Longer side in pixels of the pictures that are compared."""
_DENSE = 2
"""Samples of the input's depth a side for each of their pixels, so that surfaces hold together where they come nearer."""
_COVERED = 0.5
"""A pixel is shown from the share of its area on that samples cover."""
_HALVINGS = 6


def unseen_share(camera: Cameras, depth: Depth, cameras: Cameras) -> Float[Tensor, "view"]:
    """The share of each camera's pixels that the input's picture does not show: beyond its border, or behind what stands in front.

    Samples of the input's depth are splatted into the cameras, each as large as the surface about it appears; a surface seen there at
    more than twice the size at which the input sees it aslant counts as not shown. Pixels without depth are taken to be as far as the
    farthest that has one. Good to about half a pixel in 64 along every border. On the device of `depth`.
    """
    known = depth.valid & (depth.depth > 0)
    if not bool(known.any()):
        raise ValueError("the picture has no valid depth, so no motion can be judged by it")
    filled = depth.depth.where(known, depth.depth[known].max()).float()
    scale = _SIZE / max(cameras.width, cameras.height)
    width, height = max(1, round(cameras.width * scale)), max(1, round(cameras.height * scale))
    samples = interpolate(
        filled[None, None], (_DENSE * height, _DENSE * width), mode="nearest-exact"
    )[0]
    points = unproject(samples, camera.to(filled.device).resized(_DENSE * width, _DENSE * height))[
        0
    ].reshape(-1, 3)
    targets = cameras.to(filled.device).resized(width, height)
    focal = camera.resized(width, height).intrinsics[0, [0, 1], [0, 1]].prod()
    away = samples.reshape(-1)
    return torch.stack(
        each(
            lambda index: _unseen(points, away, focal.to(away), targets[index]), range(len(targets))
        )
    )


def _unseen(
    points: Float[Tensor, "point 3"], away: Float[Tensor, "point"], focal: Tensor, target: Cameras
) -> Tensor:
    """away: z-depth of the points in the input. focal: product of its two focal lengths, at the target's size."""
    width, height = target.width, target.height
    local = points @ target.world_to_camera[0, :3, :3].T + target.world_to_camera[0, :3, 3]
    z = local[:, 2]
    front = z > 1e-3 * away
    local, z, away = local[front], z[front], away[front]
    image = local @ target.intrinsics[0].T
    x, y = image[:, 0] / z - 0.5, image[:, 1] / z - 0.5
    # Pixels' areas that a sample covers: its own, magnified by the change of distance and of focal length.
    area = (
        (away / z) ** 2
        * (target.intrinsics[0, 0, 0] * target.intrinsics[0, 1, 1] / focal)
        / _DENSE**2
    )
    left, top = x.floor(), y.floor()
    places, weights = [], []
    for dx in (0, 1):
        for dy in (0, 1):
            column, row = left + dx, top + dy
            within = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            weights.append(within * area * (1 - (x - column).abs()) * (1 - (y - row).abs()))
            places.append((row * width + column).where(within, torch.zeros_like(x)).long())
    cover = torch.bincount(
        torch.cat(places), torch.cat(weights), minlength=height * width
    )  # far faster than index_add_ on a CPU
    return (cover < _COVERED).float().mean()


def limit(
    planner: Planner,
    camera: Cameras,
    depth: Depth,
    clip_length: int | None,
    max_unseen: float,
    beyond: Literal["limit", "warn", "ignore"],
) -> tuple[Trajectory, float, tuple[str, ...]]:
    """The planner's trajectory, the magnitude it was made with, and notes for the user.

    Where a camera would see more than the share `max_unseen` of unknown scene, `limit` shrinks the motion by bisection until none
    does, if the planner scales, and else does as `warn`: keeps it and says so. `ignore` does not look.
    """
    full = planner(camera, depth, clip_length)
    if beyond == "ignore":
        return full, 1.0, ()
    shares = unseen_share(camera, depth, full.cameras)
    worst = int(shares.argmax())
    if float(shares[worst]) <= max_unseen:
        return full, 1.0, ()
    finding = f"frame {worst} would show {float(shares[worst]):.0%} of unseen scene, more than reach.max_unseen={max_unseen:g}"
    if beyond == "warn" or not planner.scales:
        kept = (
            "the motion is kept"
            if planner.scales
            else "this planner's motion cannot be shrunk and is kept"
        )
        return full, 1.0, (f"{finding}; {kept}",)
    suspects = (shares > max_unseen).nonzero()[:, 0]
    suspects = suspects[shares[suspects].argsort(descending=True)][:8]  # the others follow them
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        cameras = planner(camera, depth, clip_length, middle).cameras[suspects]
        fits = float(unseen_share(camera, depth, cameras).max()) <= max_unseen
        low, high = (middle, high) if fits else (low, middle)
    if low == 0:
        raise ValueError(
            f"{finding}, and even {high:.1%} of the motion shows too much; choose a larger reach.max_unseen, or reach.beyond=warn"
        )
    trajectory = planner(camera, depth, clip_length, low)
    shown = float(unseen_share(camera, depth, trajectory.cameras).max())
    return (
        trajectory,
        low,
        (f"{finding}; the motion was shrunk to {low:.0%}, where it is {shown:.0%}",),
    )
