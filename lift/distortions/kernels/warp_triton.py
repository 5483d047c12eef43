"""CUDA kernels that warp pictures, for `image_warp`.

Plain torch takes dozens of passes over all pixels for it, which together take as long as the
rasteriser. What a pixel adds to its neighbours' gradients is added in no fixed order, as in
gsplat.
"""

# Triton has incomplete type stubs.
# pyright: reportGeneralTypeIssues=false

import torch
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from lift.distortions.kernels.common_triton import load_color
from lift.runtime.jit import cdiv, triton_jit

_BLOCK = tl.constexpr(256)


def warp(
    rgb: Tensor, alpha: Tensor, depth: Tensor, flow: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sample pictures at displaced pixels; float32 on a CUDA device.

    Args:
        rgb: [view height width 3], sampled by cubic convolution (Keys, 1981) with the slope
            -0.75 of torch's bicubic sampling.
        alpha: [view height width], sampled bilinearly.
        depth: [view height width], sampled bilinearly.
        flow: [view x/y height width], offsets in pixels from each pixel to its source.

    Returns:
        Colours, alpha and depth; and 1 where the source is within the picture, else 0.
    """
    return _Warp.apply(rgb.contiguous(), alpha.contiguous(), depth.contiguous(), flow.contiguous())


class _Warp(Function):
    @staticmethod
    def forward(ctx, rgb, alpha, depth, flow):
        views, height, width = alpha.shape
        out = (
            torch.empty_like(rgb),
            torch.empty_like(alpha),
            torch.empty_like(alpha),
            torch.empty_like(alpha),
        )
        _warp[cdiv(height * width, _BLOCK), views](rgb, alpha, depth, flow, *out, height, width)
        ctx.save_for_backward(rgb, alpha, depth, flow)
        ctx.mark_non_differentiable(out[3])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, by_rgb, by_alpha, by_depth, _):
        rgb, alpha, depth, flow = ctx.saved_tensors
        views, height, width = alpha.shape
        to = (
            torch.zeros_like(rgb),
            torch.zeros_like(alpha),
            torch.zeros_like(alpha),
            torch.empty_like(flow),
        )
        outer = by_rgb.contiguous(), by_alpha.contiguous(), by_depth.contiguous()
        _warp_gradient[cdiv(height * width, _BLOCK), views](
            rgb, alpha, depth, flow, *outer, *to, height, width
        )
        return to


@triton_jit
def _cubic(offset):
    """Return the weight of a sample at an offset of at most 2 pixels."""
    a = tl.abs(offset)
    return tl.where(a < 1, (1.25 * a - 2.25) * a * a + 1, ((3.75 - 0.75 * a) * a - 6) * a + 3)


@triton_jit
def _cubic_slope(offset):
    """Return the derivative of `_cubic`."""
    a = tl.abs(offset)
    slope = tl.where(a < 1, (3.75 * a - 4.5) * a, (7.5 - 2.25 * a) * a - 6)
    return tl.where(offset < 0, -slope, slope)


@triton_jit
def _source(flow, height, width):
    """Return this program's pixels, a mask of those that exist, and their sources x and y."""
    pixel = tl.program_id(0) * _BLOCK + tl.arange(0, _BLOCK)
    size = height * width
    mask = pixel < size
    pointer = flow + 2 * tl.program_id(1) * size + pixel
    x = pixel % width + tl.load(pointer, mask=mask, other=0.0)
    y = pixel // width + tl.load(pointer + size, mask=mask, other=0.0)
    return pixel, mask, x, y


@triton_jit
def _clamp(x, pixels):
    """Clamp a coordinate for cubic sampling; also return the pixel before it.

    The coordinate stays at most 3 pixels beyond the border. All samples farther out are the
    border's.
    """
    clamped = tl.minimum(tl.maximum(x, -3.0), pixels + 2.0)
    return clamped, tl.floor(clamped)


@triton_jit
def _neighbors(x, last):
    """Return the samples before and after a coordinate, and the fraction between them.

    The coordinate is clamped to the picture, whose last sample is `last`.
    """
    clamped = tl.minimum(tl.maximum(x, 0.0), last * 1.0)
    before = tl.floor(clamped)
    low = before.to(tl.int32)
    return low, tl.minimum(low + 1, last), clamped - before


@triton_jit
def _corners(x, y, start, height, width):
    """Return the four samples around a source, and its fractions between them across and down.

    `start` is the index of the picture's first pixel.
    """
    x0, x1, u = _neighbors(x, width - 1)
    y0, y1, v = _neighbors(y, height - 1)
    return (
        start + y0 * width + x0,
        start + y0 * width + x1,
        start + y1 * width + x0,
        start + y1 * width + x1,
        u,
        v,
    )


@triton_jit
def _bilinear(plane, nw, ne, sw, se, u, v, mask):
    """Interpolate a plane between two samples above and two below."""
    above = (1 - u) * tl.load(plane + nw, mask=mask, other=0.0) + u * tl.load(
        plane + ne, mask=mask, other=0.0
    )
    below = (1 - u) * tl.load(plane + sw, mask=mask, other=0.0) + u * tl.load(
        plane + se, mask=mask, other=0.0
    )
    return (1 - v) * above + v * below


@triton_jit
def _bilinear_gradient(plane, value, to, nw, ne, sw, se, u, v, mask):
    """Add a gradient `value` to the four samples, and return the gradient by x and y."""
    p = tl.load(plane + nw, mask=mask, other=0.0)
    q = tl.load(plane + ne, mask=mask, other=0.0)
    r = tl.load(plane + sw, mask=mask, other=0.0)
    s = tl.load(plane + se, mask=mask, other=0.0)
    tl.atomic_add(to + nw, (1 - u) * (1 - v) * value, mask=mask, sem="relaxed")
    tl.atomic_add(to + ne, u * (1 - v) * value, mask=mask, sem="relaxed")
    tl.atomic_add(to + sw, (1 - u) * v * value, mask=mask, sem="relaxed")
    tl.atomic_add(to + se, u * v * value, mask=mask, sem="relaxed")
    return value * ((1 - v) * (q - p) + v * (s - r)), value * ((1 - u) * (r - p) + u * (s - q))


@triton_jit
def _warp(rgb, alpha, depth, flow, out_rgb, out_alpha, out_depth, within, height, width):
    pixel, mask, x, y = _source(flow, height, width)
    start = tl.program_id(1) * height * width
    cx, left = _clamp(x, width)
    cy, top = _clamp(y, height)
    red = 0.0 * x
    green = 0.0 * x
    blue = 0.0 * x
    for j in tl.static_range(4):
        down = _cubic(cy - (top + (j - 1)))
        row = tl.minimum(tl.maximum(top.to(tl.int32) + (j - 1), 0), height - 1)
        for i in tl.static_range(4):
            weight = down * _cubic(cx - (left + (i - 1)))
            column = tl.minimum(tl.maximum(left.to(tl.int32) + (i - 1), 0), width - 1)
            r, g, b = load_color(rgb + 3 * (start + row * width + column), mask)
            red = red + weight * r
            green = green + weight * g
            blue = blue + weight * b
    to = out_rgb + 3 * (start + pixel)
    tl.store(to, red, mask=mask)
    tl.store(to + 1, green, mask=mask)
    tl.store(to + 2, blue, mask=mask)
    nw, ne, sw, se, u, v = _corners(x, y, start, height, width)
    tl.store(out_alpha + start + pixel, _bilinear(alpha, nw, ne, sw, se, u, v, mask), mask=mask)
    tl.store(out_depth + start + pixel, _bilinear(depth, nw, ne, sw, se, u, v, mask), mask=mask)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    tl.store(within + start + pixel, tl.where(inside, 1.0, 0.0), mask=mask)


@triton_jit
def _warp_gradient(
    rgb,
    alpha,
    depth,
    flow,
    by_rgb,
    by_alpha,
    by_depth,
    to_rgb,
    to_alpha,
    to_depth,
    to_flow,
    height,
    width,
):
    pixel, mask, x, y = _source(flow, height, width)
    size = height * width
    start = tl.program_id(1) * size
    cx, left = _clamp(x, width)
    cy, top = _clamp(y, height)
    red, green, blue = load_color(by_rgb + 3 * (start + pixel), mask)
    by_x = 0.0 * x
    by_y = 0.0 * x
    for j in tl.static_range(4):
        below = cy - (top + (j - 1))
        down = _cubic(below)
        down_slope = _cubic_slope(below)
        row = tl.minimum(tl.maximum(top.to(tl.int32) + (j - 1), 0), height - 1)
        for i in tl.static_range(4):
            beside = cx - (left + (i - 1))
            across = _cubic(beside)
            column = tl.minimum(tl.maximum(left.to(tl.int32) + (i - 1), 0), width - 1)
            pointer = 3 * (start + row * width + column)
            r, g, b = load_color(rgb + pointer, mask)
            value = red * r + green * g + blue * b
            by_x += value * down * _cubic_slope(beside)
            by_y += value * down_slope * across
            weight = down * across
            tl.atomic_add(to_rgb + pointer, weight * red, mask=mask, sem="relaxed")
            tl.atomic_add(to_rgb + pointer + 1, weight * green, mask=mask, sem="relaxed")
            tl.atomic_add(to_rgb + pointer + 2, weight * blue, mask=mask, sem="relaxed")
    nw, ne, sw, se, u, v = _corners(x, y, start, height, width)
    free_x = (x > 0) & (x < width - 1)
    free_y = (y > 0) & (y < height - 1)
    alpha_x, alpha_y = _bilinear_gradient(
        alpha,
        tl.load(by_alpha + start + pixel, mask=mask, other=0.0),
        to_alpha,
        nw,
        ne,
        sw,
        se,
        u,
        v,
        mask,
    )
    depth_x, depth_y = _bilinear_gradient(
        depth,
        tl.load(by_depth + start + pixel, mask=mask, other=0.0),
        to_depth,
        nw,
        ne,
        sw,
        se,
        u,
        v,
        mask,
    )
    by_x += tl.where(free_x, alpha_x + depth_x, 0.0)
    by_y += tl.where(free_y, alpha_y + depth_y, 0.0)
    pointer = to_flow + 2 * start + pixel
    tl.store(pointer, by_x, mask=mask)
    tl.store(pointer + size, by_y, mask=mask)
