"""Tracks: matches of pairs of frames, chained into points that several frames show."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lift.poses.sfm.state import Observations
from lift.runtime.jit import njit_cached


@dataclass(frozen=True)
class Matches:
    """Matches between the keypoints of two frames."""

    first: int
    """Index of the first frame."""
    second: int
    """Index of the second frame."""
    index: Int[Tensor, "match 2"]
    """Indices of the keypoints in the first and in the second frame."""
    score: Float[Tensor, "match"]
    """Scores of the matches; larger is better."""


def build_tracks(
    keypoints: Sequence[Float[Tensor, "_ 2"]], matches: Sequence[Matches]
) -> Observations:
    """Chain matches into tracks.

    Matches with the largest scores are chained first. A match that would put two keypoints of one
    frame into a track is ignored.

    Args:
        keypoints: Keypoints of each frame in pixels.
        matches: Matches of pairs of frames.

    Returns:
        One observation for each keypoint of a track, with weight 1.
    """
    counts = np.array([len(points) for points in keypoints])
    start = np.concatenate([[0], np.cumsum(counts)])
    if not matches:
        empty = torch.zeros(0, dtype=torch.long)
        pixels = torch.zeros(0, 2, dtype=torch.float64)
        return Observations(empty, empty, pixels, torch.zeros(0, dtype=torch.float64))
    first = np.concatenate([m.index[:, 0].cpu().numpy() + start[m.first] for m in matches])
    second = np.concatenate([m.index[:, 1].cpu().numpy() + start[m.second] for m in matches])
    scores = torch.cat([m.score for m in matches]).cpu()
    order = scores.argsort(descending=True, stable=True).numpy()
    frames = np.repeat(np.arange(len(counts)), counts)
    root = _chain_matches(first, second, order, frames, len(counts))
    is_member = np.zeros(len(root), np.bool_)
    is_member[first] = is_member[second] = True
    members = is_member.nonzero()[0]
    members = members[np.bincount(root[members], minlength=len(root))[root[members]] > 1]
    _, point = np.unique(root[members], return_inverse=True)
    frame = np.searchsorted(start, members, "right") - 1
    pixel = torch.cat([points.cpu() for points in keypoints]).double()[members]
    weight = torch.ones(len(members), dtype=torch.float64)
    return Observations(torch.from_numpy(frame), torch.from_numpy(point), pixel, weight)


@njit_cached()
def _chain_matches(first, second, order, frame, frames):
    """Return for each keypoint the keypoint that identifies its track."""
    words = (frames + 63) // 64
    root = np.arange(len(frame))
    visible = np.zeros((len(frame), words), np.uint64)
    for k in range(len(frame)):
        visible[k, frame[k] // 64] = np.uint64(1) << np.uint64(frame[k] % 64)
    for k in order:
        a = first[k]
        b = second[k]
        while root[a] != a:
            root[a] = root[root[a]]
            a = root[a]
        while root[b] != b:
            root[b] = root[root[b]]
            b = root[b]
        if a == b:
            continue
        clash = False
        for word in range(words):
            clash |= (visible[a, word] & visible[b, word]) != 0
        if not clash:
            root[b] = a
            for word in range(words):
                visible[a, word] |= visible[b, word]
    for k in range(len(frame)):
        a = k
        while root[a] != a:
            a = root[a]
        root[k] = a
    return root


def thin_observations(observations: Observations, max_count: int) -> Observations:
    """Keep fewer points, longest tracks first. More points improve cameras little and cost time.

    Args:
        observations: Observed points, at least one.
        max_count: Number of observations that every frame keeps, if it has as many.

    Returns:
        The observations of the points that are kept, with new point indices.
    """
    length = torch.bincount(observations.point)
    order = length.argsort(descending=True, stable=True)
    by_point = observations.point.argsort(stable=True)
    keep = _select_points(
        order.numpy(),
        (length.cumsum(0) - length).numpy(),
        length.numpy(),
        observations.frame[by_point].numpy(),
        int(observations.frame.max()) + 1,
        max_count,
    )
    new = torch.full((len(length),), -1)
    new[torch.from_numpy(keep)] = torch.arange(int(keep.sum()))
    subset = observations[new[observations.point] >= 0]
    return replace(subset, point=new[subset.point])


@njit_cached()
def _select_points(order, start, length, frame, frames, max_count):
    """Return which points are kept because one of their frames has too few so far."""
    count = np.zeros(frames, np.int64)
    keep = np.zeros(len(order), np.bool_)
    for point in order:
        for k in range(start[point], start[point] + length[point]):
            keep[point] |= count[frame[k]] < max_count
        if keep[point]:
            for k in range(start[point], start[point] + length[point]):
                count[frame[k]] += 1
    return keep
