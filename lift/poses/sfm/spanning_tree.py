"""Initial poses of DUSt3R's global alignment, along a tree of the most confident pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lift.geometry import align_similarity, pixel_centers, rigid
from lift.poses.sfm.correspondence import PairMaps

BASE_SCALE = 0.5
"""Geometric mean of the pairs' scales."""
FOCAL_ROUNDS = 10
"""Number of rounds of reweighted least squares for a focal length."""


@dataclass(frozen=True)
class PairPointMaps:
    """Points of both frames of a pair, in the camera axes of the first."""

    first: int
    """Index of the first frame."""
    second: int
    """Index of the second frame."""
    points: Float[Tensor, "height width 3"]
    """Points of the first frame."""
    confidence: Float[Tensor, "height width"]
    """Confidence of the first frame's points, at least 1."""
    second_points: Float[Tensor, "height width 3"]
    """Points of the second frame."""
    second_confidence: Float[Tensor, "height width"]
    """Confidence of the second frame's points, at least 1."""

    @staticmethod
    def from_batch(first: int, second: int, maps: PairMaps, index: int) -> "PairPointMaps":
        """Take one pair out of a batch.

        Args:
            first: Index of the first frame.
            second: Index of the second frame.
            maps: Predictions of the batch, with points of both frames.
            index: Number of the pair in the batch.

        Returns:
            The pair.
        """
        assert maps.second_points is not None
        assert maps.second_confidence is not None
        return PairPointMaps(
            first,
            second,
            maps.points[index],
            maps.confidence[index],
            maps.second_points[index],
            maps.second_confidence[index],
        )

    def frames(self) -> tuple[tuple[int, Tensor, Tensor], tuple[int, Tensor, Tensor]]:
        """Return index, points and confidence of both frames."""
        return (
            (self.first, self.points, self.confidence),
            (self.second, self.second_points, self.second_confidence),
        )


@dataclass(frozen=True)
class InitialAlignment:
    """Where the optimization starts."""

    poses: Float[Tensor, "frame 4 4"]
    """Camera-to-world poses."""
    focals: Float[Tensor, "frame"]
    """Focal lengths in pixels of the maps."""
    depth: Float[Tensor, "frame height width"]
    """z-depth."""
    similarities: Float[Tensor, "pair 3 4"]
    """Similarity of each pair to the world; its translation is before scaling."""


def initial_alignment(pairs: Sequence[PairPointMaps], frames: int) -> InitialAlignment:
    """Estimate poses and depth along the tree of the most confident pairs.

    A pair is moved to the points of its frame that is already in the world. Then the other frame's
    camera is estimated from its points.

    Args:
        pairs: Point maps of the pairs.
        frames: Number of frames.

    Returns:
        The start of the optimization.

    Raises:
        ValueError: If the pairs do not connect all frames.
    """
    height, width = pairs[0].confidence.shape
    world = _grow_tree(pairs, frames)
    similarities = []
    for pair in pairs:
        scale, rotation, translation = _align_to_world(pair, world)
        similarities.append(rigid(scale * rotation, translation))
    factor = BASE_SCALE / float(
        torch.stack([s[:3, 0].norm() for s in similarities]).log().mean().exp()
    )
    poses = []
    focals = []
    depths = []
    for frame in range(frames):
        focal = _frame_focal(pairs, frame, (height, width))
        points = world[frame].flatten(0, 1) * factor
        to_camera = _estimate_pose(_frame_confidence(pairs, frame), points, focal)
        poses.append(torch.linalg.inv(to_camera))
        focals.append(focal)
        depths.append((points @ to_camera[:3, :3].T + to_camera[:3, 3])[:, 2].view(height, width))
    depth = torch.stack(depths)
    similarities = [torch.cat([s[:3, :3] * factor, s[:3, 3:] * factor], 1) for s in similarities]
    # A pair's translation is a parameter before its scale is applied.
    similarities = [torch.cat([s[:, :3], s[:, 3:] / s[:, 0].norm()], 1) for s in similarities]
    return InitialAlignment(
        torch.stack(poses),
        depth.new_tensor(focals),
        depth.where(depth > 0, depth.median()),
        torch.stack(similarities),
    )


def _grow_tree(pairs: Sequence[PairPointMaps], frames: int) -> dict[int, Tensor]:
    """Return the points of each frame in the world of the most confident pair."""
    remaining = sorted(
        pairs, key=lambda pair: -float(pair.confidence.mean() * pair.second_confidence.mean())
    )
    world: dict[int, Tensor] = {}
    while len(world) < frames:
        pair = next(
            (pair for pair in remaining if (pair.first in world) != (pair.second in world)),
            None if world else remaining[0],
        )
        if pair is None:
            raise ValueError(
                f"the pairs tie {len(world)} of {frames} frames to one another; choose more pairs"
            )
        remaining.remove(pair)
        if not world:
            world[pair.first] = pair.points
            world[pair.second] = pair.second_points
            continue
        scale, rotation, translation = _align_to_world(pair, world)
        for frame, points, _ in pair.frames():
            world.setdefault(frame, scale * points @ rotation.T + translation)
    return world


def _align_to_world(pair: PairPointMaps, world: dict[int, Tensor]) -> tuple[float, Tensor, Tensor]:
    """Return the similarity that moves a pair to its points in the world."""
    source = []
    target = []
    confidences = []
    for frame, points, confidence in pair.frames():
        if frame in world:
            source.append(points.flatten(0, 1)[::5])
            target.append(world[frame].flatten(0, 1)[::5])
            confidences.append(confidence.flatten()[::5])
    return align_similarity(torch.cat(source), torch.cat(target), torch.cat(confidences).log())


def _frame_focal(pairs: Sequence[PairPointMaps], frame: int, size: tuple[int, int]) -> float:
    """Estimate a frame's focal length from the most confident pair with it as first frame."""
    candidates = [pair for pair in pairs if pair.first == frame]
    if not candidates:
        return float(max(size))
    return _estimate_focal(max(candidates, key=lambda pair: float(pair.confidence.mean())))


def _frame_confidence(pairs: Sequence[PairPointMaps], frame: int) -> Float[Tensor, "height width"]:
    """Return a frame's confidence in the pair where it is largest."""
    return max(
        (
            pair.confidence if pair.first == frame else pair.second_confidence
            for pair in pairs
            if frame in (pair.first, pair.second)
        ),
        key=lambda confidence: float(confidence.mean()),
    )


def _estimate_pose(
    confidence: Float[Tensor, "height width"], points: Float[Tensor, "pixel 3"], focal: float
) -> Float[Tensor, "4 4"]:
    """Estimate a frame's `world_to_camera` from its confident points."""
    import poselib

    height, width = confidence.shape
    pixels = pixel_centers(width, height).flatten(0, 1)
    confident = (confidence.flatten() >= confidence.median()).nonzero()[::7, 0].cpu()
    camera = {
        "model": "SIMPLE_PINHOLE",
        "width": width,
        "height": height,
        "params": [focal, width / 2, height / 2],
    }
    pose, _ = poselib.estimate_absolute_pose(
        pixels[confident].double().numpy(),
        points.cpu()[confident].double().numpy(),
        camera,
        {"max_reproj_error": 5.0, "seed": 0, "max_iterations": 10},
        {},
    )
    return rigid(torch.tensor(pose.R).float(), torch.tensor(pose.t).float()).to(points)


def _estimate_focal(pair: PairPointMaps) -> float:
    """Estimate the focal length of the first frame by Weiszfeld's algorithm."""
    height, width = pair.confidence.shape
    pixels = pixel_centers(width, height, pair.points.device) - pair.points.new_tensor(
        [width / 2, height / 2]
    )
    ray = (pair.points[..., :2] / pair.points[..., 2:]).nan_to_num(0.0, 0.0, 0.0)
    product = (ray * pixels).sum(-1)
    square = ray.square().sum(-1)
    focal = product.mean() / square.mean()
    for _ in range(FOCAL_ROUNDS):
        weight = 1 / (pixels - focal * ray).norm(dim=-1).clamp(min=1e-8)
        focal = (weight * product).mean() / (weight * square).mean()
    return float(focal.clamp(0.5 * max(height, width) / 2 / 1.732, 3.5 * max(height, width)))
