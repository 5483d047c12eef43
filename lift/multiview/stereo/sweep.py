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

_MAX_BATCH_COSTS = 2**31 - 1
"""Largest number of costs of all views that are aggregated at a time."""
_BYTES_PER_COST = 24
"""Free memory of a GPU for each of them."""


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
    return sweep_torch(images, homographies, offsets, neighbours, planes)


def sweep_torch(
    images: Float[Tensor, "view height width"],
    homographies: Float[Tensor, "view neighbour 3 3"],
    offsets: Float[Tensor, "view neighbour 3"],
    neighbours: Int[Tensor, "view neighbour"],
    planes: Float[Tensor, "view plane"],
) -> tuple[Float[Tensor, "view height width"], Float[Tensor, "view height width"]]:
    """Sweep with torch, for a GPU. Costs of several views are aggregated at a time.

    Args:
        images: Brightness in [0, 1].
        homographies: See `plane_geometry`.
        offsets: See `plane_geometry`.
        neighbours: Indices of the views that each view is compared with.
        planes: Inverse depths that rise in equal steps.

    Returns:
        Inverse depth and cost, see `sweep`.
    """
    count = max(1, _max_batch_costs(images.device) // (planes.shape[1] * images[0].numel()))
    inverse = torch.empty_like(images)
    costs = torch.empty_like(images)
    for start in range(0, len(images), count):
        views = range(start, min(start + count, len(images)))
        volumes = images.new_empty(len(views), planes.shape[1], *images.shape[1:])
        for volume, v in zip(volumes, views, strict=True):
            volume[:] = _volume(images, homographies[v], offsets[v], neighbours[v], planes[v], v)
        totals = _aggregate(volumes, images[start : start + count])
        for view, total, volume in zip(views, totals, volumes, strict=True):
            inverse[view], costs[view] = _choose(total, volume, planes[view])
    return inverse, costs


def _max_batch_costs(device: torch.device) -> int:
    """Return the number of costs that fit into the memory of a device."""
    if device.type != "cuda":
        return _MAX_BATCH_COSTS // 16
    free = torch.cuda.mem_get_info(device)[0]
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    # Another process may use the GPU, too, and the costs of one view take memory of their own.
    return min(_MAX_BATCH_COSTS, (free + unused) // (3 * _BYTES_PER_COST))


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
    valid_count = torch.stack([cost.isfinite() for cost in costs]).sum(0)
    half = (valid_count + 1) // 2
    total = torch.zeros_like(costs[0])
    for rank, cost in enumerate(_sorted(costs)):
        total += torch.where(rank < half, cost, 0.0)
    return torch.where(valid_count > 0, total / half.clamp(min=1), 1.0)


def _sorted(values: list[Tensor]) -> list[Tensor]:
    """Sort a few tensors of one shape in each element. torch sorts short axes far more slowly."""
    values = list(values)
    for end in range(len(values) - 1, 0, -1):
        for k in range(end):
            low = torch.minimum(values[k], values[k + 1])
            values[k + 1] = torch.maximum(values[k], values[k + 1])
            values[k] = low
    return values


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


def _aggregate(
    volumes: Float[Tensor, "view plane height width"], images: Float[Tensor, "view height width"]
) -> Float[Tensor, "view plane height width"]:
    """Sum the costs of the best paths from the four sides, in all views at a time."""
    total = torch.zeros_like(volumes)
    for axis in (2, 3):
        # [step, view, plane, pixel]: paths go along the rows, or along the columns.
        costs = volumes.movedim(axis, 0)
        change = images.movedim(axis - 1, 0).diff(dim=0).abs()
        penalties = (LARGE_STEP / (1 + change / EDGE))[:, :, None]
        sums = total.movedim(axis, 0)
        last = len(costs) - 1
        for steps in (range(1, last + 1), range(last - 1, -1, -1)):
            forward = steps.step > 0
            path = costs[0 if forward else last].clone()
            sums[0 if forward else last] += path
            for step in steps:
                path = _extend(costs[step], path, penalties[step - 1 if forward else step])
                sums[step] += path
    return total


def _extend(costs: Tensor, path: Tensor, large_step: Tensor) -> Tensor:
    """Extend all paths of a row or column by one step, [view, plane, pixel]."""
    lowest = path.amin(1, keepdim=True)
    best = torch.minimum(path, lowest + large_step)
    near = path + SMALL_STEP
    torch.minimum(best[:, 1:], near[:, :-1], out=best[:, 1:])
    torch.minimum(best[:, :-1], near[:, 1:], out=best[:, :-1])
    return best.add_(costs).sub_(lowest)


def _choose(total: Tensor, volume: Tensor, planes: Tensor) -> tuple[Tensor, Tensor]:
    """Choose the plane of lowest total cost, refined by a parabola, and its matching cost."""
    best = total.argmin(0)
    inner = best.clamp(1, len(planes) - 2)
    low, mid, high = (total.gather(0, (inner + k)[None])[0] for k in (-1, 0, 1))
    bend = low - 2 * mid + high
    shift = torch.where((bend > 1e-6) & (inner == best), 0.5 * (low - high) / bend, 0.0)
    inverse = planes[best] + shift * (planes[1] - planes[0])
    return inverse, volume.gather(0, best[None])[0]
