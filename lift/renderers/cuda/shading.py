"""CUDA kernels around a rasteriser: colours of Gaussians in all views, and pictures over a background. A launch each, or two, for what
takes torch some forty: what a training step on a GPU waits for is launches.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from lift import spherical_harmonics
from lift.runtime.jit import cdiv, kernel

_C0, _C1 = tl.constexpr(spherical_harmonics.C0), tl.constexpr(spherical_harmonics.C1)
_A2, _B2, _C2 = (tl.constexpr(c) for c in spherical_harmonics.C2)
_A3, _B3, _C3, _D3, _E3 = (tl.constexpr(c) for c in spherical_harmonics.C3)
_BLOCK = tl.constexpr(128)
_PIXELS = tl.constexpr(512)
_ROWS = tl.constexpr(16)
"""Gaussians a program takes: one a thread; or in rows of their coefficients, so that these are written side by side."""


def seen_from(sh_coeffs: Tensor, means: Tensor, centers: Tensor) -> Tensor:
    """As `lift.spherical_harmonics.seen_from`, for float32 on one CUDA device."""
    return _SeenFrom.apply(sh_coeffs.contiguous(), means.contiguous(), centers.contiguous())


def compose(
    rgb: Tensor, alpha: Tensor, depth_sum: Tensor, background: Tensor
) -> tuple[Tensor, Tensor]:
    """Colour over the background, and expected depth: a renderer's sums, float32 on one CUDA device, background one or one a view."""
    return _Compose.apply(rgb, alpha, depth_sum, background.contiguous())


class _SeenFrom(torch.autograd.Function):
    @staticmethod
    def forward(ctx, sh_coeffs, means, centers):
        views, (count, bases) = len(centers), sh_coeffs.shape[-3:-1]
        colors = means.new_empty(views, count, 3)
        strides = [
            3 * bases * count if sh_coeffs.ndim == 4 else 0,
            3 * count if means.ndim == 3 else 0,
        ]
        if count:
            _colors[cdiv(count, _BLOCK), views](
                sh_coeffs, means, centers, colors, count, *strides, bases
            )
        ctx.save_for_backward(sh_coeffs, means, centers, colors)
        ctx.strides = strides
        return colors

    @staticmethod
    @once_differentiable
    def backward(ctx, outer):
        sh_coeffs, means, centers, colors = ctx.saved_tensors
        views, (count, bases) = len(centers), sh_coeffs.shape[-3:-1]
        outer, blocks = outer.contiguous(), cdiv(count, _BLOCK)
        d_sh, d_means = torch.empty_like(sh_coeffs), torch.empty_like(means)
        d_centers = means.new_zeros(views, blocks, 3)
        if count:
            _direction_gradient[blocks,](
                sh_coeffs,
                means,
                centers,
                colors,
                outer,
                d_means,
                d_centers,
                count,
                views,
                blocks,
                *ctx.strides,
                bases,
            )
            _coefficient_gradient[cdiv(count, _ROWS),](
                means, centers, colors, outer, d_sh, count, views, *ctx.strides, bases
            )
        return d_sh, d_means, d_centers.sum(1) if ctx.needs_input_grad[2] else None


class _Compose(torch.autograd.Function):
    """Pixels of the sums may lie apart, as channels of one picture do, but nothing between rows."""

    @staticmethod
    def forward(ctx, rgb, alpha, depth_sum, background):
        rgb, depth_sum = (
            value if _rows_follow(value) else value.contiguous() for value in (rgb, depth_sum)
        )
        alpha = alpha.contiguous()
        count = alpha.numel()
        composed, depth = rgb.new_empty(rgb.shape), alpha.new_empty(alpha.shape)
        # The last view of one background for all is its first.
        per_view = count // len(alpha) if background.ndim == 2 else count
        if count:
            _over[cdiv(count, _PIXELS),](
                rgb,
                alpha,
                depth_sum,
                background,
                composed,
                depth,
                count,
                per_view,
                rgb.stride(2),
                depth_sum.stride(2),
            )
        ctx.save_for_backward(alpha, depth, background)
        ctx.per_view = per_view
        return composed, depth

    @staticmethod
    @once_differentiable
    def backward(ctx, by_rgb, by_depth):
        alpha, depth, background = ctx.saved_tensors
        by_rgb, by_depth = by_rgb.contiguous(), by_depth.contiguous()
        by_alpha, by_sum = torch.empty_like(alpha), torch.empty_like(alpha)
        if alpha.numel():
            _over_gradient[cdiv(alpha.numel(), _PIXELS),](
                alpha,
                depth,
                background,
                by_rgb,
                by_depth,
                by_alpha,
                by_sum,
                alpha.numel(),
                ctx.per_view,
            )
        return by_rgb, by_alpha, by_sum, None


def _rows_follow(value: Tensor) -> bool:
    height, width = value.shape[1:3]
    channels_follow = value.ndim == 3 or value.stride(3) == 1
    return (
        channels_follow
        and value.stride(1) == width * value.stride(2)
        and value.stride(0) == height * value.stride(1)
    )


@kernel
def _over(
    rgb, alpha, depth_sum, background, composed, depth, count, per_view, rgb_step, depth_step
):
    i = tl.program_id(0) * _PIXELS + tl.arange(0, _PIXELS)
    inside, behind = i < count, background + 3 * (i // per_view)
    covered = tl.load(alpha + i, inside, 0.0)
    for c in tl.static_range(3):
        tl.store(
            composed + 3 * i + c,
            tl.load(rgb + rgb_step * i + c, inside, 0.0)
            + (1.0 - covered) * tl.load(behind + c, inside, 0.0),
            inside,
        )
    tl.store(
        depth + i,
        tl.load(depth_sum + depth_step * i, inside, 0.0) / tl.maximum(covered, 1e-6),
        inside,
    )


@kernel
def _over_gradient(alpha, depth, background, by_rgb, by_depth, by_alpha, by_sum, count, per_view):
    i = tl.program_id(0) * _PIXELS + tl.arange(0, _PIXELS)
    inside, behind = i < count, background + 3 * (i // per_view)
    covered, deep = tl.load(alpha + i, inside, 0.0), tl.load(by_depth + i, inside, 0.0)
    given = deep / tl.maximum(covered, 1e-6)
    hidden = tl.where(covered > 1e-6, given * tl.load(depth + i, inside, 0.0), 0.0)
    for c in tl.static_range(3):
        hidden += tl.load(by_rgb + 3 * i + c, inside, 0.0) * tl.load(behind + c, inside, 0.0)
    tl.store(by_alpha + i, -hidden, inside)
    tl.store(by_sum + i, given, inside)


@kernel
def _towards(means, center, n, inside):
    """Unit direction from a camera to Gaussians, and 1 / distance."""
    x = tl.load(means + 3 * n, inside, 0.0) - tl.load(center)
    y = tl.load(means + 3 * n + 1, inside, 0.0) - tl.load(center + 1)
    z = tl.load(means + 3 * n + 2, inside, 0.0) - tl.load(center + 2)
    near = 1.0 / tl.maximum(tl.sqrt(x * x + y * y + z * z), 1e-12)
    return x * near, y * near, z * near, near


@kernel
def _basis(x, y, z, k: tl.constexpr):
    """The k-th basis function."""
    if k == 0:
        b = 0.0 * x + _C0
    elif k == 1:
        b = -_C1 * y
    elif k == 2:
        b = _C1 * z
    elif k == 3:
        b = -_C1 * x
    elif k == 4:
        b = _A2 * x * y
    elif k == 5:
        b = -_A2 * y * z
    elif k == 6:
        b = _B2 * (2.0 * z * z - x * x - y * y)
    elif k == 7:
        b = -_A2 * x * z
    elif k == 8:
        b = _C2 * (x * x - y * y)
    elif k == 9:
        b = -_A3 * y * (3.0 * x * x - y * y)
    elif k == 10:
        b = _B3 * x * y * z
    elif k == 11:
        b = -_C3 * y * (4.0 * z * z - x * x - y * y)
    elif k == 12:
        b = _D3 * z * (2.0 * z * z - 3.0 * x * x - 3.0 * y * y)
    elif k == 13:
        b = -_C3 * x * (4.0 * z * z - x * x - y * y)
    elif k == 14:
        b = _E3 * z * (x * x - y * y)
    else:
        b = -_A3 * x * (x * x - 3.0 * y * y)
    return b


@kernel
def _slope(x, y, z, k: tl.constexpr):
    """Its derivatives by x, y and z."""
    zero = 0.0 * x
    if k == 0:
        d = zero, zero, zero
    elif k == 1:
        d = zero, zero - _C1, zero
    elif k == 2:
        d = zero, zero, zero + _C1
    elif k == 3:
        d = zero - _C1, zero, zero
    elif k == 4:
        d = _A2 * y, _A2 * x, zero
    elif k == 5:
        d = zero, -_A2 * z, -_A2 * y
    elif k == 6:
        d = -2.0 * _B2 * x, -2.0 * _B2 * y, 4.0 * _B2 * z
    elif k == 7:
        d = -_A2 * z, zero, -_A2 * x
    elif k == 8:
        d = 2.0 * _C2 * x, -2.0 * _C2 * y, zero
    elif k == 9:
        d = -6.0 * _A3 * x * y, -3.0 * _A3 * (x * x - y * y), zero
    elif k == 10:
        d = _B3 * y * z, _B3 * x * z, _B3 * x * y
    elif k == 11:
        d = 2.0 * _C3 * x * y, -_C3 * (4.0 * z * z - x * x - 3.0 * y * y), -8.0 * _C3 * y * z
    elif k == 12:
        d = -6.0 * _D3 * x * z, -6.0 * _D3 * y * z, 3.0 * _D3 * (2.0 * z * z - x * x - y * y)
    elif k == 13:
        d = -_C3 * (4.0 * z * z - 3.0 * x * x - y * y), 2.0 * _C3 * x * y, -8.0 * _C3 * x * z
    elif k == 14:
        d = 2.0 * _E3 * x * z, -2.0 * _E3 * y * z, _E3 * (x * x - y * y)
    else:
        d = -3.0 * _A3 * (x * x - y * y), 6.0 * _A3 * x * y, zero
    return d


@kernel
def _colors(sh, means, centers, colors, count, sh_stride, mean_stride, bases: tl.constexpr):
    view = tl.program_id(1)
    n = tl.program_id(0) * _BLOCK + tl.arange(0, _BLOCK)
    inside = n < count
    x, y, z, _ = _towards(means + view * mean_stride, centers + 3 * view, n, inside)
    own = sh + view.to(tl.int64) * sh_stride + 3 * bases * n
    red, green, blue = 0.0 * x + 0.5, 0.0 * x + 0.5, 0.0 * x + 0.5
    for k in tl.static_range(bases):
        b = _basis(x, y, z, k)
        red += b * tl.load(own + 3 * k, inside, 0.0)
        green += b * tl.load(own + 3 * k + 1, inside, 0.0)
        blue += b * tl.load(own + 3 * k + 2, inside, 0.0)
    to = colors + 3 * (view * count + n)
    tl.store(to, tl.maximum(red, 0.0), inside)
    tl.store(to + 1, tl.maximum(green, 0.0), inside)
    tl.store(to + 2, tl.maximum(blue, 0.0), inside)


@kernel
def _shown(colors, outer, at, inside):
    """Gradient of a colour's channel: none where the colour was held at 0."""
    return tl.where(tl.load(colors + at, inside, 0.0) > 0.0, tl.load(outer + at, inside, 0.0), 0.0)


@kernel
def _direction_gradient(
    sh,
    means,
    centers,
    colors,
    outer,
    d_means,
    d_centers,
    count,
    views,
    blocks,
    sh_stride,
    mean_stride,
    bases: tl.constexpr,
):
    block = tl.program_id(0)
    n = block * _BLOCK + tl.arange(0, _BLOCK)
    inside = n < count
    sum_x, sum_y, sum_z = (
        tl.zeros([_BLOCK], tl.float32),
        tl.zeros([_BLOCK], tl.float32),
        tl.zeros([_BLOCK], tl.float32),
    )
    for view in range(views):
        x, y, z, near = _towards(means + view * mean_stride, centers + 3 * view, n, inside)
        at = 3 * (view * count + n)
        red, green, blue = (
            _shown(colors, outer, at, inside),
            _shown(colors, outer, at + 1, inside),
            _shown(colors, outer, at + 2, inside),
        )
        own = sh + tl.cast(view, tl.int64) * sh_stride + 3 * bases * n
        dx, dy, dz = 0.0 * x, 0.0 * x, 0.0 * x
        for k in tl.static_range(1, bases):
            s = red * tl.load(own + 3 * k, inside, 0.0) + green * tl.load(
                own + 3 * k + 1, inside, 0.0
            )
            s += blue * tl.load(own + 3 * k + 2, inside, 0.0)
            bx, by, bz = _slope(x, y, z, k)
            dx += s * bx
            dy += s * by
            dz += s * bz
        along = dx * x + dy * y + dz * z
        dx, dy, dz = (dx - along * x) * near, (dy - along * y) * near, (dz - along * z) * near
        to = d_centers + 3 * (view * blocks + block)
        tl.store(to, -tl.sum(dx, 0))
        tl.store(to + 1, -tl.sum(dy, 0))
        tl.store(to + 2, -tl.sum(dz, 0))
        if mean_stride == 0:
            sum_x += dx
            sum_y += dy
            sum_z += dz
        else:
            tl.store(d_means + view * mean_stride + 3 * n, dx, inside)
            tl.store(d_means + view * mean_stride + 3 * n + 1, dy, inside)
            tl.store(d_means + view * mean_stride + 3 * n + 2, dz, inside)
    if mean_stride == 0:
        tl.store(d_means + 3 * n, sum_x, inside)
        tl.store(d_means + 3 * n + 1, sum_y, inside)
        tl.store(d_means + 3 * n + 2, sum_z, inside)


@kernel
def _coefficient_gradient(
    means, centers, colors, outer, d_sh, count, views, sh_stride, mean_stride, bases: tl.constexpr
):
    width: tl.constexpr = triton.next_power_of_2(3 * bases)
    n = tl.program_id(0) * _ROWS + tl.arange(0, _ROWS)
    column = tl.arange(0, width)[None]
    channel, inside, kept = column % 3, n < count, (n[:, None] < count) & (column < 3 * bases)
    to = d_sh + 3 * bases * n[:, None] + column
    total = tl.zeros([_ROWS, width], tl.float32)
    for view in range(views):
        x, y, z, _ = _towards(means + view * mean_stride, centers + 3 * view, n, inside)
        at = 3 * (view * count + n)
        red, green, blue = (
            _shown(colors, outer, at, inside),
            _shown(colors, outer, at + 1, inside),
            _shown(colors, outer, at + 2, inside),
        )
        shown = tl.where(
            channel == 0, red[:, None], tl.where(channel == 1, green[:, None], blue[:, None])
        )
        b = tl.zeros([_ROWS, width], tl.float32)
        for k in tl.static_range(bases):
            b = tl.where(column // 3 == k, _basis(x, y, z, k)[:, None], b)
        if sh_stride == 0:
            total += b * shown
        else:
            tl.store(to + tl.cast(view, tl.int64) * sh_stride, b * shown, kept)
    if sh_stride == 0:
        tl.store(to, total, kept)
