"""CUDA kernels for pictures that are bent (`image_warp`), off in colour (`appearance`) or soft (`blur`): few launches forwards and backwards each.

In plain torch each is dozens of passes over all pixels, which together take as long as the rasteriser. What a pixel gives to its neighbours'
gradients is added in no fixed order, as in gsplat; the sums over all pixels of a colour map's gradient are in a fixed one.
"""

import torch
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from lift.distortions.kernels import SIGMAS
from lift.runtime.jit import cdiv, kernel

_BLOCK = tl.constexpr(256)
_SIGMAS = tl.constexpr(SIGMAS)


def bent(
    rgb: Tensor, alpha: Tensor, depth: Tensor, flow: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures as seen `flow` [view x/y height width] pixels away, colours by cubic convolution (Keys, 1981, with the slope -0.75 of
    torch's bicubic sampling), alpha and depth bilinearly; and 1 where that is within the picture, else 0. float32 on one CUDA device.
    """
    return _Bent.apply(rgb.contiguous(), alpha.contiguous(), depth.contiguous(), flow.contiguous())


def tinted(rgb: Tensor, maps: Tensor) -> Tensor:
    """Rgb [view height width 3] and what maps [view 3 4] make of each colour (and 1) added to it; float32 on one CUDA device."""
    return _Tinted.apply(rgb.contiguous(), maps.contiguous())


def blurred(rgb: Tensor, variance: Tensor, reach: int) -> Tensor:
    """Rgb [view height width 3], each blurred by the discrete Gaussian of its variance [view], in squares of pixels, mirrored beyond the border;
    `reach`, in pixels, is where the widest ends and at most the picture's shorter side. float32 on one CUDA device.
    """
    return _Blurred.apply(rgb.contiguous(), variance.contiguous(), reach)


class _Bent(Function):
    @staticmethod
    def forward(ctx, rgb, alpha, depth, flow):
        views, height, width = alpha.shape
        out = (
            torch.empty_like(rgb),
            torch.empty_like(alpha),
            torch.empty_like(alpha),
            torch.empty_like(alpha),
        )
        _bend[cdiv(height * width, _BLOCK), views](rgb, alpha, depth, flow, *out, height, width)
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
        _bend_gradient[cdiv(height * width, _BLOCK), views](
            rgb, alpha, depth, flow, *outer, *to, height, width
        )
        return to


class _Tinted(Function):
    @staticmethod
    def forward(ctx, rgb, maps):
        views, height, width, _ = rgb.shape
        out = torch.empty_like(rgb)
        _tint[cdiv(height * width, _BLOCK), views](rgb, maps, out, height * width)
        ctx.save_for_backward(rgb, maps)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, outer):
        rgb, maps = ctx.saved_tensors
        views, height, width, _ = rgb.shape
        blocks = cdiv(height * width, _BLOCK)
        by_rgb, sums = torch.empty_like(rgb), rgb.new_empty(views, blocks, 12)
        _tint_gradient[blocks, views](rgb, maps, outer.contiguous(), by_rgb, sums, height * width)
        return by_rgb, sums.sum(1).view(maps.shape)


class _Blurred(Function):
    """Its gradient is what `lift.distortions.blur` says."""

    @staticmethod
    def forward(ctx, rgb, variance, reach):
        ctx.taps, ctx.reaches = (
            variance.new_empty(len(variance), reach + 1),
            variance.new_empty(len(variance), dtype=torch.int32),
        )
        _kernels[len(variance),](
            variance, ctx.taps, ctx.reaches, reach, 8 * reach, 1 << (8 * reach - 1).bit_length()
        )
        out = _softened(rgb, ctx.taps, ctx.reaches)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, outer):
        (out,) = ctx.saved_tensors
        views, height, width, _ = out.shape
        outer, blocks = outer.contiguous(), cdiv(3 * height * width, _BLOCK)
        sums = out.new_empty(views, blocks)
        _diffused[blocks, views](out, outer, sums, height, width)
        return _softened(outer, ctx.taps, ctx.reaches), sums.sum(1), None


def _softened(rgb: Tensor, taps: Tensor, reaches: Tensor) -> Tensor:
    """Along rows, then down columns."""
    views, height, width, _ = rgb.shape
    grid = cdiv(3 * height * width, _BLOCK), views
    rows, out = torch.empty_like(rgb), torch.empty_like(rgb)
    _soften[grid](rgb, taps, reaches, rows, 3 * height * width, 3, width, taps.shape[1])
    _soften[grid](rows, taps, reaches, out, 3 * height * width, 3 * width, height, taps.shape[1])
    return out


@kernel
def _cubic(away):
    """What a sample so far away counts, at most 2 pixels."""
    a = tl.abs(away)
    return tl.where(a < 1, (1.25 * a - 2.25) * a * a + 1, ((3.75 - 0.75 * a) * a - 6) * a + 3)


@kernel
def _cubic_slope(away):
    a = tl.abs(away)
    slope = tl.where(a < 1, (3.75 * a - 4.5) * a, (7.5 - 2.25 * a) * a - 6)
    return tl.where(away < 0, -slope, slope)


@kernel
def _colors(at, there):
    return (
        tl.load(at, mask=there, other=0.0),
        tl.load(at + 1, mask=there, other=0.0),
        tl.load(at + 2, mask=there, other=0.0),
    )


@kernel
def _place(flow, height, width):
    """This program's pixels, which of them there are, and where they come from."""
    pixel = tl.program_id(0) * _BLOCK + tl.arange(0, _BLOCK)
    size = height * width
    there = pixel < size
    at = flow + 2 * tl.program_id(1) * size + pixel
    x = pixel % width + tl.load(at, mask=there, other=0.0)
    y = pixel // width + tl.load(at + size, mask=there, other=0.0)
    return pixel, there, x, y


@kernel
def _near(x, pixels):
    """A coordinate no further beyond the border than taps reach: from there on everything is the border's; and the pixel before it."""
    held = tl.minimum(tl.maximum(x, -3.0), pixels + 2.0)
    return held, tl.floor(held)


@kernel
def _corner(x, last):
    """Of a coordinate held within the picture: the sample before it, the one after it, and how far it is on its way between them."""
    held = tl.minimum(tl.maximum(x, 0.0), last * 1.0)
    before = tl.floor(held)
    low = before.to(tl.int32)
    return low, tl.minimum(low + 1, last), held - before


@kernel
def _corners(x, y, first, height, width):
    """Four samples around a place, above and below, and how far it is on its way between them across and down."""
    x0, x1, u = _corner(x, width - 1)
    y0, y1, v = _corner(y, height - 1)
    return (
        first + y0 * width + x0,
        first + y0 * width + x1,
        first + y1 * width + x0,
        first + y1 * width + x1,
        u,
        v,
    )


@kernel
def _between(plane, nw, ne, sw, se, u, v, there):
    """Of a plane, bilinearly between two samples above and two below."""
    above = (1 - u) * tl.load(plane + nw, mask=there, other=0.0) + u * tl.load(
        plane + ne, mask=there, other=0.0
    )
    below = (1 - u) * tl.load(plane + sw, mask=there, other=0.0) + u * tl.load(
        plane + se, mask=there, other=0.0
    )
    return (1 - v) * above + v * below


@kernel
def _spread(plane, value, to, nw, ne, sw, se, u, v, there):
    """The gradient `value` of that goes to the samples; what comes of it for the place is returned."""
    p, q = tl.load(plane + nw, mask=there, other=0.0), tl.load(plane + ne, mask=there, other=0.0)
    r, s = tl.load(plane + sw, mask=there, other=0.0), tl.load(plane + se, mask=there, other=0.0)
    tl.atomic_add(to + nw, (1 - u) * (1 - v) * value, mask=there, sem="relaxed")
    tl.atomic_add(to + ne, u * (1 - v) * value, mask=there, sem="relaxed")
    tl.atomic_add(to + sw, (1 - u) * v * value, mask=there, sem="relaxed")
    tl.atomic_add(to + se, u * v * value, mask=there, sem="relaxed")
    return value * ((1 - v) * (q - p) + v * (s - r)), value * ((1 - u) * (r - p) + u * (s - q))


@kernel
def _bend(rgb, alpha, depth, flow, out_rgb, out_alpha, out_depth, within, height, width):
    pixel, there, x, y = _place(flow, height, width)
    first = tl.program_id(1) * height * width
    cx, left = _near(x, width)
    cy, top = _near(y, height)
    red, green, blue = 0.0 * x, 0.0 * x, 0.0 * x
    for j in tl.static_range(4):
        down = _cubic(cy - (top + (j - 1)))
        row = tl.minimum(tl.maximum(top.to(tl.int32) + (j - 1), 0), height - 1)
        for i in tl.static_range(4):
            weight = down * _cubic(cx - (left + (i - 1)))
            column = tl.minimum(tl.maximum(left.to(tl.int32) + (i - 1), 0), width - 1)
            r, g, b = _colors(rgb + 3 * (first + row * width + column), there)
            red, green, blue = red + weight * r, green + weight * g, blue + weight * b
    to = out_rgb + 3 * (first + pixel)
    tl.store(to, red, mask=there)
    tl.store(to + 1, green, mask=there)
    tl.store(to + 2, blue, mask=there)
    nw, ne, sw, se, u, v = _corners(x, y, first, height, width)
    tl.store(out_alpha + first + pixel, _between(alpha, nw, ne, sw, se, u, v, there), mask=there)
    tl.store(out_depth + first + pixel, _between(depth, nw, ne, sw, se, u, v, there), mask=there)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    tl.store(within + first + pixel, tl.where(inside, 1.0, 0.0), mask=there)


@kernel
def _bend_gradient(
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
    pixel, there, x, y = _place(flow, height, width)
    size = height * width
    first = tl.program_id(1) * size
    cx, left = _near(x, width)
    cy, top = _near(y, height)
    red, green, blue = _colors(by_rgb + 3 * (first + pixel), there)
    by_x, by_y = 0.0 * x, 0.0 * x
    for j in tl.static_range(4):
        away = cy - (top + (j - 1))
        down, steep = _cubic(away), _cubic_slope(away)
        row = tl.minimum(tl.maximum(top.to(tl.int32) + (j - 1), 0), height - 1)
        for i in tl.static_range(4):
            beside = cx - (left + (i - 1))
            across = _cubic(beside)
            column = tl.minimum(tl.maximum(left.to(tl.int32) + (i - 1), 0), width - 1)
            at = 3 * (first + row * width + column)
            r, g, b = _colors(rgb + at, there)
            value = red * r + green * g + blue * b
            by_x += value * down * _cubic_slope(beside)
            by_y += value * steep * across
            weight = down * across
            tl.atomic_add(to_rgb + at, weight * red, mask=there, sem="relaxed")
            tl.atomic_add(to_rgb + at + 1, weight * green, mask=there, sem="relaxed")
            tl.atomic_add(to_rgb + at + 2, weight * blue, mask=there, sem="relaxed")
    nw, ne, sw, se, u, v = _corners(x, y, first, height, width)
    moves_x, moves_y = (x > 0) & (x < width - 1), (y > 0) & (y < height - 1)
    alpha_x, alpha_y = _spread(
        alpha,
        tl.load(by_alpha + first + pixel, mask=there, other=0.0),
        to_alpha,
        nw,
        ne,
        sw,
        se,
        u,
        v,
        there,
    )
    depth_x, depth_y = _spread(
        depth,
        tl.load(by_depth + first + pixel, mask=there, other=0.0),
        to_depth,
        nw,
        ne,
        sw,
        se,
        u,
        v,
        there,
    )
    by_x += tl.where(moves_x, alpha_x + depth_x, 0.0)
    by_y += tl.where(moves_y, alpha_y + depth_y, 0.0)
    at = to_flow + 2 * first + pixel
    tl.store(at, by_x, mask=there)
    tl.store(at + size, by_y, mask=there)


@kernel
def _tint(rgb, maps, out, size):
    pixel = tl.program_id(0) * _BLOCK + tl.arange(0, _BLOCK)
    there = pixel < size
    at, by = 3 * (tl.program_id(1) * size + pixel), maps + 12 * tl.program_id(1)
    red, green, blue = _colors(rgb + at, there)
    for o in tl.static_range(3):
        own = red if o == 0 else (green if o == 1 else blue)
        row = by + 4 * o
        change = (
            tl.load(row) * red
            + tl.load(row + 1) * green
            + tl.load(row + 2) * blue
            + tl.load(row + 3)
        )
        tl.store(out + at + o, own + change, mask=there)


@kernel
def _tint_gradient(rgb, maps, outer, to_rgb, sums, size):
    pixel = tl.program_id(0) * _BLOCK + tl.arange(0, _BLOCK)
    there = pixel < size
    at, by = 3 * (tl.program_id(1) * size + pixel), maps + 12 * tl.program_id(1)
    red, green, blue = _colors(rgb + at, there)
    by_red, by_green, by_blue = 0.0 * red, 0.0 * red, 0.0 * red
    to = sums + 12 * (tl.program_id(1) * tl.num_programs(0) + tl.program_id(0))
    for o in tl.static_range(3):
        by_own = tl.load(outer + at + o, mask=there, other=0.0)
        row = by + 4 * o
        by_red += tl.load(row) * by_own
        by_green += tl.load(row + 1) * by_own
        by_blue += tl.load(row + 2) * by_own
        tl.store(to + 4 * o, tl.sum(by_own * red))
        tl.store(to + 4 * o + 1, tl.sum(by_own * green))
        tl.store(to + 4 * o + 2, tl.sum(by_own * blue))
        tl.store(to + 4 * o + 3, tl.sum(by_own))
    tl.store(to_rgb + at, tl.load(outer + at, mask=there, other=0.0) + by_red, mask=there)
    tl.store(to_rgb + at + 1, tl.load(outer + at + 1, mask=there, other=0.0) + by_green, mask=there)
    tl.store(to_rgb + at + 2, tl.load(outer + at + 2, mask=there, other=0.0) + by_blue, mask=there)


@kernel
def _kernels(variance, taps, reaches, most, angles, ANGLES: tl.constexpr):  # noqa: N803
    """Of one view: its kernel's middle and one side, as differences from a variance of 0, so that there nothing is blurred at all; what the
    reach cuts off stays in the middle.
    """
    n = tl.program_id(0)
    spread = tl.load(variance + n)
    reach = tl.minimum(tl.ceil(tl.sqrt(spread) * _SIGMAS).to(tl.int32) + 1, most)
    k = tl.arange(0, ANGLES)
    wave = tl.exp(spread * (tl.cos(k * (6.283185307179586 / angles)) - 1.0)) - 1.0
    wave = tl.where(k < angles, wave, 0.0) / angles
    middle, to = 1.0 + 0.0 * spread, taps + n * (most + 1)
    for d in range(1, reach + 1):
        tap = tl.sum(wave * tl.cos((d * k % angles) * (6.283185307179586 / angles)), 0)
        tl.store(to + d, tap)
        middle -= 2.0 * tap
    tl.store(to, middle)
    tl.store(reaches + n, reach)


@kernel
def _soften(rgb, taps, reaches, out, size, step, length, most):
    """Along one axis, in which a pixel is `step` numbers from the next."""
    i = tl.program_id(0) * _BLOCK + tl.arange(0, _BLOCK)
    there = i < size
    n = tl.program_id(1)
    place = i // step % length
    first, weights = rgb + n * size + i - place * step, taps + n * most
    total = tl.load(weights) * tl.load(first + place * step, mask=there, other=0.0)
    for d in range(1, tl.load(reaches + n) + 1):
        before, after = place - d, place + d
        before = tl.where(before < 0, -1 - before, before)
        after = tl.where(after < length, after, 2 * length - 1 - after)
        both = tl.load(first + before * step, mask=there, other=0.0) + tl.load(
            first + after * step, mask=there, other=0.0
        )
        total += tl.load(weights + d) * both
    tl.store(out + n * size + i, total, mask=there)


@kernel
def _diffused(out, outer, sums, height, width):
    """Of a block, the gradient by the variance: minus half the products of both pictures' differences, across and down."""
    i = tl.program_id(0) * _BLOCK + tl.arange(0, _BLOCK)
    size, line = 3 * height * width, 3 * width
    at = tl.program_id(1) * size + i
    there = i < size
    x, y = tl.load(out + at, mask=there, other=0.0), tl.load(outer + at, mask=there, other=0.0)
    across, down = there & (i % line < line - 3), i < size - line
    beside = (tl.load(out + at + 3, mask=across, other=0.0) - x) * (
        tl.load(outer + at + 3, mask=across, other=0.0) - y
    )
    below = (tl.load(out + at + line, mask=down, other=0.0) - x) * (
        tl.load(outer + at + line, mask=down, other=0.0) - y
    )
    total = tl.sum(tl.where(across, beside, 0.0) + tl.where(down, below, 0.0), 0)
    tl.store(sums + tl.program_id(1) * tl.num_programs(0) + tl.program_id(0), -0.5 * total)
