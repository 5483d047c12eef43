"""CUDA kernels around a rasteriser: colours of Gaussians, and composing with a background.

Each takes one launch or two. Torch takes about forty, and a training step on a GPU mostly waits
for launches.
"""

# Triton has incomplete type stubs.
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false
# pyright: reportAssignmentType=false, reportArgumentType=false

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from lift.renderers.cuda.spherical_harmonics import basis, basis_gradient, direction
from lift.runtime.jit import cdiv, triton_jit

_BLOCK = tl.constexpr(128)
"""Number of Gaussians of a program with one a thread."""

_PIXELS = tl.constexpr(512)
"""Number of pixels of a program."""

_ROWS = tl.constexpr(16)
"""Number of Gaussians of a program that writes rows of coefficients side by side."""


def evaluate_from(sh_coeffs: Tensor, means: Tensor, centers: Tensor) -> Tensor:
    """Evaluate colours as `lift.spherical_harmonics.evaluate_from`; float32 on a CUDA device.

    Args:
        sh_coeffs: Coefficients, shared by the views or one set a view, [*view gaussian basis 3].
        means: Centres of the Gaussians in scene units, shared or one set a view,
            [*view gaussian 3].
        centers: Positions of the cameras in scene units, [view 3].

    Returns:
        Colours, at least 0, [view gaussian 3].
    """
    return _EvaluateFrom.apply(sh_coeffs.contiguous(), means.contiguous(), centers.contiguous())


def compose(
    rgb: Tensor, alpha: Tensor, depth_sum: Tensor, background: Tensor
) -> tuple[Tensor, Tensor]:
    """Compose a renderer's sums with a background; float32 on a CUDA device.

    Args:
        rgb: Alpha-weighted sum of colour, over black, [view height width 3].
        alpha: Coverage in [0, 1], [view height width].
        depth_sum: Alpha-weighted sum of z-depth in scene units, [view height width].
        background: One colour [3], or one a view [view 3].

    Returns:
        Colour over the background, and expected z-depth.
    """
    return _Compose.apply(rgb, alpha, depth_sum, background.contiguous())


class _EvaluateFrom(torch.autograd.Function):
    @staticmethod
    def forward(ctx, sh_coeffs, means, centers):
        views = len(centers)
        count, bases = sh_coeffs.shape[-3:-1]
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
        views = len(centers)
        count, bases = sh_coeffs.shape[-3:-1]
        outer = outer.contiguous()
        blocks = cdiv(count, _BLOCK)
        d_sh = torch.empty_like(sh_coeffs)
        d_means = torch.empty_like(means)
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
    """Compose sums with a background.

    Pixels of the sums may have a stride, as channels of one picture do, but rows may not.
    """

    @staticmethod
    def forward(ctx, rgb, alpha, depth_sum, background):
        rgb, depth_sum = (
            value if _rows_are_contiguous(value) else value.contiguous()
            for value in (rgb, depth_sum)
        )
        alpha = alpha.contiguous()
        count = alpha.numel()
        composed = rgb.new_empty(rgb.shape)
        depth = alpha.new_empty(alpha.shape)
        # One background for all views is treated as that of one view with all pixels.
        per_view = count // len(alpha) if background.ndim == 2 else count
        if count:
            _compose[cdiv(count, _PIXELS),](
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
        by_rgb = by_rgb.contiguous()
        by_depth = by_depth.contiguous()
        by_alpha = torch.empty_like(alpha)
        by_sum = torch.empty_like(alpha)
        if alpha.numel():
            _compose_gradient[cdiv(alpha.numel(), _PIXELS),](
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


def _rows_are_contiguous(value: Tensor) -> bool:
    height, width = value.shape[1:3]
    channels_are_contiguous = value.ndim == 3 or value.stride(3) == 1
    return (
        channels_are_contiguous
        and value.stride(1) == width * value.stride(2)
        and value.stride(0) == height * value.stride(1)
    )


@triton_jit
def _compose(
    rgb, alpha, depth_sum, background, composed, depth, count, per_view, rgb_step, depth_step
):
    i = tl.program_id(0) * _PIXELS + tl.arange(0, _PIXELS)
    inside = i < count
    behind = background + 3 * (i // per_view)
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


@triton_jit
def _compose_gradient(
    alpha, depth, background, by_rgb, by_depth, by_alpha, by_sum, count, per_view
):
    i = tl.program_id(0) * _PIXELS + tl.arange(0, _PIXELS)
    inside = i < count
    behind = background + 3 * (i // per_view)
    covered = tl.load(alpha + i, inside, 0.0)
    by_depth_value = tl.load(by_depth + i, inside, 0.0)
    by_depth_sum = by_depth_value / tl.maximum(covered, 1e-6)
    hidden = tl.where(covered > 1e-6, by_depth_sum * tl.load(depth + i, inside, 0.0), 0.0)
    for c in tl.static_range(3):
        hidden += tl.load(by_rgb + 3 * i + c, inside, 0.0) * tl.load(behind + c, inside, 0.0)
    tl.store(by_alpha + i, -hidden, inside)
    tl.store(by_sum + i, by_depth_sum, inside)


@triton_jit
def _colors(sh, means, centers, colors, count, sh_stride, mean_stride, bases: tl.constexpr):
    view = tl.program_id(1)
    n = tl.program_id(0) * _BLOCK + tl.arange(0, _BLOCK)
    inside = n < count
    x, y, z, _ = direction(means + view * mean_stride, centers + 3 * view, n, inside)
    coeffs = sh + view.to(tl.int64) * sh_stride + 3 * bases * n
    red = 0.0 * x + 0.5
    green = 0.0 * x + 0.5
    blue = 0.0 * x + 0.5
    for k in tl.static_range(bases):
        b = basis(x, y, z, k)
        red += b * tl.load(coeffs + 3 * k, inside, 0.0)
        green += b * tl.load(coeffs + 3 * k + 1, inside, 0.0)
        blue += b * tl.load(coeffs + 3 * k + 2, inside, 0.0)
    to = colors + 3 * (view * count + n)
    tl.store(to, tl.maximum(red, 0.0), inside)
    tl.store(to + 1, tl.maximum(green, 0.0), inside)
    tl.store(to + 2, tl.maximum(blue, 0.0), inside)


@triton_jit
def _color_gradient(colors, outer, offset, inside):
    """Return the gradient of a colour's channel: 0 where the colour was clamped to 0."""
    return tl.where(
        tl.load(colors + offset, inside, 0.0) > 0.0, tl.load(outer + offset, inside, 0.0), 0.0
    )


@triton_jit
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
    sum_x = tl.zeros([_BLOCK], tl.float32)
    sum_y = tl.zeros([_BLOCK], tl.float32)
    sum_z = tl.zeros([_BLOCK], tl.float32)
    for view in range(views):
        x, y, z, inverse = direction(means + view * mean_stride, centers + 3 * view, n, inside)
        offset = 3 * (view * count + n)
        red = _color_gradient(colors, outer, offset, inside)
        green = _color_gradient(colors, outer, offset + 1, inside)
        blue = _color_gradient(colors, outer, offset + 2, inside)
        coeffs = sh + tl.cast(view, tl.int64) * sh_stride + 3 * bases * n
        dx = 0.0 * x
        dy = 0.0 * x
        dz = 0.0 * x
        for k in tl.static_range(1, bases):
            s = red * tl.load(coeffs + 3 * k, inside, 0.0) + green * tl.load(
                coeffs + 3 * k + 1, inside, 0.0
            )
            s += blue * tl.load(coeffs + 3 * k + 2, inside, 0.0)
            bx, by, bz = basis_gradient(x, y, z, k)
            dx += s * bx
            dy += s * by
            dz += s * bz
        along = dx * x + dy * y + dz * z
        dx = (dx - along * x) * inverse
        dy = (dy - along * y) * inverse
        dz = (dz - along * z) * inverse
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


@triton_jit
def _coefficient_gradient(
    means, centers, colors, outer, d_sh, count, views, sh_stride, mean_stride, bases: tl.constexpr
):
    width: tl.constexpr = triton.next_power_of_2(3 * bases)
    n = tl.program_id(0) * _ROWS + tl.arange(0, _ROWS)
    column = tl.arange(0, width)[None]
    channel = column % 3
    inside = n < count
    mask = (n[:, None] < count) & (column < 3 * bases)
    to = d_sh + 3 * bases * n[:, None] + column
    total = tl.zeros([_ROWS, width], tl.float32)
    for view in range(views):
        x, y, z, _ = direction(means + view * mean_stride, centers + 3 * view, n, inside)
        offset = 3 * (view * count + n)
        red = _color_gradient(colors, outer, offset, inside)
        green = _color_gradient(colors, outer, offset + 1, inside)
        blue = _color_gradient(colors, outer, offset + 2, inside)
        by_color = tl.where(
            channel == 0, red[:, None], tl.where(channel == 1, green[:, None], blue[:, None])
        )
        b = tl.zeros([_ROWS, width], tl.float32)
        for k in tl.static_range(bases):
            b = tl.where(column // 3 == k, basis(x, y, z, k)[:, None], b)
        if sh_stride == 0:
            total += b * by_color
        else:
            tl.store(to + tl.cast(view, tl.int64) * sh_stride, b * by_color, mask)
    if sh_stride == 0:
        tl.store(to, total, mask)
