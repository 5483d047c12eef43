"""Operations on inverse depth and on depth maps."""

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate


def from_relative(
    inverse: Float[Tensor, "height width"], far: float
) -> Float[Tensor, "height width"]:
    """Convert inverse depth, known up to scale and shift, to z-depth from 1 to `far`.

    The nearest 0.5 % of the pixels are clamped to depth 1, and the farthest 0.5 % to `far`. So a
    single outlier does not compress all other depths. A picture without contrast has depth 1.

    Args:
        inverse: Relative inverse depth.
        far: Largest depth, above 1.

    Returns:
        z-depth in [1, far].
    """
    flat = inverse.flatten()
    count = flat.numel()
    edge = max(round(0.005 * count), 1)
    low = flat.kthvalue(edge).values
    high = flat.kthvalue(count + 1 - edge).values
    nearness = (
        torch.ones_like(inverse) if high <= low else ((inverse - low) / (high - low)).clamp(0, 1)
    )
    return 1 / (1 / far + nearness * (1 - 1 / far))


def resize(
    values: Float[Tensor, "height width"], width: int, height: int
) -> Float[Tensor, "new_height new_width"]:
    """Resize a map bilinearly, with antialiasing.

    Args:
        values: The map.
        width: New width in pixels.
        height: New height in pixels.

    Returns:
        The resized map.
    """
    return interpolate(
        values[None, None],
        size=(height, width),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )[0, 0]


def guided_filter(
    guide: Float[Tensor, "3 height width"],
    values: Float[Tensor, "height width"],
    radius: int,
    epsilon: float,
) -> Float[Tensor, "height width"]:
    """Smooth values so that they step where the guide's colours do.

    In every window the result is an affine function of the guide's colours.

    Args:
        guide: Colours in [0, 1].
        values: The map to filter.
        radius: Half width of the window in pixels.
        epsilon: Variance of colours below which there is no edge.

    Returns:
        The filtered map.

    Reference:
        He et al., "Guided image filtering", ECCV 2010.
    """
    if values.is_cuda:
        return guided_filter_torch(guide, values, radius, epsilon)
    colors = guide.permute(1, 2, 0).cpu().numpy().astype(np.float32)
    level = values.cpu().numpy().astype(np.float32)

    def mean(a: np.ndarray) -> np.ndarray:
        return cv2.blur(a, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT)

    color_mean = mean(colors)
    level_mean = mean(level)
    pairs = mean((colors[..., :, None] * colors[..., None, :]).reshape(*level.shape, 9)).reshape(
        *level.shape, 3, 3
    )
    covariance = (
        pairs
        - color_mean[..., :, None] * color_mean[..., None, :]
        + epsilon * np.eye(3, dtype=np.float32)
    )
    cross = mean(colors * level[..., None]) - color_mean * level_mean[..., None]
    slope = np.linalg.solve(covariance, cross[..., None])[..., 0].astype(np.float32)
    offset = level_mean - (slope * color_mean).sum(-1)
    return torch.from_numpy((mean(slope) * colors).sum(-1) + mean(offset)).to(values.device)


def guided_filter_torch(
    guide: Float[Tensor, "3 height width"],
    values: Float[Tensor, "height width"],
    radius: int,
    epsilon: float,
) -> Float[Tensor, "height width"]:
    """Compute `guided_filter` on any device. It is faster on a GPU and slower on a CPU.

    Args:
        guide: Colours in [0, 1].
        values: The map to filter.
        radius: Half width of the window in pixels.
        epsilon: Variance of colours below which there is no edge.

    Returns:
        The filtered map.
    """
    colors = guide.float()
    level = values.float()[None]
    first = [0, 0, 0, 1, 1, 2]
    second = [0, 1, 2, 1, 2, 2]
    maps = torch.cat([colors, level, colors * level, colors[first] * colors[second]])
    means = _box_mean(maps, radius)
    color_mean = means[:3]
    level_mean = means[3]
    cross = means[4:7] - color_mean * level_mean
    covariance = means[7:] - color_mean[first] * color_mean[second]
    covariance[[0, 3, 5]] += epsilon
    slope = _solve_symmetric(covariance.double(), cross.double()).float()
    offset = level_mean - (slope * color_mean).sum(0)
    means = _box_mean(torch.cat([slope, offset[None]]), radius)
    return (means[:3] * colors).sum(0) + means[3]


def _box_mean(
    maps: Float[Tensor, "map height width"], radius: int
) -> Float[Tensor, "map height width"]:
    """Compute means over square windows. Maps are reflected at the border, as by cv2.blur."""
    size = 2 * radius + 1
    for axis in (1, 2):
        count = maps.shape[axis]
        index = torch.arange(-radius, count + radius, device=maps.device) % (2 * count)
        maps = maps.index_select(axis, torch.minimum(index, 2 * count - 1 - index))
        maps = avg_pool2d(maps, (size, 1) if axis == 1 else (1, size), stride=1)
    return maps


def _solve_symmetric(
    matrix: Float[Tensor, "6 height width"], right: Float[Tensor, "3 height width"]
) -> Float[Tensor, "3 height width"]:
    """Solve symmetric systems of three equations, given by xx, xy, xz, yy, yz and zz."""
    xx, xy, xz, yy, yz, zz = matrix
    a = yy * zz - yz * yz
    b = xz * yz - xy * zz
    c = xy * yz - xz * yy
    d = xx * zz - xz * xz
    e = xy * xz - xx * yz
    f = xx * yy - xy * xy
    x, y, z = right
    solution = torch.stack([a * x + b * y + c * z, b * x + d * y + e * z, c * x + e * y + f * z])
    return solution / (xx * a + xy * b + xz * c)
