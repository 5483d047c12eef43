"""Matches of the maps that a network predicts for pairs of frames."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]
from torch import Tensor

from lift.poses.sfm.padding import Padding

MAX_ROUND_TRIP = 4.0
"""Distance in pixels between an anchor and the match of its match."""
MAX_POINT_DISTANCE = 0.03
"""Distance of points that count as one: radians, or fraction of depth."""
BEHIND_CAMERA = 1e3
"""Value of all coordinates of a point behind the camera."""
MAX_MATCHES = 200
"""Number of matches per pair and direction."""
CHUNK = {"cuda": 2**26, "cpu": 2**20}
"""Number of similarities that are kept in memory at once."""

PairMatches = tuple[Int[Tensor, "_"], Float[Tensor, "_ 2"], Float[Tensor, "_"]]
"""Indices of anchors, the matching pixels in the other map, and scores."""


@dataclass(frozen=True)
class PairMaps:
    """What a network predicts of pairs of frames, in the camera axes of the first frame."""

    points: Float[Tensor, "pair height width 3"]
    """Points of the first frame."""
    confidence: Float[Tensor, "pair height width"]
    """Confidence of these points, at least 1."""
    second_points: Float[Tensor, "pair height width 3"] | None = None
    """Points of the second frame."""
    second_confidence: Float[Tensor, "pair height width"] | None = None
    """Confidence of the second frame's points, at least 1."""
    descriptors: (
        tuple[
            Float[Tensor, "pair height width channel"], Float[Tensor, "pair height width channel"]
        ]
        | None
    ) = None
    """Unit descriptors of both frames, similar where the frames show the same point."""
    descriptor_confidence: (
        tuple[Float[Tensor, "pair height width"], Float[Tensor, "pair height width"]] | None
    ) = None
    """Confidence of the descriptors."""


class PairNetwork(ABC):
    """A network that encodes frames one by one and then predicts pairs of them."""

    has_descriptors = False
    """Whether it predicts descriptors; else frames are matched by their points."""

    def padding(self, height: int, width: int) -> Padding:
        """Return the padding that the network adds to frames, and removes from its maps.

        Args:
            height: Rows of a frame.
            width: Columns of a frame.
        """
        return Padding()

    @abstractmethod
    def encode(self, images: UInt8[Tensor, "frame height width 3"]) -> list[Any]:
        """Encode frames.

        Args:
            images: The frames.

        Returns:
            The features of each frame.
        """

    @abstractmethod
    def predict(self, first: Sequence[Any], second: Sequence[Any], both: bool) -> PairMaps:
        """Predict pairs of frames.

        Args:
            first: Features of the first frames.
            second: Features of the second frames.
            both: Whether to predict points of the second frames.

        Returns:
            The predictions.
        """

    @abstractmethod
    def batch_size(self) -> int:
        """Return the number of pairs that fit into the free memory."""


def find_matches(
    maps: PairMaps, anchors: Int[Tensor, "anchor"], backwards: bool
) -> list[PairMatches]:
    """Match the anchors of one frame to the other frame, for every pair.

    The match of an anchor's match must be close to the anchor. Its position is then refined by a
    parabola.

    Args:
        maps: Predictions of pairs.
        anchors: Indices of pixels of the first frame's map; of the second's if `backwards`.
        backwards: Whether to match from the second to the first frame.

    Returns:
        Matches of each pair.
    """
    height, width = maps.confidence.shape[1:]
    source, target, source_confidence, target_confidence = _features(maps, backwards)
    anchors = anchors.to(source.device)
    queries = source[:, anchors]
    nearest = _nearest(queries, target)
    matched = _gather(target, nearest)
    back = _nearest(matched, source)
    distance = (
        ((back % width - anchors % width) ** 2 + (back // width - anchors // width) ** 2)
        .double()
        .sqrt()
    )
    good = distance <= MAX_ROUND_TRIP
    if maps.descriptors is None:
        close = (queries - matched).norm(dim=-1) < MAX_POINT_DISTANCE
        good &= close & (queries[..., 2] < BEHIND_CAMERA)
    scores = (source_confidence[:, anchors] * target_confidence.gather(1, nearest)).sqrt()
    pixels = refine_matches(queries, target, nearest, height, width).float()
    good = good.cpu()
    counts = good.sum(1).tolist()
    parts = zip(
        good.nonzero()[:, 1].split(counts),
        pixels.cpu()[good].split(counts),
        scores.cpu()[good].split(counts),
        strict=True,
    )
    return [_limit_matches(*part) for part in parts]


def _features(maps: PairMaps, backwards: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return features and confidences of the frame to match from and of the other frame."""
    if maps.descriptors is not None:
        features = maps.descriptors
        confidence = maps.descriptor_confidence
    else:
        assert maps.second_points is not None
        assert maps.second_confidence is not None
        features = (_match_coordinates(maps.points), _match_coordinates(maps.second_points))
        confidence = (maps.confidence, maps.second_confidence)
    assert confidence is not None
    sides = (1, 0) if backwards else (0, 1)
    source, target = (features[side].flatten(1, 2).float() for side in sides)
    source_confidence, target_confidence = (confidence[side].flatten(1).float() for side in sides)
    return source, target, source_confidence, target_confidence


def _limit_matches(index: Tensor, pixels: Tensor, scores: Tensor) -> PairMatches:
    """Keep the best MAX_MATCHES of a random subset; the best of all lie close together."""
    if len(index) <= MAX_MATCHES:
        return index, pixels, scores
    generator = torch.Generator().manual_seed(0)
    subset = torch.randperm(len(index), generator=generator)[: 2 * MAX_MATCHES]
    best = subset[scores[subset].argsort(descending=True)[:MAX_MATCHES]]
    return index[best], pixels[best], scores[best]


def _match_coordinates(
    points: Float[Tensor, "pair height width 3"],
) -> Float[Tensor, "pair height width 3"]:
    """Convert points to direction and log depth, so that distances are relative to depth."""
    z = points[..., 2:]
    return torch.where(
        z > 1e-6,
        torch.cat([points[..., :2] / z.clamp(min=1e-6), z.clamp(min=1e-6).log()], -1),
        BEHIND_CAMERA,
    )


def _nearest(
    queries: Float[Tensor, "pair query channel"], target: Float[Tensor, "pair pixel channel"]
) -> Int[Tensor, "pair query"]:
    """Return the index of the nearest target of each query."""
    points = queries.shape[2] <= 3
    if queries.device.type == "cpu" and points:
        trees = (cKDTree(pair.numpy()) for pair in target)
        return torch.stack(
            [
                torch.from_numpy(tree.query(pair.numpy(), workers=-1)[1])
                for tree, pair in zip(trees, queries, strict=True)
            ]
        )
    half = None  # Half of the squared lengths; all descriptors have length 1.
    if points:
        # Without this, differences of large numbers would be inaccurate.
        center = target[:, ::97].median(1, keepdim=True).values
        queries = queries - center
        target = target - center
        half = target.square().sum(-1)[:, None] / 2
    chunk = CHUNK[queries.device.type] // target.shape[1]
    batch = max(1, chunk // max(1, queries.shape[1]))
    results = []
    for k in range(0, len(queries), batch):
        pairs = queries[k : k + batch]
        transposed = target[k : k + batch].mT
        offset = None if half is None else half[k : k + batch]
        parts = pairs.split(max(1, chunk // len(pairs)), 1)
        results.append(torch.cat([_most_similar(part, transposed, offset) for part in parts], 1))
    return torch.cat(results)


def _most_similar(
    queries: Float[Tensor, "pair query channel"],
    transposed: Float[Tensor, "pair channel pixel"],
    offset: Float[Tensor, "pair 1 pixel"] | None,
) -> Int[Tensor, "pair query"]:
    """Return the index of the largest inner product, less an offset."""
    if offset is None:
        return (queries @ transposed).argmax(-1)
    return torch.baddbmm(offset, queries, transposed, beta=-1).argmax(-1)


def refine_matches(
    queries: Float[Tensor, "pair query channel"],
    target: Float[Tensor, "pair pixel channel"],
    index: Int[Tensor, "pair query"],
    height: int,
    width: int,
) -> Float[Tensor, "pair query 2"]:
    """Refine matches by a parabola through the distances of neighbouring pixels.

    Args:
        queries: Features to match.
        target: Features of all pixels of the other frame's map.
        index: Index of the pixel nearest to each query.
        height: Height of the map in pixels.
        width: Width of the map in pixels.

    Returns:
        Positions (x, y) in pixels of the map.
    """
    position = torch.stack([index % width, index // width], -1).double() + 0.5
    for axis, (side, stride) in enumerate(((width, 1), (height, width))):
        coordinate = (index // stride) % side
        inner = (coordinate > 0) & (coordinate < side - 1)
        distance = [
            (queries - _gather(target, (index + k * stride).clamp(0, height * width - 1)))
            .square()
            .sum(-1)
            .double()
            for k in (-1, 0, 1)
        ]
        curvature = distance[0] - 2 * distance[1] + distance[2]
        shift = torch.where(
            inner & (curvature > 1e-12),
            (distance[0] - distance[2]) / (2 * curvature.clamp(min=1e-12)),
            0.0,
        )
        position[..., axis] += shift.clamp(-0.5, 0.5)
    return position


def _gather(
    features: Float[Tensor, "pair pixel channel"], index: Int[Tensor, "pair query"]
) -> Float[Tensor, "pair query channel"]:
    """Return the features at pixel indices."""
    return features.gather(1, index[..., None].expand(-1, -1, features.shape[2]))
