"""Bringing the depths of many pictures into one world.

Depth networks leave the scale and the shift of inverse depth open, differently for every picture. Both follow from geometry that is
already placed: z-depths known at some pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import max_pool2d

from lift.depths import DepthEstimator
from lift.geometry import inside, project, unproject
from lift.types import Cameras, Depth, Frames, PointCloud

FEWEST = 12
"""Known pixels with which a frame's depth can be placed."""

CONFIDENT = 0.5
"""From here on a pixel is worth a point of the cloud."""


@dataclass(frozen=True)
class Placed:
    """z-depth of a picture in the world, and how far it can be trusted; `found` says whether there was enough to go by."""

    depth: Float[Tensor, "height width"]
    confidence: Float[Tensor, "height width"]
    found: bool


def place(
    estimate: Float[Tensor, "height width"],
    known: Float[Tensor, "height width"],
    tolerance: float,
    shift: bool = True,
) -> Placed:
    """Aligns an estimated z-depth to known ones; 0 is unknown, in both.

    Inverse depth is fitted with scale and shift (only scale if `shift` is False or a shift would turn it over), then depth is bounded
    to a third of the nearest and three times the farthest known one. Confidence is 1 / (1 + (ln(fitted / known) / tolerance)^2) where
    depth is known, elsewhere the median of that: half at a relative error of `tolerance`. With fewer than FEWEST known pixels it is 0.
    """
    valid = estimate > 0
    both = valid & (known > 0)
    if int(both.sum()) < FEWEST:
        return Placed(estimate, torch.zeros_like(estimate), False)
    inverse, target = 1 / estimate[valid], 1 / known[both]
    scale, offset = fit(1 / estimate[both], target, shift)
    limits = float(target.min()) / 3, float(target.max()) * 3
    depth = torch.zeros_like(estimate)
    depth[valid] = 1 / (scale * inverse + offset).clamp(*limits)
    agreement = 1 / (1 + ((depth[both] / known[both]).log() / tolerance) ** 2)
    confidence = valid * agreement.median()
    confidence[both] = agreement
    return Placed(depth, confidence, True)


def place_all(
    frames: Frames,
    cameras: Cameras,
    points: Sequence[Float[Tensor, "_ 3"]],
    first: Depth,
    estimator: DepthEstimator | None,
    tolerance: float,
) -> list[Placed]:
    """Depth of every frame, the prior's or estimated (the input's is `first`), aligned to the world points that were seen in it."""
    out = []
    for view in range(len(frames)):
        if frames.depth is not None:
            estimate = frames.depth[view]
        else:
            given = first if view == 0 else estimator.draft(frames.images[view])
            estimate = torch.where(given.valid, given.depth, 0.0)
        known = track_depth(points[view], cameras[view]).to(estimate)
        out.append(place(estimate, known, tolerance, shift=frames.depth is None))
    return out


def track_depth(points: Float[Tensor, "point 3"], camera: Cameras) -> Float[Tensor, "height width"]:
    """z-depth of world points at the pixels they fall on, 0 elsewhere."""
    known = torch.zeros(camera.height, camera.width).to(points)
    if len(points):
        pixels, z = project(points, camera)
        there = inside(pixels[0], camera) & (z[0] > 0)
        column, row = pixels[0][there].long().unbind(-1)
        known[row, column] = z[0][there]
    return known


def fit(
    source: Float[Tensor, "pixel"],
    target: Float[Tensor, "pixel"],
    shift: bool = True,
    weight: Float[Tensor, "pixel"] | None = None,
) -> tuple[float, float]:
    """Scale and shift that bring `source` to `target`, both inverse depths, where most of them agree: the line through two pixels with
    the least median of residuals (Rousseeuw, "Least median of squares regression", 1984), then least squares reweighted by Cauchy's
    function, times `weight`. Only the scale, the median ratio, if `shift` is False or no line with a positive scale does better.
    """
    ratio = float((target / source).median())
    if not shift:
        return ratio, 0.0
    x, y = source.double(), target.double()
    pairs = torch.randint(len(x), (2, 300), generator=torch.Generator().manual_seed(0)).to(x.device)
    run = x[pairs[1]] - x[pairs[0]]
    slopes = (y[pairs[1]] - y[pairs[0]]) / run
    fine = (run.abs() > 1e-4 * x.abs().median()) & (
        slopes > 0
    )  # all at one depth: a shift says nothing
    slopes = torch.cat([slopes.new_tensor([ratio]), slopes[fine]])
    offsets = torch.cat([slopes.new_zeros(1), y[pairs[0]][fine] - slopes[1:] * x[pairs[0]][fine]])
    some = torch.linspace(0, len(x) - 1, min(len(x), 2000), device=x.device).long()
    best = (
        (slopes[:, None] * x[some] + offsets[:, None] - y[some]).abs().median(dim=1).values.argmin()
    )
    scale, offset = float(slopes[best]), float(offsets[best])
    if best == 0:
        return ratio, 0.0
    given = 1.0 if weight is None else weight.double()
    for _ in range(10):
        residual = scale * x + offset - y
        counts = given / (1 + (residual / (2 * residual.abs().median()).clamp(min=1e-12)) ** 2)
        total = counts.sum()
        mx, my = (counts * x).sum() / total, (counts * y).sum() / total
        spread = (counts * (x - mx) ** 2).sum()
        slope = float((counts * (x - mx) * (y - my)).sum() / spread) if float(spread) > 0 else 0.0
        if not slope > 0:
            break
        scale, offset = slope, float(my - slope * mx)
    return scale, offset


def trusted(confidence: Float[Tensor, "*map"]) -> Float[Tensor, "*map"]:
    """From a network's confidence, 1 and more, to 0..1: CONFIDENT at 3, from where on DUSt3R takes a point for good."""
    return (confidence - 1).clamp(min=0) / (confidence + 1)


def nearest(points: Float[Tensor, "point 3"], camera: Cameras) -> Float[Tensor, "height width"]:
    """z-depth of the nearest point in every pixel of one camera, 0 where there is none."""
    pixels, z = project(points, camera)
    there = inside(pixels[0], camera) & (z[0] > 1e-6)
    column, row = pixels[0][there].floor().long().unbind(-1)
    depth = torch.full((camera.height * camera.width,), math.inf, dtype=z.dtype, device=z.device)
    depth.scatter_reduce_(0, row * camera.width + column, z[0][there], "amin")
    return depth.where(depth.isfinite(), 0).unflatten(0, (camera.height, camera.width))


def seen(points: Float[Tensor, "point 3"], camera: Cameras) -> Float[Tensor, "height width"]:
    """`nearest` without points that show through the gaps of a nearer surface, more than a tenth behind a neighbouring pixel."""
    depth = nearest(points, camera)
    inverse = torch.where(depth > 0, 1 / depth, 0.0)
    front = max_pool2d(inverse[None, None], 3, stride=1, padding=1)[0, 0]
    return torch.where((inverse > 0) & (inverse >= 0.9 * front), depth, 0.0)


def uncovered(known: Float[Tensor, "height width"]) -> Bool[Tensor, "height width"]:
    """Pixels with nothing known in or beside them."""
    return max_pool2d(known[None, None], 3, stride=1, padding=1)[0, 0] == 0


def merged(
    frames: Frames,
    cameras: Cameras,
    depth: Float[Tensor, "view height width"],
    confidence: Float[Tensor, "view height width"],
    most: int,
    least: float = CONFIDENT,
) -> PointCloud:
    """The points of all pixels of at least the confidence `least`, coloured by their frames; evenly fewer of them so that they are at most `most`."""
    good = (confidence >= least) & (depth > 0)
    step = max(1, math.ceil(int(good.sum()) / most))
    points, colors = [], []
    start = 0
    for view in range(len(frames)):  # one by one: all at once are gigabytes
        index = good[view].flatten().nonzero()[:, 0]
        taken = index[(-start) % step :: step]
        start += len(index)
        points.append(unproject(depth[view : view + 1], cameras[view]).flatten(0, 2)[taken])
        colors.append(frames.images[view].flatten(0, 1)[taken].float() / 255)
    return PointCloud(torch.cat(points), torch.cat(colors))
