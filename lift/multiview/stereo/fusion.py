"""Which depths the frames agree on, and what to put where they do not.

Depth of the sweep counts where neighbours confirm it. Elsewhere the depth of a single picture
(`Reconstruction.depth`) is brought to it locally: the logarithm of their ratio, known where the
sweep counts, is spread over the picture by a pyramid.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from lift.geometry import inside, unproject
from lift.types import Cameras

AGREEMENT = 0.02
"""Relative difference of depth up to which two views agree; for each this counts half."""
CERTAIN = 0.5
"""Weight from which on the sweep's depth is taken as it is."""
ENOUGH = 2
"""Neighbours whose full agreement makes a depth certain."""


def confirmed(
    depth: Float[Tensor, "view height width"],
    cameras: Cameras,
    neighbours: Int[Tensor, "view neighbour"],
) -> Float[Tensor, "view height width"]:
    """How many neighbours see the surface of a pixel where it is said to lie.

    Args:
        depth: z-depth, 0 where unknown.
        cameras: One per view, of the maps' size.
        neighbours: Indices of the views that are asked.

    Returns:
        Sum over the neighbours of 1 / (1 + (ln(own / theirs) / AGREEMENT)^4).
    """
    out = torch.zeros_like(depth)
    for view in range(len(depth)):
        points = unproject(depth[view : view + 1], cameras[view]).flatten(0, 2)
        for other in neighbours[view].tolist():
            theirs, z = sampled(depth[other], points, cameras[other])
            both = (theirs > 0) & (z > 0) & (depth[view].flatten() > 0)
            away = (z / theirs).clamp(min=1e-6).log() / AGREEMENT
            out[view] += torch.where(both, 1 / (1 + away**4), 0.0).view_as(out[view])
    return out


def sampled(
    values: Float[Tensor, "height width"], points: Float[Tensor, "point 3"], camera: Cameras
) -> tuple[Float[Tensor, "point"], Float[Tensor, "point"]]:
    """A map's value at the pixel that world points fall on, and their z-depth; 0 outside."""
    world = camera.world_to_camera[0]
    local = points @ world[:3, :3].T + world[:3, 3]
    z = local[:, 2]
    image = local @ camera.intrinsics[0].T
    pixels = image[:, :2] / z.clamp(min=1e-9)[:, None]
    there = inside(pixels, camera) & (z > 1e-9)
    column, row = pixels.nan_to_num(0.0).clamp(-1e6, 1e6).long().unbind(-1)
    column = column.clamp(0, camera.width - 1)
    row = row.clamp(0, camera.height - 1)
    return torch.where(there, values[row, column], 0.0), torch.where(there, z, 0.0)


def completed(
    stereo: Float[Tensor, "view height width"],
    weight: Float[Tensor, "view height width"],
    single: Float[Tensor, "view height width"],
) -> Float[Tensor, "view height width"]:
    """The sweep's depth where it counts, else that of single pictures, brought to it locally.

    Args:
        stereo: z-depth of the sweep.
        weight: How far it counts, in [0, 1].
        single: z-depth of each picture by itself, 0 where unknown.

    Returns:
        z-depth, 0 where neither is known.
    """
    known = (stereo > 0) & (single > 0)
    ratio = torch.where(known, (stereo / single.clamp(min=1e-9)).clamp(min=1e-9).log(), 0.0)
    field = spread(ratio, weight * known)
    brought = torch.where(single > 0, single * field.exp(), 0.0)
    certain = (stereo > 0) & (weight > CERTAIN)
    return torch.where(certain, stereo, brought)


def spread(
    values: Float[Tensor, "view height width"], weight: Float[Tensor, "view height width"]
) -> Float[Tensor, "view height width"]:
    """Values known at some pixels, smoothly continued to all: averages over growing windows.

    Args:
        values: The known values.
        weight: How far each counts; 0 where unknown.

    Returns:
        Weighted means over the smallest windows that hold enough, 0 if nothing is known.
    """
    height, width = values.shape[1:]
    sums = [(weight * values)[:, None]]
    counts = [weight[:, None]]
    while min(sums[-1].shape[2:]) > 2:
        sums.append(avg_pool2d(sums[-1], 2, ceil_mode=True, count_include_pad=False))
        counts.append(avg_pool2d(counts[-1], 2, ceil_mode=True, count_include_pad=False))
    total = sums[-1].sum((2, 3), keepdim=True)
    mean = total / counts[-1].sum((2, 3), keepdim=True).clamp(min=1e-9)
    out = mean.expand_as(sums[-1])
    for own, count in zip(reversed(sums), reversed(counts), strict=True):
        out = interpolate(out, own.shape[2:], mode="bilinear", align_corners=False)
        # Four full pixels' worth of evidence outweigh what is known from further away.
        out = (own + 0.05 * out) / (count + 0.05)
    return out[:, 0, :height, :width]


def in_front(
    depth: Float[Tensor, "view height width"],
    weight: Float[Tensor, "view height width"],
    cameras: Cameras,
    neighbours: Int[Tensor, "view neighbour"],
    margin: float = 0.05,
) -> Float[Tensor, "view height width"]:
    """How far neighbours contradict a pixel: they see, surely, past where it is said to lie.

    Args:
        depth: z-depth of every view.
        weight: How certain it is, in [0, 1].
        cameras: One per view, of the maps' size.
        neighbours: Indices of the views that are asked.
        margin: Relative difference of depth from which on a pixel lies in front.

    Returns:
        The largest certainty with which a neighbour sees past the pixel, in [0, 1].
    """
    out = torch.zeros_like(depth)
    for view in range(len(depth)):
        points = unproject(depth[view : view + 1], cameras[view]).flatten(0, 2)
        for other in neighbours[view].tolist():
            theirs, z = sampled(depth[other], points, cameras[other])
            sure, _ = sampled(weight[other], points, cameras[other])
            past = (z > 0) & (theirs > z * (1 + margin))
            out[view] = torch.maximum(out[view], torch.where(past, sure, 0.0).view_as(out[view]))
    return out
