"""Matches of all pairs of frames, collected from a network's predictions."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lift.poses.sfm.correspondence import PairMaps, find_matches
from lift.poses.sfm.tracks import Matches
from lift.types import Cameras


class MatchCollector:
    """Collects the matches of all pairs, in both directions.

    Args:
        frames: Number of frames.
        plan: Planned cameras, for the frames' size.
        maps: Predictions of a pair, for the maps' size.
        max_anchors: Approximate number of pixels of a map that are matched.
    """

    def __init__(self, frames: int, plan: Cameras, maps: PairMaps, max_anchors: int) -> None:
        height, width = maps.confidence.shape[1:]
        self.scale = torch.tensor([plan.width / width, plan.height / height])
        step = max(1, round((height * width / max_anchors) ** 0.5))
        grid = torch.arange(height * width).view(height, width)
        self.anchors = grid[step // 2 :: step, step // 2 :: step].flatten()
        positions = torch.stack([self.anchors % width, self.anchors // width], -1) + 0.5
        self.keypoints = [[positions * self.scale] for _ in range(frames)]
        self.counts = [len(self.anchors)] * frames
        self.matches: list[Matches] = []

    def add(self, batch: Sequence[tuple[int, int]], maps: PairMaps) -> None:
        """Add the matches of a batch of pairs.

        Args:
            batch: Frame indices of the pairs.
            maps: Predictions of the pairs.
        """
        forwards = find_matches(maps, self.anchors, False)
        backwards = find_matches(maps, self.anchors, True)
        for k, (a, b) in enumerate(batch):
            if a != b:
                self._add_direction(a, b, *forwards[k])
                self._add_direction(b, a, *backwards[k])

    def _add_direction(
        self, source: int, target: int, index: Tensor, pixel: Tensor, score: Tensor
    ) -> None:
        """Add matches of the source's anchors to new keypoints of the target."""
        self.keypoints[target].append(pixel * self.scale)
        new = torch.arange(self.counts[target], self.counts[target] + len(pixel))
        self.counts[target] += len(pixel)
        pair = torch.stack([index, new], -1)
        if source > target:
            pair = pair.flip(1)
        self.matches.append(Matches(min(source, target), max(source, target), pair, score))


def matched_keypoints(
    keypoints: Sequence[Float[Tensor, "_ 2"]], matches: Sequence[Matches]
) -> list[Float[Tensor, "_ 2"]]:
    """Return the keypoints of each frame that have a match.

    Args:
        keypoints: Keypoints of each frame in pixels.
        matches: Matches of pairs of frames.

    Returns:
        Matched keypoints of each frame.
    """
    is_matched = [torch.zeros(len(points), dtype=torch.bool) for points in keypoints]
    for pair in matches:
        is_matched[pair.first][pair.index[:, 0]] = True
        is_matched[pair.second][pair.index[:, 1]] = True
    return [points[mask] for points, mask in zip(keypoints, is_matched, strict=True)]


def order_pairs(pairs: Sequence[tuple[int, int]], frames: int) -> list[tuple[int, int]]:
    """Direct and order pairs so that every frame is the first of a pair.

    A frame without a pair is paired with itself. Pairs with the same first frame are far apart in
    the order.

    Args:
        pairs: Frame indices of the pairs.
        frames: Number of frames.

    Returns:
        Frame indices of each pair, once.
    """
    counts = [0] * frames
    partner = list(range(frames))
    ordered = []
    for a, b in pairs:
        if counts[b] < counts[a]:
            a, b = b, a
        ordered.append((counts[a], a, b))
        counts[a] += 1
        partner[b] = a
    ordered += [(0, view, partner[view]) for view in range(frames) if not counts[view]]
    return [(a, b) for _, a, b in sorted(ordered)]
