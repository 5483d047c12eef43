"""What a render is held to."""

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from lift.harmonics import fused
from lift.training.similarity import ssim

__all__ = ["inverse_depth", "photometric", "ssim"]


def photometric(
    rgb: Float[Tensor, "view height width 3"], frames: UInt8[Tensor, "view height width 3"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean absolute difference, and mean structural similarity (`ssim`). Differentiable in `rgb`; on CUDA by kernels of our own."""
    if fused(rgb):
        from lift.training import similarity_triton

        return similarity_triton.photometric(rgb, frames)
    target = frames.to(rgb) / 255
    return (rgb - target).abs().mean(), ssim(rgb, target)


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
