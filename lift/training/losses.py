"""What a render is held to."""

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from lift.runtime.jit import fused, on_cpu
from lift.training.similarity import ssim

__all__ = ["inverse_depth", "photometric", "ssim", "warm_up", "weighed", "weighted_means"]


def photometric(
    rgb: Float[Tensor, "view height width 3"], frames: UInt8[Tensor, "view height width 3"]
) -> tuple[Float[Tensor, "view"], Float[Tensor, ""]]:
    """Mean absolute difference of each view, and mean structural similarity of all (`ssim`). Differentiable in `rgb`; in float32 by kernels of our own."""
    if fused(rgb):
        from lift.training.kernels import step_triton

        return step_triton.photometric(rgb, frames)
    if on_cpu(rgb):
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
    """Confidence-weighted mean absolute difference of inverse depths in 1 / unit, where the target is known and the render covers.
    Differentiable in `rendered`.
    """
    if fused(rendered, alpha, target, confidence):
        from lift.training.kernels import step_triton

        return step_triton.inverse_depth(rendered, alpha, target, confidence, unit)
    if on_cpu(rendered, alpha, target, confidence):
        from lift.training.kernels import loss_numba

        return loss_numba.inverse_depth(rendered, alpha, target, confidence, unit)
    known: Bool[Tensor, "view height width"] = (target > 0) & (alpha > 0.5)
    weight = confidence * known
    difference = (1 / rendered.clamp(min=0.02 * unit) - 1 / target.clamp(min=0.02 * unit)).abs()
    return unit * (weight * difference).sum() / weight.sum().clamp(min=1)


def weighed(
    rgb: Float[Tensor, "view height width 3"], weight: Float[Tensor, "view height width"]
) -> Float[Tensor, "view height width 3"]:
    """`rgb` itself, whose pixels shall count by `weight` in whatever loss they go into: their gradients are multiplied by it."""
    return _Weighed.apply(rgb, weight)


def weighted_means(*terms: tuple[float, Tensor]) -> Float[Tensor, ""]:
    """The sum of weight x mean over pairs of a weight and a tensor."""
    return _WeightedMeans.apply([weight for weight, _ in terms], *(value for _, value in terms))


def warm_up() -> None:
    """Compiles the CPU's kernels of a training step, or loads them from the cache, on pictures of 16 x 16 pixels."""
    from lift.training.splats import activated

    rgb, depth = (
        torch.rand(1, 16, 16, 3, requires_grad=True),
        torch.rand(1, 16, 16, requires_grad=True),
    )
    known = torch.ones(1, 16, 16)
    with torch.enable_grad():
        parts = [
            *photometric(rgb, torch.zeros(1, 16, 16, 3, dtype=torch.uint8)),
            inverse_depth(depth, known, known, known, 1.0),
        ]
        raw = torch.rand(2, 4, requires_grad=True)
        sum(value.sum() for value in [*parts, activated(raw, raw, raw)[1]]).backward()


class _Weighed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rgb: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return rgb.view_as(rgb)

    @staticmethod
    def backward(ctx, outer: Tensor) -> tuple[Tensor, None]:
        return outer * ctx.saved_tensors[0][..., None], None


class _WeightedMeans(torch.autograd.Function):
    """Its gradient is one number a tensor, where autograd would fill and scale tensors."""

    @staticmethod
    def forward(ctx, weights: list[float], *values: Tensor) -> Tensor:
        ctx.factors = [
            (weight / max(value.numel(), 1), value.shape)
            for weight, value in zip(weights, values, strict=True)
        ]
        return sum(weight * value.mean() for weight, value in zip(weights, values, strict=False))

    @staticmethod
    def backward(ctx, outer: Tensor) -> tuple[Tensor | None, ...]:
        return None, *((outer * factor).expand(shape) for factor, shape in ctx.factors)
