"""Align the depths of many pictures to one world.

Depth networks leave scale and shift of inverse depth open, differently for every picture. z-depths
that are known at some pixels determine both.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import max_pool2d

from lift.depths import DepthEstimator
from lift.geometry import inside, project, unproject_pixels
from lift.runtime.parallel import parallel_map
from lift.types import Cameras, Depth, Frames, PointCloud

MIN_PIXELS = 12
"""Smallest number of reference pixels for an alignment."""

MIN_CONFIDENCE = 0.5
"""Smallest confidence of a pixel that becomes a point of the cloud."""


@dataclass(frozen=True)
class AlignedDepth:
    """z-depth of a picture in world units, with confidence."""

    depth: Float[Tensor, "height width"]
    """z-depth, 0 where unknown."""
    confidence: Float[Tensor, "height width"]
    """Confidence in [0, 1]."""
    success: bool
    """Whether there were enough reference pixels."""


def align_depth(
    estimate: Float[Tensor, "height width"],
    reference: Float[Tensor, "height width"],
    tolerance: float,
    shift: bool = True,
) -> AlignedDepth:
    """Align an estimated z-depth to a reference. In both, 0 is unknown.

    Inverse depth is fitted with scale and shift. Then depth is clamped to a third of the nearest
    and three times the farthest reference depth. Where there is a reference, confidence is
    1 / (1 + (ln(fitted / reference) / tolerance)^2): one half at a relative error of `tolerance`.
    Elsewhere it is the median of these values.

    Args:
        estimate: Estimated z-depth.
        reference: z-depth at some pixels, in world units.
        tolerance: Relative error at which confidence is 0.5, above 0.
        shift: Whether to fit a shift of inverse depth. It is left out where it would invert depth.

    Returns:
        The aligned depth. Its confidence is 0 if fewer than MIN_PIXELS pixels have both depths.
    """
    valid = estimate > 0
    both = valid & (reference > 0)
    if int(both.sum()) < MIN_PIXELS:
        return AlignedDepth(estimate, torch.zeros_like(estimate), False)
    inverse = 1 / estimate[valid]
    target = 1 / reference[both]
    scale, offset = fit_scale_shift(1 / estimate[both], target, shift)
    limits = float(target.min()) / 3, float(target.max()) * 3
    depth = torch.zeros_like(estimate)
    depth[valid] = 1 / (scale * inverse + offset).clamp(*limits)
    agreement = 1 / (1 + ((depth[both] / reference[both]).log() / tolerance) ** 2)
    confidence = valid * agreement.median()
    confidence[both] = agreement
    return AlignedDepth(depth, confidence, True)


def align_depths(
    frames: Frames,
    cameras: Cameras,
    points: Sequence[Float[Tensor, "_ 3"]],
    input_depth: Depth,
    estimator: DepthEstimator | None,
    tolerance: float,
) -> list[AlignedDepth]:
    """Align the depth of every frame to the world points that it shows.

    Args:
        frames: The pictures. Their own depth is used if they have one.
        cameras: One per frame.
        points: World points that each frame shows.
        input_depth: Depth of frame 0, for frames without depth.
        estimator: Estimates the depth of the other frames. Required for frames without depth.
        tolerance: Relative error at which confidence is 0.5, above 0.

    Returns:
        Aligned depth of every frame.
    """

    def estimate(view: int) -> Float[Tensor, "height width"]:
        if frames.depth is not None:
            return frames.depth[view]
        depth = input_depth
        if view > 0:
            assert estimator is not None, "frames without depth need an estimator"
            depth = estimator.draft(frames.images[view])
        return torch.where(depth.valid, depth.depth, 0.0)

    def align(view: int, depth: Float[Tensor, "height width"]) -> AlignedDepth:
        reference = track_depth(points[view], cameras[view]).to(depth)
        return align_depth(depth, reference, tolerance, shift=frames.depth is None)

    views = range(len(frames))
    estimates = zip(views, map(estimate, views), strict=True)
    return parallel_map(lambda item: align(*item), estimates)


def track_depth(points: Float[Tensor, "point 3"], camera: Cameras) -> Float[Tensor, "height width"]:
    """Render world points as z-depth at their pixels, 0 elsewhere.

    Args:
        points: World points.
        camera: One camera.

    Returns:
        z-depth.
    """
    depth = torch.zeros(camera.height, camera.width).to(points)
    if len(points):
        pixels, z = project(points, camera)
        visible = inside(pixels[0], camera) & (z[0] > 0)
        column, row = pixels[0][visible].long().unbind(-1)
        depth[row, column] = z[0][visible]
    return depth


def fit_scale_shift(
    source: Float[Tensor, "pixel"],
    target: Float[Tensor, "pixel"],
    shift: bool = True,
    weight: Float[Tensor, "pixel"] | None = None,
) -> tuple[float, float]:
    """Fit scale and shift between inverse depths, robust to outliers.

    The first estimate is the line through two pixels with the least median of residuals. Then least
    squares refine it, reweighted by Cauchy's function.

    Args:
        source: Inverse depths to map.
        target: Reference inverse depths.
        shift: Whether to fit a shift. Otherwise the scale is the median ratio.
        weight: Weight of each pixel in the least squares. None: all equal.

    Returns:
        Scale above 0, and shift. The median ratio and 0 if no line with a positive scale fits
        better.

    Reference:
        Rousseeuw, "Least median of squares regression", JASA 1984.
    """
    ratio = float((target / source).median())
    if not shift:
        return ratio, 0.0
    x = source.double()
    y = target.double()
    pairs = torch.randint(len(x), (2, 300), generator=torch.Generator().manual_seed(0)).to(x.device)
    run = x[pairs[1]] - x[pairs[0]]
    slopes = (y[pairs[1]] - y[pairs[0]]) / run
    # Two pixels of the same depth do not determine a shift.
    usable = (run.abs() > 1e-4 * x.abs().median()) & (slopes > 0)
    slopes = torch.cat([slopes.new_tensor([ratio]), slopes[usable]])
    start = pairs[0]
    offsets = torch.cat([slopes.new_zeros(1), y[start][usable] - slopes[1:] * x[start][usable]])
    sample = torch.linspace(0, len(x) - 1, min(len(x), 2000), device=x.device).long()
    residuals = slopes[:, None] * x[sample] + offsets[:, None] - y[sample]
    best = residuals.abs().median(dim=1).values.argmin()
    if best == 0:
        return ratio, 0.0
    prior_weight = None if weight is None else weight.double()
    return _fit_reweighted(x, y, float(slopes[best]), float(offsets[best]), prior_weight)


def _fit_reweighted(
    x: Float[Tensor, "pixel"],
    y: Float[Tensor, "pixel"],
    scale: float,
    offset: float,
    prior_weight: Float[Tensor, "pixel"] | None,
) -> tuple[float, float]:
    """Refine a line by least squares that is reweighted by Cauchy's function."""
    for _ in range(10):
        residual = scale * x + offset - y
        cauchy = 1 + (residual / (2 * residual.abs().median()).clamp(min=1e-12)) ** 2
        weight = (1.0 if prior_weight is None else prior_weight) / cauchy
        total = weight.sum()
        x_mean = (weight * x).sum() / total
        y_mean = (weight * y).sum() / total
        variance = (weight * (x - x_mean) ** 2).sum()
        if not float(variance) > 0:
            break
        slope = float((weight * (x - x_mean) * (y - y_mean)).sum() / variance)
        if not slope > 0:
            break
        scale = slope
        offset = float(y_mean - slope * x_mean)
    return scale, offset


def normalize_confidence(confidence: Float[Tensor, "*map"]) -> Float[Tensor, "*map"]:
    """Map a network's confidence from [1, inf) to [0, 1).

    The value 3, above which DUSt3R accepts a point, becomes MIN_CONFIDENCE.

    Args:
        confidence: Confidence of DUSt3R and its successors, at least 1.

    Returns:
        Confidence in [0, 1).
    """
    return (confidence - 1).clamp(min=0) / (confidence + 1)


def nearest_depth(
    points: Float[Tensor, "point 3"], camera: Cameras
) -> Float[Tensor, "height width"]:
    """Render the z-depth of the nearest point in every pixel, 0 where there is none.

    Args:
        points: World points.
        camera: One camera.

    Returns:
        z-depth.
    """
    pixels, z = project(points, camera)
    visible = inside(pixels[0], camera) & (z[0] > 1e-6)
    column, row = pixels[0][visible].floor().long().unbind(-1)
    depth = torch.full((camera.height * camera.width,), math.inf, dtype=z.dtype, device=z.device)
    depth.scatter_reduce_(0, row * camera.width + column, z[0][visible], "amin")
    return depth.where(depth.isfinite(), 0).unflatten(0, (camera.height, camera.width))


def visible_depth(
    points: Float[Tensor, "point 3"], camera: Cameras
) -> Float[Tensor, "height width"]:
    """Render `nearest_depth` without points that show through gaps of a nearer surface.

    A point is hidden if it is more than a tenth behind a neighbouring pixel.

    Args:
        points: World points.
        camera: One camera.

    Returns:
        z-depth, 0 where there is no visible point.
    """
    depth = nearest_depth(points, camera)
    inverse = torch.where(depth > 0, 1 / depth, 0.0)
    front = max_pool2d(inverse[None, None], 3, stride=1, padding=1)[0, 0]
    return torch.where((inverse > 0) & (inverse >= 0.9 * front), depth, 0.0)


def uncovered_pixels(depth: Float[Tensor, "height width"]) -> Bool[Tensor, "height width"]:
    """Find pixels without depth in themselves and in their eight neighbours.

    Args:
        depth: z-depth, 0 where unknown.

    Returns:
        A mask.
    """
    return max_pool2d(depth[None, None], 3, stride=1, padding=1)[0, 0] == 0


def merge_points(
    frames: Frames,
    cameras: Cameras,
    depth: Float[Tensor, "view height width"],
    confidence: Float[Tensor, "view height width"],
    max_points: int,
    min_confidence: float = MIN_CONFIDENCE,
) -> PointCloud:
    """Merge the pixels of all frames into one coloured point cloud.

    Args:
        frames: The pictures, which give the colours.
        cameras: One per frame.
        depth: z-depth, 0 where unknown.
        confidence: Confidence of the depth, in [0, 1].
        max_points: Largest number of points. An even subset is kept.
        min_confidence: Smallest confidence of a pixel that becomes a point.

    Returns:
        The point cloud.
    """
    # Views are read one by one, because all at once take gigabytes.
    apply = parallel_map if depth.device.type == "cpu" else map
    views = range(len(frames))
    good = list(apply(lambda k: (confidence[k] >= min_confidence) & (depth[k] > 0), views))
    counts = [int(count) for count in apply(torch.count_nonzero, good)]
    step = max(1, math.ceil(sum(counts) / max_points))

    def select(view: int) -> tuple[Tensor, Tensor]:
        index = _true_indices(good[view])[(-sum(counts[:view])) % step :: step]
        row, column = index // cameras.width, index % cameras.width
        pixels = torch.stack([column, row], -1) + 0.5
        z = depth[view].flatten()[index]
        points = unproject_pixels(pixels.to(z.dtype), z, cameras[view])
        return points, frames.images[view].flatten(0, 1)[index].float() / 255

    points, colors = zip(*apply(select, views), strict=True)
    return PointCloud(torch.cat(points), torch.cat(colors))


def _true_indices(mask: Bool[Tensor, "height width"]) -> Int[Tensor, "pixel"]:
    """Return the flat indices of the pixels in a mask."""
    if mask.device.type == "cpu":  # numpy is five times as fast as torch
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero()[:, 0]
