"""Estimate depth from neighbouring frames: a plane sweep with semi-global aggregation.

Each view is compared with a few neighbours on planes of equal inverse depth. The cost of a plane is
1 minus the normalised cross-correlation of a window. It is averaged over the better half of the
neighbours, which leaves out neighbours with an occlusion. Costs are aggregated along the four axis
directions. A parabola refines the best plane.

Reference:
    Hirschmueller, "Stereo processing by semiglobal matching and mutual information", PAMI 2008.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from lift.runtime.jit import parallel_lock, to_numpy
from lift.types import Cameras

RADIUS = 2
"""Half width of the matching window in pixels."""
SMALL_STEP = 0.08
"""Penalty of a change by one plane between neighbouring pixels."""
LARGE_STEP = 0.6
"""Penalty of a larger change where the picture is uniform."""
EDGE = 0.04
"""Change of brightness, in [0, 1], that halves the larger penalty."""
FLAT = (2 / 255) ** 2
"""Added to variances. It makes windows with little contrast match everything equally."""


def sweep(
    images: Float[Tensor, "view height width"],
    cameras: Cameras,
    neighbours: Int[Tensor, "view neighbour"],
    planes: Float[Tensor, "view plane"],
) -> tuple[Float[Tensor, "view height width"], Float[Tensor, "view height width"]]:
    """Estimate inverse depth of every pixel with its matching cost.

    Args:
        images: Brightness in [0, 1], on the device of the computation.
        cameras: One per view, of the images' size.
        neighbours: Indices of the views that each view is compared with.
        planes: Inverse depths, in 1 / world unit, that rise in equal steps. At least 3.

    Returns:
        Inverse depth, and the cost of the chosen plane in [0, 2], where 0 is a perfect match.
    """
    homographies, offsets = plane_geometry(cameras, neighbours)
    if images.device.type == "cpu":
        from lift.multiview.stereo import sweep_numba

        indexed_offsets = torch.cat([offsets, neighbours[..., None].to(offsets)], -1)
        arrays = [
            to_numpy(value.float()) for value in (images, homographies, indexed_offsets, planes)
        ]
        with parallel_lock:
            result = sweep_numba.sweep(*arrays, RADIUS, SMALL_STEP, LARGE_STEP, EDGE)
        return torch.from_numpy(result[0]), torch.from_numpy(result[1])
    inverse = []
    costs = []
    for view in range(len(images)):
        volume = _volume(
            images, homographies[view], offsets[view], neighbours[view], planes[view], view
        )
        view_inverse, view_cost = _choose(_aggregate(volume, images[view]), volume, planes[view])
        inverse.append(view_inverse)
        costs.append(view_cost)
    return torch.stack(inverse), torch.stack(costs)


def plane_geometry(
    cameras: Cameras, neighbours: Int[Tensor, "view neighbour"]
) -> tuple[Float[Tensor, "view neighbour 3 3"], Float[Tensor, "view neighbour 3"]]:
    """Compute H and o so that a pixel p at inverse depth w is at H p + w o in the neighbour.

    Args:
        cameras: One per view.
        neighbours: Indices of the views that each view is compared with.

    Returns:
        The matrices H and the vectors o.
    """
    world = cameras.world_to_camera.double()
    intrinsics = cameras.intrinsics.double()
    relative = world[neighbours] @ torch.linalg.inv(world)[:, None]
    homographies = (
        intrinsics[neighbours] @ relative[..., :3, :3] @ torch.linalg.inv(intrinsics)[:, None]
    )
    offsets = (intrinsics[neighbours] @ relative[..., :3, 3:])[..., 0]
    return homographies.float(), offsets.float()


def _volume(images, homographies, offsets, neighbours, planes, view) -> Tensor:
    """Compute costs [plane, height, width]: the mean of the better half of the neighbours."""
    height, width = images.shape[1:]
    image = images[view][None, None]
    y, x = torch.meshgrid(
        torch.arange(height, device=images.device) + 0.5,
        torch.arange(width, device=images.device) + 0.5,
        indexing="ij",
    )
    pixels = torch.stack([x, y, torch.ones_like(x)], -1)
    costs = []
    for k in range(len(neighbours)):
        image_point = pixels @ homographies[k].T + planes[:, None, None, None] * offsets[k]
        depth = image_point[..., 2:]
        position = image_point[..., :2] / depth.clamp(min=1e-6)
        size = position.new_tensor([width, height])
        inside = ((position >= 0.5) & (position < size - 0.5)).all(-1) & (depth[..., 0] > 1e-6)
        other = images[neighbours[k]].expand(len(planes), 1, height, width)
        warped = grid_sample(other, 2 * position / size - 1, align_corners=False)
        warped = torch.where(inside[:, None], warped, image)
        cost = _correlation_cost(image, warped)
        costs.append(torch.where(inside, cost[:, 0], torch.inf))
    ordered = torch.stack(costs).sort(0).values
    valid_count = ordered.isfinite().sum(0)
    half = (valid_count + 1) // 2
    rank = torch.arange(len(ordered), device=images.device)[:, None, None, None]
    total = torch.where(rank < half, ordered, 0.0).sum(0)
    return torch.where(valid_count > 0, total / half.clamp(min=1), 1.0)


def _correlation_cost(image: Tensor, warped: Tensor) -> Tensor:
    """Compute 1 - normalised cross-correlation over windows."""

    def box(values: Tensor) -> Tensor:
        return avg_pool2d(values, 2 * RADIUS + 1, 1, RADIUS, count_include_pad=False)

    mean = box(image)
    warped_mean = box(warped)
    variance = (box(image * image) - mean * mean).clamp(min=0) + FLAT
    warped_variance = (box(warped * warped) - warped_mean * warped_mean).clamp(min=0) + FLAT
    covariance = box(image * warped) - mean * warped_mean
    return (1 - covariance / (variance * warped_variance).sqrt()).clamp(max=1.9)


def _aggregate(volume: Float[Tensor, "plane height width"], image: Tensor) -> Tensor:
    """Sum the costs of the best paths from the four sides."""
    total = torch.zeros_like(volume)
    for axis in (1, 2):
        for reverse in (False, True):
            costs = volume.movedim(axis, 0)
            picture = image.movedim(axis - 1, 0)
            if reverse:
                costs = costs.flip(0)
                picture = picture.flip(0)
            paths = [costs[0]]
            for step in range(1, len(costs)):
                change = (picture[step] - picture[step - 1]).abs()
                paths.append(_extend(costs[step], paths[-1], LARGE_STEP / (1 + change / EDGE)))
            summed = torch.stack(paths)
            total += (summed.flip(0) if reverse else summed).movedim(0, axis)
    return total


def _extend(costs: Tensor, path: Tensor, large_step: Tensor) -> Tensor:
    """Extend all paths of a row or column by one step, [plane, pixel]."""
    lowest = path.amin(0)
    best = torch.minimum(path, lowest + large_step)
    best[1:] = torch.minimum(best[1:], path[:-1] + SMALL_STEP)
    best[:-1] = torch.minimum(best[:-1], path[1:] + SMALL_STEP)
    return costs + best - lowest


def _choose(total: Tensor, volume: Tensor, planes: Tensor) -> tuple[Tensor, Tensor]:
    """Choose the plane of lowest total cost, refined by a parabola, and its matching cost."""
    best = total.argmin(0)
    inner = best.clamp(1, len(planes) - 2)
    low, mid, high = (total.gather(0, (inner + k)[None])[0] for k in (-1, 0, 1))
    bend = low - 2 * mid + high
    shift = torch.where((bend > 1e-6) & (inner == best), 0.5 * (low - high) / bend, 0.0)
    inverse = planes[best] + shift * (planes[1] - planes[0])
    return inverse, volume.gather(0, best[None])[0]
