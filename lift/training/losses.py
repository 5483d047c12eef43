"""Terms of the training loss."""

from typing import cast

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from lift.runtime.jit import can_use_numba, can_use_triton
from lift.training.similarity import ssim

__all__ = ["inverse_depth", "photometric", "reweight", "ssim", "warm_up", "weighted_means"]

_WARM_UP_SIZE = 16
"""Side in pixels of the pictures that compile the kernels."""


def photometric(
    rgb: Float[Tensor, "view height width 3"], frames: UInt8[Tensor, "view height width 3"]
) -> tuple[Float[Tensor, "view"], Float[Tensor, ""]]:
    """Compare renders with frames. Float32 tensors use compiled kernels.

    Args:
        rgb: Rendered colours in [0, 1]. The results are differentiable in them.
        frames: Colours of the frames in [0, 255].

    Returns:
        Mean absolute difference of each view, and mean structural similarity (`ssim`) of all views.
    """
    if can_use_triton(rgb):
        from lift.training.kernels import loss_triton

        return loss_triton.photometric(rgb, frames)
    if can_use_numba(rgb):
        from lift.training.kernels import loss_numba

        return loss_numba.photometric(rgb, frames)
    target = frames.to(rgb) / 255
    return (rgb - target).abs().mean((1, 2, 3)), ssim(rgb, target)


def inverse_depth(
    rendered: Float[Tensor, "view height width"],
    alpha: Float[Tensor, "view height width"],
    target: Float[Tensor, "view height width"],
    confidence: Float[Tensor, "view height width"],
    unit: float,
) -> Float[Tensor, ""]:
    """Return the weighted mean absolute difference of inverse depths, in 1 / unit.

    Only pixels count whose target is known and that the render covers.

    Args:
        rendered: Rendered z-depth in scene units. The result is differentiable in it.
        alpha: Coverage of the render in [0, 1]. A pixel is covered above 0.5.
        target: z-depth of the frames in scene units; 0 where it is unknown.
        confidence: Weights of the target in [0, 1].
        unit: The scene's typical depth.
    """
    if can_use_triton(rendered, alpha, target, confidence):
        from lift.training.kernels import loss_triton

        return loss_triton.inverse_depth(rendered, alpha, target, confidence, unit)
    if can_use_numba(rendered, alpha, target, confidence):
        from lift.training.kernels import loss_numba

        return loss_numba.inverse_depth(rendered, alpha, target, confidence, unit)
    valid: Bool[Tensor, "view height width"] = (target > 0) & (alpha > 0.5)
    weight = confidence * valid
    difference = (1 / rendered.clamp(min=0.02 * unit) - 1 / target.clamp(min=0.02 * unit)).abs()
    return unit * (weight * difference).sum() / weight.sum().clamp(min=1)


def reweight(
    rgb: Float[Tensor, "view height width 3"], weight: Float[Tensor, "view height width"]
) -> Float[Tensor, "view height width 3"]:
    """Return `rgb` unchanged, and multiply the gradients of its pixels by weights.

    So pixels count by their weight in any loss that uses the result.

    Args:
        rgb: Rendered colours.
        weight: Weight of each pixel.
    """
    return _Reweight.apply(rgb, weight)


def weighted_means(*terms: tuple[float, Tensor]) -> Float[Tensor, ""]:
    """Return the sum of weight times mean.

    Args:
        *terms: Pairs of a weight and a tensor of any shape.
    """
    return _WeightedMeans.apply([weight for weight, _ in terms], *(value for _, value in terms))


def warm_up() -> None:
    """Compile the CPU's kernels of a training step, or load them from numba's cache."""
    from lift.training.splats import activate

    size = _WARM_UP_SIZE
    rgb = torch.rand(1, size, size, 3, requires_grad=True)
    depth = torch.rand(1, size, size, requires_grad=True)
    ones = torch.ones(1, size, size)
    frames = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    with torch.enable_grad():
        terms = [*photometric(rgb, frames), inverse_depth(depth, ones, ones, ones, 1.0)]
        raw = torch.rand(2, 4, requires_grad=True)
        terms.append(activate(raw, raw, raw)[1])
        torch.stack([value.sum() for value in terms]).sum().backward()


class _Reweight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rgb: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return rgb.view_as(rgb)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.saved_tensors[0][..., None], None


class _WeightedMeans(torch.autograd.Function):
    """A gradient is an expanded number for each tensor. Autograd would fill and scale tensors."""

    @staticmethod
    def forward(ctx, weights: list[float], *values: Tensor) -> Tensor:
        ctx.factors = [
            (weight / max(value.numel(), 1), value.shape)
            for weight, value in zip(weights, values, strict=True)
        ]
        products = [weight * value.mean() for weight, value in zip(weights, values, strict=True)]
        return cast(Tensor, sum(products))

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, *((grad * factor).expand(shape) for factor, shape in ctx.factors)
