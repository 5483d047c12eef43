"""What a render is held to."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import conv2d

_C1, _C2 = 0.01**2, 0.03**2


def ssim(a: Float[Tensor, "view height width 3"], b: Float[Tensor, "view height width 3"]) -> Float[Tensor, ""]:
    """Mean structural similarity with an 11-tap Gaussian window of sigma 1.5 (Wang et al., 2004), zero padding as in 3DGS trainers."""
    views, height, width, channels = a.shape
    offsets = torch.arange(-5, 6, device=a.device, dtype=a.dtype)
    window = torch.softmax(-(offsets**2) / (2 * 1.5**2), dim=0)
    x, y = a.permute(0, 3, 1, 2), b.permute(0, 3, 1, 2)
    maps = torch.stack([x, y, x * x, y * y, x * y]).reshape(-1, 1, height, width)
    blurred = conv2d(conv2d(maps, window[None, None, :, None], padding=(5, 0)), window[None, None, None], padding=(0, 5))
    mx, my, xx, yy, xy = blurred.reshape(5, views, channels, height, width)
    top = (2 * mx * my + _C1) * (2 * (xy - mx * my) + _C2)
    bottom = (mx * mx + my * my + _C1) * (xx - mx * mx + yy - my * my + _C2)
    return (top / bottom).mean()


def inverse_depth(
    rendered: Float[Tensor, "view height width"],
    alpha: Float[Tensor, "view height width"],
    target: Float[Tensor, "view height width"],
    confidence: Float[Tensor, "view height width"],
    unit: float,
) -> Float[Tensor, ""]:
    """Confidence-weighted mean absolute difference of inverse depths in 1 / unit, where the target is known and the render covers."""
    known: Bool[Tensor, "view height width"] = (target > 0) & (alpha > 0.5)
    weight = confidence * known
    difference = (1 / rendered.clamp(min=0.02 * unit) - 1 / target.clamp(min=0.02 * unit)).abs()
    return unit * (weight * difference).sum() / weight.sum().clamp(min=1)
