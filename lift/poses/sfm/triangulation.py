"""Points from the rays of registered frames."""

import math
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lift.poses.sfm.initialization import MIN_TRIANGULATION_ANGLE
from lift.poses.sfm.state import MIN_DEPTH, Observations, SfmState

ROUNDS = 5
"""Number of rounds of reweighted least squares."""


def triangulate_points(
    state: SfmState, observations: Observations, max_error: float
) -> tuple[Int[Tensor, "point"], Float[Tensor, "point 3"]]:
    """Triangulate points by robust least squares.

    Args:
        state: Cameras.
        observations: Observations of the points to triangulate, in registered frames.
        max_error: Reprojection error in pixels of a correct observation.

    Returns:
        Indices and positions of the points that two frames agree on, under a large enough angle.
    """
    chosen, point = observations.point.unique(return_inverse=True)
    frame = observations.frame
    pixel = observations.pixel
    rays = (state.rotation[frame].mT @ state.rays(frame, pixel)[..., None])[..., 0]
    rays = rays / rays.norm(dim=-1, keepdim=True)
    centers = state.centers[frame]
    weight = observations.weight.clone()
    eye = torch.eye(3, dtype=rays.dtype, device=rays.device)
    across = eye - rays[:, :, None] * rays[:, None]
    for _ in range(ROUNDS):
        matrix = torch.zeros(len(chosen), 3, 3, dtype=rays.dtype, device=rays.device)
        matrix.index_add_(0, point, weight[:, None, None] * across)
        target = torch.zeros(len(chosen), 3, dtype=rays.dtype, device=rays.device)
        target.index_add_(0, point, weight[:, None] * (across @ centers[..., None])[..., 0])
        positions = torch.linalg.solve(matrix + 1e-9 * eye, target)
        local, error = _reproject(state, positions, Observations(frame, point, pixel, weight))
        robust = observations.weight / (1 + (error / (max_error / 2)) ** 2)
        weight = (robust * (local[:, 2] > MIN_DEPTH)).clamp(min=1e-9)
    consistent = (error < max_error) & (local[:, 2] > MIN_DEPTH)
    count = torch.zeros(len(chosen), device=rays.device)
    count.index_add_(0, point, consistent.float())
    widest = _widest_cosine(rays, point, consistent, len(chosen))
    good = (count >= 2) & (widest < math.cos(math.radians(MIN_TRIANGULATION_ANGLE)))
    return chosen[good], positions[good]


def _reproject(
    state: SfmState, positions: Float[Tensor, "point 3"], observations: Observations
) -> tuple[Tensor, Tensor]:
    """Return camera coordinates and lengths of the reprojection errors of points."""
    local, error = replace(state, points=positions).reproject(observations)
    return local, error.norm(dim=-1)


def _widest_cosine(
    rays: Float[Tensor, "observation 3"],
    point: Int[Tensor, "observation"],
    consistent: Bool[Tensor, "observation"],
    points: int,
) -> Float[Tensor, "point"]:
    """Return the cosine of the widest angle to the ray of the first consistent observation."""
    order = torch.arange(len(point), device=rays.device).where(consistent, len(point))
    first = (
        torch.full((points,), len(point), device=rays.device)
        .scatter_reduce_(0, point, order, "amin")
        .clamp(max=len(point) - 1)
    )
    cosine = (rays * rays[first[point]]).sum(-1).where(consistent, 1.0)
    return torch.ones(points, dtype=rays.dtype, device=rays.device).scatter_reduce_(
        0, point, cosine, "amin"
    )
