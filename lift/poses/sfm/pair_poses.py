"""Relative poses of pairs of frames from their matches and their depth."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lift.poses.sfm.initialization import RelativePose
from lift.poses.sfm.state import MIN_FRAME_POINTS
from lift.poses.sfm.tracks import Matches
from lift.types import Cameras

MIN_INLIERS = 0.3
"""Fraction of a pair's matches that must agree with its relative pose.

Of a hundred wrong matches, a dozen agree by chance.
"""
CHUNK = 16
"""Number of pairs per task of a thread."""


@dataclass(frozen=True)
class _PairData:
    """Matches of all pairs one after another, so that tensors are computed for all at once."""

    pairs: list[tuple[int, int]]
    """Frame indices of each pair."""
    bounds: list[slice]
    """Range of each pair's matches."""
    number: Int[Tensor, "match"]
    """Number of each match's pair."""
    index: Int[Tensor, "match 2"]
    """Indices of the keypoints in both frames."""
    score: Float[Tensor, "match"]
    """Scores of the matches."""
    local: Float[Tensor, "match 3"]
    """Points in camera coordinates of the first frame."""
    pixel: Float[Tensor, "match 2"]
    """Pixels in the second frame."""
    log_depth: Float[Tensor, "match"]
    """Log depth in the second frame."""


def estimate_relative_poses(
    matches: Sequence[Matches],
    keypoints: Sequence[Float[Tensor, "_ 2"]],
    log_depths: Sequence[Float[Tensor, "_"]],
    plan: Cameras,
    max_error: float,
) -> tuple[list[Matches], list[RelativePose]]:
    """Estimate the relative pose of each pair and drop matches that do not agree with it.

    Both directions of a pair become one. The pose follows from the first frame's depth and the
    planned intrinsics.

    Args:
        matches: Matches of pairs of frames, one or two items per pair.
        keypoints: Keypoints of each frame in pixels.
        log_depths: Log depth of the keypoints, up to one factor per frame.
        plan: Planned cameras.
        max_error: Reprojection error in pixels of a correct observation.

    Returns:
        The matches that agree, and the relative poses.
    """
    if not matches:
        return [], []
    data = _collect(matches, keypoints, log_depths, plan)
    intrinsics = plan.intrinsics.double().cpu()[:, [0, 0, 1], [0, 2, 2]].tolist()
    ransac = {
        "max_reproj_error": 1.5 * max_error,
        "seed": 0,
        "min_iterations": 30,
        "max_iterations": 2000,
    }
    inlier_matches: list[Matches] = []
    relative_poses: list[RelativePose] = []
    for k, pose, inlier in _estimate_poses(data, intrinsics, ransac):
        if inlier.sum() < max(2 * MIN_FRAME_POINTS, MIN_INLIERS * len(inlier)):
            continue
        bounds = data.bounds[k]
        index = torch.arange(bounds.start, bounds.stop)[inlier]
        first, second = data.pairs[k]
        rotation = torch.tensor(pose.R)
        translation = torch.tensor(pose.t)
        depth = data.local[index] @ rotation[2] + translation[2]
        log_scale = (depth.clamp(min=1e-9).log() - data.log_depth[index]).nanmedian()
        relative_poses.append(
            RelativePose(
                first, second, rotation, translation, float(log_scale.nan_to_num()), len(index)
            )
        )
        inlier_matches.append(Matches(first, second, data.index[index], data.score[index]))
    return inlier_matches, relative_poses


def _collect(
    matches: Sequence[Matches],
    keypoints: Sequence[Float[Tensor, "_ 2"]],
    log_depths: Sequence[Float[Tensor, "_"]],
    plan: Cameras,
) -> _PairData:
    """Concatenate the matches of all pairs and unproject them in the first frame."""
    by_pair: dict[tuple[int, int], list[Matches]] = {}
    for part in matches:
        by_pair.setdefault((part.first, part.second), []).append(part)
    pairs = list(by_pair)
    index = torch.cat([part.index for parts in by_pair.values() for part in parts])
    score = torch.cat([part.score for parts in by_pair.values() for part in parts])
    counts = torch.tensor([sum(len(part.index) for part in parts) for parts in by_pair.values()])
    number = torch.arange(len(pairs)).repeat_interleave(counts)
    ends = counts.cumsum(0).tolist()
    bounds = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    sizes = torch.tensor([len(points) for points in keypoints])
    start = sizes.cumsum(0) - sizes
    first, second = (start[torch.tensor(pairs)[number, side]] + index[:, side] for side in (0, 1))
    pixels = torch.cat(list(keypoints)).double()
    log_depth = torch.cat(list(log_depths))
    matrix = plan.intrinsics.double().cpu()
    columns = [matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, 0, 2], matrix[:, 1, 2]]
    lens = torch.stack(columns, -1).repeat_interleave(sizes, 0)[first]
    rays = (pixels[first] - lens[:, 2:]) / lens[:, :2]
    local = torch.cat([rays, torch.ones(len(first), 1)], -1) * log_depth[first, None].exp()
    return _PairData(pairs, bounds, number, index, score, local, pixels[second], log_depth[second])


def _estimate_poses(
    data: _PairData, intrinsics: list[list[float]], ransac: dict[str, Any]
) -> list[tuple[int, Any, np.ndarray]]:
    """Estimate the poses of all pairs with enough matches, in threads."""
    import poselib

    count = len(data.pairs)
    infinite = ~data.local.isfinite().all(1)
    usable = torch.bincount(data.number[infinite], minlength=count) == 0
    numbers = [
        k
        for k in range(count)
        if usable[k] and data.bounds[k].stop - data.bounds[k].start >= 2 * MIN_FRAME_POINTS
    ]
    local = data.local.numpy()
    pixels = data.pixel.numpy()

    def estimate(chunk: Iterable[int]) -> list[tuple[int, Any, np.ndarray]]:
        results = []
        for k in chunk:
            params = intrinsics[data.pairs[k][1]]
            camera = {
                "model": "SIMPLE_PINHOLE",
                "width": round(2 * params[1]),
                "height": round(2 * params[2]),
                "params": params,
            }
            pose, info = poselib.estimate_absolute_pose(
                pixels[data.bounds[k]], local[data.bounds[k]], camera, ransac, {}
            )
            results.append((k, pose, np.array(info["inliers"], bool)))
        return results

    chunks = (numbers[k : k + CHUNK] for k in range(0, len(numbers), CHUNK))
    with ThreadPoolExecutor() as pool:
        return [result for results in pool.map(estimate, chunks) for result in results]
