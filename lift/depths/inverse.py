"""Operations on inverse depth and on depth maps."""

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate


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
