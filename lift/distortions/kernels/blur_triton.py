"""CUDA kernels that blur pictures by discrete Gaussians, for `blur`.

Plain torch takes dozens of passes over all pixels for it.
"""

# Triton has incomplete type stubs.
# pyright: reportOperatorIssue=false

import torch
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from lift.distortions.kernels import RADIUS_IN_SIGMAS
from lift.runtime.jit import cdiv, triton_jit

_BLOCK = tl.constexpr(256)
_RADIUS_IN_SIGMAS = tl.constexpr(RADIUS_IN_SIGMAS)


def gaussian_blur(rgb: Tensor, variance: Tensor, max_radius: int) -> Tensor:
    """Blur pictures by discrete Gaussians; pictures are mirrored beyond their border.

    Args:
        rgb: [view height width 3], float32 on a CUDA device.
        variance: [view], in squared pixels.
        max_radius: Radius of the widest kernel in pixels, at most the picture's shorter side.

    Returns:
        The blurred pictures, [view height width 3].
    """
    return _TritonGaussianBlur.apply(rgb.contiguous(), variance.contiguous(), max_radius)


class _TritonGaussianBlur(Function):
    """Blur, with the gradient that `lift.distortions.blur` explains."""

    @staticmethod
    def forward(ctx, rgb, variance, max_radius):
        ctx.taps = variance.new_empty(len(variance), max_radius + 1)
        ctx.radii = variance.new_empty(len(variance), dtype=torch.int32)
        angles = 8 * max_radius
        _taps[len(variance),](
            variance, ctx.taps, ctx.radii, max_radius, angles, 1 << (angles - 1).bit_length()
        )
        out = _convolve(rgb, ctx.taps, ctx.radii)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, outer):
        (out,) = ctx.saved_tensors
        views, height, width, _ = out.shape
        outer = outer.contiguous()
        blocks = cdiv(3 * height * width, _BLOCK)
        sums = out.new_empty(views, blocks)
        _variance_gradient[blocks, views](out, outer, sums, height, width)
        return _convolve(outer, ctx.taps, ctx.radii), sums.sum(1), None


def _convolve(rgb: Tensor, taps: Tensor, radii: Tensor) -> Tensor:
    """Convolve along rows, then down columns."""
    views, height, width, _ = rgb.shape
    grid = cdiv(3 * height * width, _BLOCK), views
    rows = torch.empty_like(rgb)
    out = torch.empty_like(rgb)
    _convolve_lines[grid](rgb, taps, radii, rows, 3 * height * width, 3, width, taps.shape[1])
    _convolve_lines[grid](
        rows, taps, radii, out, 3 * height * width, 3 * width, height, taps.shape[1]
    )
    return out


@triton_jit
def _taps(variance, taps, radii, max_radius, angles, ANGLES: tl.constexpr):  # noqa: N803
    """Compute the centre and one side of a view's kernel.

    Taps are differences from a variance of 0, so that nothing is blurred at all there. The
    weight that the radius cuts off stays at the centre. ANGLES is the power of two from `angles`.
    """
    n = tl.program_id(0)
    var = tl.load(variance + n)
    radius = tl.ceil(tl.sqrt(var) * _RADIUS_IN_SIGMAS).to(tl.int32) + 1
    radius = tl.minimum(radius, max_radius)
    k = tl.arange(0, ANGLES)
    wave = tl.exp(var * (tl.cos(k * (6.283185307179586 / angles)) - 1.0)) - 1.0
    wave = tl.where(k < angles, wave, 0.0) / angles
    center = 1.0 + 0.0 * var
    to = taps + n * (max_radius + 1)
    for d in range(1, radius + 1):
        tap = tl.sum(wave * tl.cos((d * k % angles) * (6.283185307179586 / angles)), 0)
        tl.store(to + d, tap)
        center -= 2.0 * tap
    tl.store(to, center)
    tl.store(radii + n, radius)


@triton_jit
def _convolve_lines(rgb, taps, radii, out, size, step, length, num_taps):
    """Convolve along one axis, on which the next pixel is `step` numbers away."""
    i = tl.program_id(0) * _BLOCK + tl.arange(0, _BLOCK)
    mask = i < size
    n = tl.program_id(1)
    position = i // step % length
    line = rgb + n * size + i - position * step
    weights = taps + n * num_taps
    total = tl.load(weights) * tl.load(line + position * step, mask=mask, other=0.0)
    for d in range(1, tl.load(radii + n) + 1):
        before = position - d
        after = position + d
        before = tl.where(before < 0, -1 - before, before)
        after = tl.where(after < length, after, 2 * length - 1 - after)
        both = tl.load(line + before * step, mask=mask, other=0.0) + tl.load(
            line + after * step, mask=mask, other=0.0
        )
        total += tl.load(weights + d) * both
    tl.store(out + n * size + i, total, mask=mask)


@triton_jit
def _variance_gradient(out, outer, sums, height, width):
    """Compute a block's part of the gradient by the variance.

    It is minus half the products of both pictures' differences, across and down.
    """
    i = tl.program_id(0) * _BLOCK + tl.arange(0, _BLOCK)
    size = 3 * height * width
    line = 3 * width
    offset = tl.program_id(1) * size + i
    mask = i < size
    x = tl.load(out + offset, mask=mask, other=0.0)
    y = tl.load(outer + offset, mask=mask, other=0.0)
    across = mask & (i % line < line - 3)
    down = i < size - line
    beside = (tl.load(out + offset + 3, mask=across, other=0.0) - x) * (
        tl.load(outer + offset + 3, mask=across, other=0.0) - y
    )
    below = (tl.load(out + offset + line, mask=down, other=0.0) - x) * (
        tl.load(outer + offset + line, mask=down, other=0.0) - y
    )
    total = tl.sum(tl.where(across, beside, 0.0) + tl.where(down, below, 0.0), 0)
    to = sums + tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    tl.store(to, -0.5 * total)
