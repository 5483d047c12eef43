"""Fuse the depths of the sweep with those of single pictures.

The sweep's depth counts where neighbours confirm it. Elsewhere the depth of a single picture
(`Reconstruction.depth`) is corrected locally. The logarithm of the ratio of both is known where the
sweep counts. A pyramid diffuses it over the picture.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from lift.geometry import inside, unproject
from lift.types import Cameras

DEPTH_TOLERANCE = 0.02
"""Relative difference of depth at which two views agree by one half."""
MIN_STEREO_WEIGHT = 0.5
"""Smallest weight with which the sweep's depth is used unchanged."""
FULL_CONFIRMATIONS = 2
"""Number of confirming neighbours for full confidence."""


def count_confirmations(
    depth: Float[Tensor, "view height width"],
    cameras: Cameras,
    neighbours: Int[Tensor, "view neighbour"],
) -> Float[Tensor, "view height width"]:
    """Count the neighbours that see the surface of a pixel at its depth.

    Args:
        depth: z-depth, 0 where unknown.
        cameras: One per view, of the maps' size.
        neighbours: Indices of the views that each view is compared with.

    Returns:
        Sum over the neighbours of 1 / (1 + (ln(depth / neighbour's depth) / DEPTH_TOLERANCE)^4).
    """
    out = torch.zeros_like(depth)
    for view in range(len(depth)):
        points = unproject(depth[view : view + 1], cameras[view]).flatten(0, 2)
        for other in neighbours[view].tolist():
            other_depth, z = sample_map(depth[other], points, cameras[other])
            both = (other_depth > 0) & (z > 0) & (depth[view].flatten() > 0)
            error = (z / other_depth).clamp(min=1e-6).log() / DEPTH_TOLERANCE
            out[view] += torch.where(both, 1 / (1 + error**4), 0.0).view_as(out[view])
    return out


def sample_map(
    values: Float[Tensor, "height width"], points: Float[Tensor, "point 3"], camera: Cameras
) -> tuple[Float[Tensor, "point"], Float[Tensor, "point"]]:
    """Sample a map at the pixels of world points.

    Args:
        values: A map of one view.
        points: World points.
        camera: The view's camera.

    Returns:
        Values and z-depths of the points. Both are 0 outside of the picture.
    """
    world = camera.world_to_camera[0]
    local = points @ world[:3, :3].T + world[:3, 3]
    z = local[:, 2]
    image = local @ camera.intrinsics[0].T
    pixels = image[:, :2] / z.clamp(min=1e-9)[:, None]
    visible = inside(pixels, camera) & (z > 1e-9)
    column, row = pixels.nan_to_num(0.0).clamp(-1e6, 1e6).long().unbind(-1)
    column = column.clamp(0, camera.width - 1)
    row = row.clamp(0, camera.height - 1)
    return torch.where(visible, values[row, column], 0.0), torch.where(visible, z, 0.0)


def complete_depth(
    stereo: Float[Tensor, "view height width"],
    weight: Float[Tensor, "view height width"],
    single: Float[Tensor, "view height width"],
) -> Float[Tensor, "view height width"]:
    """Use the sweep's depth where it counts, else the locally corrected depth of single pictures.

    Args:
        stereo: z-depth of the sweep.
        weight: Its weight, in [0, 1].
        single: z-depth of each picture by itself, 0 where unknown.

    Returns:
        z-depth, 0 where neither is known.
    """
    both = (stereo > 0) & (single > 0)
    ratio = torch.where(both, (stereo / single.clamp(min=1e-9)).clamp(min=1e-9).log(), 0.0)
    field = diffuse_values(ratio, weight * both)
    corrected = torch.where(single > 0, single * field.exp(), 0.0)
    certain = (stereo > 0) & (weight > MIN_STEREO_WEIGHT)
    return torch.where(certain, stereo, corrected)


def diffuse_values(
    values: Float[Tensor, "view height width"], weight: Float[Tensor, "view height width"]
) -> Float[Tensor, "view height width"]:
    """Continue values that are known at some pixels smoothly to all pixels.

    Args:
        values: The values.
        weight: Weight of each pixel, 0 where unknown.

    Returns:
        Weighted means over the smallest windows with enough weight. 0 if nothing is known.
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
    for level, count in zip(reversed(sums), reversed(counts), strict=True):
        out = interpolate(out, level.shape[2:], mode="bilinear", align_corners=False)
        # A twentieth of a pixel's weight outweighs the coarser level.
        out = (level + 0.05 * out) / (count + 0.05)
    return out[:, 0, :height, :width]


def find_contradictions(
    depth: Float[Tensor, "view height width"],
    weight: Float[Tensor, "view height width"],
    cameras: Cameras,
    neighbours: Int[Tensor, "view neighbour"],
    margin: float = 0.05,
) -> Float[Tensor, "view height width"]:
    """Measure how strongly neighbours contradict a pixel: they see past its depth.

    Args:
        depth: z-depth of every view.
        weight: Its certainty, in [0, 1].
        cameras: One per view, of the maps' size.
        neighbours: Indices of the views that each view is compared with.
        margin: Relative difference of depth at which a pixel counts as in front.

    Returns:
        The largest certainty with which a neighbour sees past the pixel, in [0, 1].
    """
    out = torch.zeros_like(depth)
    for view in range(len(depth)):
        points = unproject(depth[view : view + 1], cameras[view]).flatten(0, 2)
        for other in neighbours[view].tolist():
            other_depth, z = sample_map(depth[other], points, cameras[other])
            certainty, _ = sample_map(weight[other], points, cameras[other])
            past = (z > 0) & (other_depth > z * (1 + margin))
            out[view] = torch.maximum(
                out[view], torch.where(past, certainty, 0.0).view_as(out[view])
            )
    return out
