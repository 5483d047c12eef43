"""Fuse the depths of the sweep with those of single pictures.

The sweep's depth counts where neighbours confirm it. Elsewhere the depth of a single picture
(`Reconstruction.depth`) is corrected locally. The logarithm of the ratio of both is known where the
sweep counts. A pyramid diffuses it over the picture.
"""

import functools
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from lift.geometry import inside, unproject
from lift.runtime.parallel import parallel_map
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

    def count(view: int) -> Tensor:
        others = neighbours[view]
        points = unproject(depth[view : view + 1], cameras[view]).flatten(0, 2)
        (other_depth,), z = sample_maps([depth], points, cameras, others)
        both = (other_depth > 0) & (z > 0) & (depth[view].flatten() > 0)
        error = (z / other_depth).clamp(min=1e-6).log() / DEPTH_TOLERANCE
        agreement = torch.where(both, 1 / (1 + error**4), 0.0)
        return functools.reduce(torch.add, agreement, torch.zeros_like(agreement[0]))

    return _map_views(count, depth)


def sample_maps(
    maps: Sequence[Float[Tensor, "view height width"]],
    points: Float[Tensor, "point 3"],
    cameras: Cameras,
    views: Int[Tensor, "neighbour"],
) -> tuple[list[Float[Tensor, "neighbour point"]], Float[Tensor, "neighbour point"]]:
    """Sample maps of some views at the pixels of world points.

    Args:
        maps: Maps of all views.
        points: World points.
        cameras: One per view, of the maps' size.
        views: Indices of the views to sample.

    Returns:
        Values of each map, and z-depths of the points. All are 0 outside of the picture.
    """
    targets = cameras[views]
    local = points @ targets.world_to_camera[:, :3, :3].mT
    local = local + targets.world_to_camera[:, None, :3, 3]
    z = local[..., 2]
    image = local @ targets.intrinsics.mT
    pixels = image[..., :2] / z.clamp(min=1e-9)[..., None]
    visible = inside(pixels, cameras) & (z > 1e-9)
    column, row = pixels.nan_to_num(0.0).clamp(-1e6, 1e6).long().unbind(-1)
    column = column.clamp(0, cameras.width - 1)
    row = row.clamp(0, cameras.height - 1)
    index = (views[:, None] * cameras.height + row) * cameras.width + column
    values = [torch.where(visible, values.flatten()[index], 0.0) for values in maps]
    return values, torch.where(visible, z, 0.0)


def _map_views(
    function: Callable[[int], Tensor], maps: Float[Tensor, "view height width"]
) -> Float[Tensor, "view height width"]:
    """Compute a map of each view. A CPU computes as many views at a time as it has threads."""
    apply = parallel_map if maps.device.type == "cpu" else map
    return torch.stack(list(apply(function, range(len(maps))))).view_as(maps)


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

    def contradict(view: int) -> Tensor:
        points = unproject(depth[view : view + 1], cameras[view]).flatten(0, 2)
        (other_depth, certainty), z = sample_maps(
            [depth, weight], points, cameras, neighbours[view]
        )
        past = (z > 0) & (other_depth > z * (1 + margin))
        return torch.where(past, certainty, 0.0).amax(0)

    return _map_views(contradict, depth)
