"""Scale of the input's depth in the unit of measured cameras, by triangulated keypoints."""

import torch
from jaxtyping import Float
from torch import Tensor

from lift.multiview.depth_alignment import align_depth
from lift.poses.sfm.features import create_features
from lift.types import Cameras, Depth, Frames

_MAX_KEYPOINTS = 2048
_NEIGHBOURS = 16
"""Number of views, nearest to the input first, whose matches are triangulated."""
_MAX_ERROR = 1.5 / 640
"""Reprojection error of a correct match, as a fraction of the width."""
_MIN_PARALLAX = 4 / 640
"""Smallest displacement, as a fraction of the width, if a point moves away by its own depth."""
_TOLERANCE = 0.05
"""Relative depth error at which the confidence is a half."""


def scale_depth_to_cameras(
    depth: Depth, frames: Frames, cameras: Cameras, device: torch.device
) -> Depth | None:
    """Align the input's depth to points that are triangulated with measured cameras.

    Args:
        depth: Estimated depth of frame 0, with any scale and shift of its inverse.
        frames: The frames, the input first.
        cameras: Their measured cameras; the first is at the origin.
        device: Device to find and match keypoints on.

    Returns:
        The depth in the cameras' unit of length; None if there are too few matches.
    """
    sparse = triangulate_depth(frames, cameras, device)
    estimate = torch.where(depth.valid, depth.depth, 0.0)
    shift = depth.kind == "affine-invariant"
    aligned = align_depth(estimate, sparse.to(estimate), _TOLERANCE, shift)
    if not aligned.success:
        return None
    kind = "scale" if depth.kind == "affine-invariant" else depth.kind
    return Depth(aligned.depth, depth.valid & (aligned.depth > 0), kind)


def triangulate_depth(
    frames: Frames, cameras: Cameras, device: torch.device
) -> Float[Tensor, "height width"]:
    """Triangulate keypoints of the input that match in other views.

    Args:
        frames: The frames, the input first.
        cameras: Their measured cameras; the first is at the origin.
        device: Device to find and match keypoints on.

    Returns:
        z-depth in the input's camera at the keypoints' pixels; 0 elsewhere.
    """
    distance = cameras.centers[1:].norm(dim=-1)
    nearest = (distance.argsort()[:_NEIGHBOURS] + 1).tolist()
    features = create_features("auto", _MAX_KEYPOINTS, device)
    first = features(frames.images[0].to(device))
    keypoints = first[0].cpu().double()
    best = torch.zeros(len(keypoints), dtype=torch.float64)
    parallax = torch.full((len(keypoints),), _MIN_PARALLAX, dtype=torch.float64)
    for view in nearest:
        second = features(frames.images[view].to(device))
        pairs = features.match(first, second)[0].cpu()
        if len(pairs) == 0:
            continue
        index = pairs[:, 0]
        matched = second[0].cpu().double()[pairs[:, 1]]
        z, shift = _depth_along_rays(keypoints[index], matched, cameras, view)
        better = shift > parallax[index]
        best[index[better]] = z[better]
        parallax[index[better]] = shift[better]
    image = torch.zeros(cameras.height, cameras.width)
    column, row = keypoints[best > 0].long().unbind(-1)
    inside = (column >= 0) & (column < cameras.width) & (row >= 0) & (row < cameras.height)
    image[row[inside], column[inside]] = best[best > 0][inside].float()
    return image


def _depth_along_rays(
    first: Float[Tensor, "match 2"], second: Float[Tensor, "match 2"], cameras: Cameras, view: int
) -> tuple[Float[Tensor, "match"], Float[Tensor, "match"]]:
    """Return the least-squares z-depth along the input's rays, and the parallax.

    The parallax is the displacement in the other view, as a fraction of the width, if the point
    moves away by its own depth. It is 0 for a match that does not agree with the cameras.
    """
    rays = _rays(first, cameras, 0)
    target_rays = _rays(second, cameras, view)[:, :2]
    matrix = cameras.world_to_camera[view].double()
    rotated = rays @ matrix[:3, :3].T
    translation = matrix[:3, 3]
    slope = rotated[:, :2] - target_rays * rotated[:, 2:]
    target = target_rays * translation[2] - translation[:2]
    z = (slope * target).sum(-1) / (slope * slope).sum(-1).clamp(min=1e-20)
    other_z = z * rotated[:, 2] + translation[2]
    scale = float(cameras.intrinsics[view, 0, 0]) / cameras.width
    error = (slope * z[:, None] - target).norm(dim=-1) / other_z.abs().clamp(min=1e-12) * scale
    parallax = (slope * z[:, None]).norm(dim=-1) / other_z.abs().clamp(min=1e-12) * scale
    good = (z > 0) & (other_z > 0) & (error < _MAX_ERROR)
    return z, torch.where(good, parallax, 0.0)


def _rays(
    pixels: Float[Tensor, "match 2"], cameras: Cameras, view: int
) -> Float[Tensor, "match 3"]:
    """Unproject pixels to a z-depth of 1."""
    inverse = torch.linalg.inv(cameras.intrinsics[view].double())
    return torch.cat([pixels, torch.ones_like(pixels[:, :1])], dim=-1) @ inverse.T
