"""From what networks give to depth."""

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate


def from_relative(
    inverse: Float[Tensor, "height width"], far: float
) -> Float[Tensor, "height width"]:
    """z-depth from 1 to `far`, out of inverse depth that is known up to scale and shift only.

    The two are chosen so that the nearest half percent of the pixels lies at 1 and the farthest at `far`; both are cut off there,
    so that a stray pixel does not squeeze all others together. A picture without contrast lies at 1.
    """
    flat = inverse.flatten()
    count = flat.numel()
    edge = max(round(0.005 * count), 1)
    low, high = flat.kthvalue(edge).values, flat.kthvalue(count + 1 - edge).values
    nearness = (
        torch.ones_like(inverse) if high <= low else ((inverse - low) / (high - low)).clamp(0, 1)
    )
    return 1 / (1 / far + nearness * (1 - 1 / far))


def resized(
    values: Float[Tensor, "height width"], width: int, height: int
) -> Float[Tensor, "new_height new_width"]:
    """Bilinear, averaging where it shrinks."""
    return interpolate(
        values[None, None],
        size=(height, width),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )[0, 0]


def guided(
    guide: Float[Tensor, "3 height width"],
    values: Float[Tensor, "height width"],
    radius: int,
    epsilon: float,
) -> Float[Tensor, "height width"]:
    """Values as, in every window, an affine function of the guide's colours (in 0 to 1), so that they step where the picture does (guided filter, He
    et al., "Guided image filtering", ECCV 2010). radius: of a window, in pixels. epsilon: variance of colours that is no edge yet.
    """
    colors, level = (
        guide.permute(1, 2, 0).cpu().numpy().astype(np.float32),
        values.cpu().numpy().astype(np.float32),
    )

    def mean(a: np.ndarray) -> np.ndarray:
        return cv2.blur(a, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT)

    center, middle = mean(colors), mean(level)
    pairs = mean((colors[..., :, None] * colors[..., None, :]).reshape(*level.shape, 9)).reshape(
        *level.shape, 3, 3
    )
    covariance = (
        pairs - center[..., :, None] * center[..., None, :] + epsilon * np.eye(3, dtype=np.float32)
    )
    cross = mean(colors * level[..., None]) - center * middle[..., None]
    slope = np.linalg.solve(covariance, cross[..., None])[..., 0].astype(np.float32)
    offset = middle - (slope * center).sum(-1)
    return torch.from_numpy((mean(slope) * colors).sum(-1) + mean(offset)).to(values.device)
