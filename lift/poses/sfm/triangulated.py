"""The depth of a picture in the unit of known cameras, by points that other views show too."""

import torch
from jaxtyping import Float
from torch import Tensor

from lift.multiview.depth_alignment import place
from lift.poses.matching import features_of
from lift.types import Cameras, Depth, Frames

_KEYPOINTS = 2048
_NEIGHBOURS = 16
"""Number of views whose matches with the input are triangulated: those nearest to it."""
_ERROR = 1.5 / 640
"""Reprojection error, as a share of the width, from which on a match is wrong."""
_PARALLAX = 4 / 640
"""Least displacement, as a share of the width, of a point that moves away by its own depth."""
_TOLERANCE = 0.05
"""Relative error of depth at which the confidence is a half."""


def in_unit_of_cameras(
    depth: Depth, frames: Frames, cameras: Cameras, device: torch.device
) -> Depth | None:
    """Align the input's depth to points that are triangulated with known cameras.

    Args:
        depth: Estimated depth of frame 0, of any scale and shift of its inverse.
        frames: The frames, the input first.
        cameras: Their known cameras; the first is at the origin.
        device: Where keypoints are found and matched.

    Returns:
        The depth in the cameras' unit of length; None if too few points are found again.
    """
    known = triangulated(frames, cameras, device)
    estimate = torch.where(depth.valid, depth.depth, 0.0)
    aligned = place(estimate, known.to(estimate), _TOLERANCE, depth.kind == "affine-invariant")
    if not aligned.found:
        return None
    kind = "scale" if depth.kind == "affine-invariant" else depth.kind
    return Depth(aligned.depth, depth.valid & (aligned.depth > 0), kind)


def triangulated(
    frames: Frames, cameras: Cameras, device: torch.device
) -> Float[Tensor, "height width"]:
    """Triangulate keypoints of the input that are found again in other views.

    Args:
        frames: The frames, the input first.
        cameras: Their known cameras; the first is at the origin.
        device: Where keypoints are found and matched.

    Returns:
        z-depth in the input's camera at the keypoints' pixels; 0 elsewhere.
    """
    away = cameras.centers[1:].norm(dim=-1)
    nearest = (away.argsort()[:_NEIGHBOURS] + 1).tolist()
    features = features_of("auto", _KEYPOINTS, device)
    first = features(frames.images[0].to(device))
    keypoints = first[0].cpu().double()
    best = torch.zeros(len(keypoints), dtype=torch.float64)
    parallax = torch.full((len(keypoints),), _PARALLAX, dtype=torch.float64)
    for view in nearest:
        second = features(frames.images[view].to(device))
        pairs = features.match(first, second)[0].cpu()
        if len(pairs) == 0:
            continue
        own = pairs[:, 0]
        z, moved = _depths(keypoints[own], second[0].cpu().double()[pairs[:, 1]], cameras, view)
        better = moved > parallax[own]
        best[own[better]] = z[better]
        parallax[own[better]] = moved[better]
    out = torch.zeros(cameras.height, cameras.width)
    column, row = keypoints[best > 0].long().unbind(-1)
    inside = (column >= 0) & (column < cameras.width) & (row >= 0) & (row < cameras.height)
    out[row[inside], column[inside]] = best[best > 0][inside].float()
    return out


def _depths(
    first: Float[Tensor, "match 2"], second: Float[Tensor, "match 2"], cameras: Cameras, view: int
) -> tuple[Float[Tensor, "match"], Float[Tensor, "match"]]:
    """Least-squares z-depth in the input along each of its rays, and the parallax.

    The parallax is the displacement in the other view, as a share of the width, if the point
    moves away by its own depth; 0 for a match that does not fit the cameras.
    """
    rays = _normalised(first, cameras, 0)
    seen = _normalised(second, cameras, view)[:, :2]
    matrix = cameras.world_to_camera[view].double()
    turned = rays @ matrix[:3, :3].T
    moved = matrix[:3, 3]
    slope = turned[:, :2] - seen * turned[:, 2:]
    target = seen * moved[2] - moved[:2]
    z = (slope * target).sum(-1) / (slope * slope).sum(-1).clamp(min=1e-20)
    beyond = z * turned[:, 2] + moved[2]
    share = float(cameras.intrinsics[view, 0, 0]) / cameras.width
    error = (slope * z[:, None] - target).norm(dim=-1) / beyond.abs().clamp(min=1e-12) * share
    parallax = (slope * z[:, None]).norm(dim=-1) / beyond.abs().clamp(min=1e-12) * share
    good = (z > 0) & (beyond > 0) & (error < _ERROR)
    return z, torch.where(good, parallax, 0.0)


def _normalised(
    pixels: Float[Tensor, "match 2"], cameras: Cameras, view: int
) -> Float[Tensor, "match 3"]:
    inverse = torch.linalg.inv(cameras.intrinsics[view].double())
    return torch.cat([pixels, torch.ones_like(pixels[:, :1])], dim=-1) @ inverse.T
