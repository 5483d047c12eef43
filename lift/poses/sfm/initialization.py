"""How incremental mapping starts: from relative poses or from a pair of frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, dijkstra
from torch import Tensor

from lift.poses.sfm.state import MIN_FRAME_POINTS, Observations, SfmState
from lift.runtime.parallel import parallel_map

MIN_TRIANGULATION_ANGLE = 1.0
"""Smallest angle between two rays, in degrees, that determines a point."""
MAX_INITIAL_ANGLE = 8.0
"""Angle between rays, in degrees, above which a pair's score does not grow."""
MAX_PAIRS = 40
"""Number of pairs to try for the start."""

Pose = tuple[Float[Tensor, "3 3"], Float[Tensor, "3"]]
"""Rotation and translation."""


class InitializationError(ValueError):
    """No frames show enough common points from two sides."""


@dataclass(frozen=True)
class RelativePose:
    """Pose of a frame relative to another, from their matches and their measured depth.

    A point x of the first camera is rotation @ x + translation in the second camera. The unit of
    length is that of the first frame's measured depth.
    """

    first: int
    """Index of the first frame."""
    second: int
    """Index of the second frame."""
    rotation: Float[Tensor, "3 3"]
    """Rotation from the first to the second camera."""
    translation: Float[Tensor, "3"]
    """Translation from the first to the second camera."""
    log_scale: float
    """Logarithm of the unit of the second frame's measured depth."""
    num_inliers: int
    """Number of matches that agree with the pose."""


def chain_relative_poses(state: SfmState, relative_poses: Sequence[RelativePose]) -> list[int]:
    """Register frames along the shortest paths from frame 0; more inliers make a path shorter.

    Args:
        state: State whose poses, scales and registered frames are set in place.
        relative_poses: Relative poses of pairs of frames.

    Returns:
        The registered frames, frame 0 first.

    Raises:
        InitializationError: If no pose leads from frame 0 to another frame.
    """
    frames = len(state.rotation)
    edges = {
        (edge.first, edge.second): edge
        for edge in sorted(relative_poses, key=lambda edge: edge.num_inliers)
    }
    lengths = np.array([1 / edge.num_inliers for edge in edges.values()])
    graph = csr_matrix((lengths, np.array(list(edges)).T), (frames, frames))
    order, parents = breadth_first_order(_shortest_path_tree(graph, frames), 0, directed=False)
    if len(order) < 2:
        raise InitializationError("no frame is tied to the input")
    state.registered[0] = True
    for frame in order[1:].tolist():
        parent = int(parents[frame])
        edge = edges.get((parent, frame))
        if edge is not None:
            _apply_relative_pose(state, edge)
        else:
            _apply_inverse_pose(state, edges[frame, parent])
        state.registered[frame] = True
    return order.tolist()


def _apply_relative_pose(state: SfmState, edge: RelativePose) -> None:
    """Set the second frame's pose from the first frame's."""
    rotation = edge.rotation.to(state.points)
    translation = edge.translation.to(state.points)
    first = edge.first
    second = edge.second
    state.rotation[second] = rotation @ state.rotation[first]
    state.translation[second] = (
        rotation @ state.translation[first] + state.log_scale[first].exp() * translation
    )
    state.log_scale[second] = state.log_scale[first] + edge.log_scale


def _apply_inverse_pose(state: SfmState, edge: RelativePose) -> None:
    """Set the first frame's pose from the second frame's."""
    rotation = edge.rotation.to(state.points)
    translation = edge.translation.to(state.points)
    first = edge.first
    second = edge.second
    state.log_scale[first] = state.log_scale[second] - edge.log_scale
    state.rotation[first] = rotation.T @ state.rotation[second]
    state.translation[first] = rotation.T @ (
        state.translation[second] - state.log_scale[first].exp() * translation
    )


def _shortest_path_tree(graph: csr_matrix, frames: int) -> csr_matrix:
    """Return the shortest paths from frame 0 to all others, as a graph."""
    _, parents = dijkstra(graph, directed=False, indices=0, return_predecessors=True)
    connected = (parents >= 0).nonzero()[0]
    edges = (parents[connected], connected)
    return csr_matrix((np.ones(len(connected)), edges), (frames, frames))


def find_initial_pair(
    state: SfmState,
    observations: Observations,
    max_error: float,
    covered: Bool[Tensor, "frame"] | None = None,
    member: int | None = None,
) -> tuple[int, int, Pose]:
    """Find the two frames that show most points under a large angle.

    Args:
        state: State with the frames' focal lengths and principal points.
        observations: Observed points.
        max_error: Reprojection error in pixels of a correct observation.
        covered: Frames that earlier starts registered. One of the two frames is not among them.
        member: Frame that is one of the two; any if None.

    Returns:
        The two frames, and the pose of the second relative to the first.

    Raises:
        InitializationError: If no such pair shows enough points from two sides.
    """
    best = None
    best_score = 0.0

    def estimate(pair: tuple[int, int]) -> tuple[Pose | None, float, int]:
        a, b = pair
        first, second, rays = _common_pixels(state, observations, a, b)
        cameras = (state.camera_model(a), state.camera_model(b))
        pose, inlier = _relative_pose(first, second, cameras, max_error / 2)
        if pose is None:
            return None, 0.0, 0
        return pose, _median_angle(rays[0], rays[1] @ pose[0], inlier), int(inlier.sum())

    device = state.points.device
    state = state.to("cpu")  # the pairs are many and small
    observations = observations.to("cpu")
    pairs = candidate_pairs(state, observations, max_error, covered, member)
    for (a, b), (pose, angle, count) in zip(pairs, parallel_map(estimate, pairs), strict=True):
        score = count * min(angle, MAX_INITIAL_ANGLE)
        enough = count >= 2 * MIN_FRAME_POINTS and angle > MIN_TRIANGULATION_ANGLE
        if pose is not None and enough and score > best_score:
            best = (a, b, (pose[0].to(device), pose[1].to(device)))
            best_score = score
    if best is None:
        raise InitializationError("no two frames show enough common points from two sides")
    return best


def candidate_pairs(
    state: SfmState,
    observations: Observations,
    max_error: float,
    covered: Bool[Tensor, "frame"] | None = None,
    member: int | None = None,
) -> list[tuple[int, int]]:
    """List pairs of frames that share points, the most promising first.

    Image motion predicts parallax at no cost, but it is not the same. So many pairs are returned.

    Args:
        state: State with the frames' focal lengths and principal points.
        observations: Observed points.
        max_error: Reprojection error in pixels of a correct observation.
        covered: Frames of which a pair contains at most one; none if None.
        member: Frame that every pair contains; any if None.

    Returns:
        Pairs of frame indices.
    """
    shape = (len(state.rotation), len(state.points))
    index = (observations.frame.cpu().numpy(), observations.point.cpu().numpy())
    visible = csr_matrix((np.ones(len(index[0]), np.float32), index), shape)
    common = (visible @ visible.T).tocoo()
    pairs = [
        (int(a), int(b), int(n))
        for a, b, n in zip(common.row, common.col, common.data, strict=False)
        if a < b and n >= 2 * MIN_FRAME_POINTS
    ]
    if covered is not None:
        is_covered = covered.tolist()
        pairs = [pair for pair in pairs if not (is_covered[pair[0]] and is_covered[pair[1]])]
    if member is not None:
        pairs = [pair for pair in pairs if member in pair[:2]]
    first = [pair[:2] for pair in sorted(pairs, key=lambda p: -p[2])[: 20 * MAX_PAIRS]]
    motions = parallel_map(lambda pair: _median_motion(state, observations, *pair), first)
    motion = dict(zip(first, motions, strict=True))
    pairs = [p for p in pairs if p[:2] in motion]
    pairs = sorted(pairs, key=lambda p: -p[2] * min(motion[p[:2]], 60 * max_error))
    return [p[:2] for p in pairs[:MAX_PAIRS]]


def _median_motion(state: SfmState, observations: Observations, a: int, b: int) -> float:
    """Return the median distance in pixels between two frames' observations of the same points."""
    first, second, _ = _common_pixels(state, observations, a, b)
    return float((first - second).norm(dim=-1).median())


def _common_pixels(
    state: SfmState, observations: Observations, a: int, b: int
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Return pixels and rays of the points that both frames show."""
    pixels = []
    for frame in (a, b):
        in_frame = observations.frame == frame
        pixel = observations.pixel.new_full((len(state.points), 2), torch.nan)
        pixel[observations.point[in_frame]] = observations.pixel[in_frame]
        pixels.append(pixel)
    both = ~(pixels[0].isnan() | pixels[1].isnan()).any(-1)
    first = pixels[0][both]
    second = pixels[1][both]
    return first, second, (state.rays(a, first), state.rays(b, second))


def _relative_pose(
    first: Tensor, second: Tensor, cameras: tuple[dict[str, Any], dict[str, Any]], max_error: float
) -> tuple[Pose | None, Tensor]:
    """Estimate the relative pose of two frames, and which matches agree with it."""
    import poselib

    ransac = {"max_epipolar_error": max_error, "seed": 0, "max_iterations": 2000}
    pose, info = poselib.estimate_relative_pose(
        first.cpu().numpy(), second.cpu().numpy(), *cameras, ransac, {}
    )
    inlier = torch.tensor(info["inliers"], dtype=torch.bool, device=first.device)
    if not bool(inlier.any()):
        return None, inlier
    return (torch.tensor(pose.R).to(first), torch.tensor(pose.t).to(first)), inlier


def _median_angle(first: Tensor, second: Tensor, inlier: Tensor) -> float:
    """Return the median angle in degrees between rays to the same points, in the same axes."""
    cosine = torch.cosine_similarity(first[inlier], second[inlier], dim=-1).clamp(-1, 1)
    return float(torch.rad2deg(cosine.acos()).median()) if bool(inlier.any()) else 0.0
