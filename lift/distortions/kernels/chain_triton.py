"""A CUDA kernel for the penalty on numbers of each frame.

Value and gradient take one launch in the forward pass. Plain torch takes twenty on few numbers.
"""

import torch
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from lift.runtime.jit import triton_jit

_BLOCK = tl.constexpr(128)


def norm(numbers: Tensor, epsilon: float, weight: float) -> Tensor:
    """Compute `lift.distortions.parameters.chain.PerFrame.norm` on CUDA.

    Args:
        numbers: [frame number], float32 on a CUDA device.
        epsilon: Size below which the norm is quadratic, in units of the numbers; above 0.
        weight: Factor of the result.

    Returns:
        The weighted norm, a scalar.
    """
    return _Norm.apply(numbers.contiguous(), epsilon, weight)


class _Norm(Function):
    @staticmethod
    def forward(ctx, numbers, epsilon, weight):
        norms = numbers.new_empty(len(numbers))
        gradient = torch.empty_like(numbers)
        _norm[len(numbers),](
            numbers, norms, gradient, numbers.shape[1], epsilon, weight / max(len(numbers), 1)
        )
        ctx.save_for_backward(gradient)
        return norms.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, outer):
        return outer * ctx.saved_tensors[0], None, None


@triton_jit
def _norm(numbers, norms, gradient, count, epsilon, weight):
    """Compute the norm of one frame's numbers, and its gradient.

    The norm is `weight` times root(mean square + epsilon^2) - epsilon, in a form without
    cancellation.
    """
    n = tl.program_id(0)
    i = tl.arange(0, _BLOCK)
    squares = tl.zeros([_BLOCK], tl.float32)
    for start in range(0, count, _BLOCK):
        value = tl.load(numbers + n * count + start + i, start + i < count, 0.0)
        squares += value * value
    square = tl.sum(squares, 0) / count
    root = tl.sqrt(square + epsilon * epsilon)
    tl.store(norms + n, weight * square / (root + epsilon))
    for start in range(0, count, _BLOCK):
        offset = n * count + start + i
        tl.store(
            gradient + offset,
            tl.load(numbers + offset, start + i < count, 0.0) * (weight / (count * root)),
            start + i < count,
        )
