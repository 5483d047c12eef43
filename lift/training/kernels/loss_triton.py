"""CUDA kernels of the training loss: photometric error, depth error and robust frame weights.

The photometric loss takes two launches forwards: blur along rows, then blur down columns and
compare. It takes two backwards, because the blur is its own adjoint. It needs no copy of the frame
as floats. Rows are lines of 3 x width floats, in which a neighbour to the side is three floats on.

Values of losses are summed by atomic additions, in no fixed order. Gradients of the photometric
loss do not depend on them. The gradient of the depth loss does by its total weight, in the last
digits, like all sums of gsplat.
"""

# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false
import torch
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from lift.runtime.jit import cdiv, triton_jit
from lift.training.kernels import ssim_window

_C1 = tl.constexpr(ssim_window.C1)
_C2 = tl.constexpr(ssim_window.C2)
_TAPS = tl.constexpr(len(ssim_window.WINDOW))
_RADIUS = tl.constexpr(len(ssim_window.WINDOW) // 2)
_LINE = tl.constexpr(512)
"""Floats of a line that one program blurs."""
_ROWS = tl.constexpr(8)
_COLUMNS = tl.constexpr(128)
"""Floats of a row in a tile of `_ROWS` rows."""
_PIXELS = tl.constexpr(1024)
"""Pixels in a program of the depth loss."""
_windows: dict[torch.device, Tensor] = {}
"""Copy of the window on each device."""


def photometric(rgb: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Compute `lift.training.losses.photometric` on CUDA.

    Args:
        rgb: Rendered colours, float32 [view height width 3].
        frames: Colours of the frames, uint8 [view height width 3].
    """
    # Pixels may be apart, as in a render with depth, but rows must be dense.
    if (
        rgb.stride(-1) != 1
        or rgb.stride(1) != rgb.shape[2] * rgb.stride(2)
        or rgb.stride(0) != rgb.shape[1] * rgb.stride(1)
    ):
        rgb = rgb.contiguous()
    return _TritonPhotometric.apply(rgb, frames.contiguous())


def inverse_depth(
    rendered: Tensor, alpha: Tensor, target: Tensor, confidence: Tensor, unit: float
) -> Tensor:
    """Compute `lift.training.losses.inverse_depth` on CUDA.

    Args:
        rendered: Rendered z-depth, float32 [view height width], as are all tensors.
        alpha: Coverage of the render in [0, 1].
        target: z-depth of the frames; 0 where it is unknown.
        confidence: Weights of the target in [0, 1].
        unit: The scene's typical depth.
    """
    return _TritonInverseDepth.apply(
        rendered.contiguous(),
        alpha.contiguous(),
        target.contiguous(),
        confidence.contiguous(),
        unit,
    )


def frame_weights(errors: Tensor, views: Tensor, bound: float) -> Tensor:
    """Compute `lift.training.robust.frame_weights` on CUDA.

    Args:
        errors: Last error of each frame of the scene [frame], at most 1024.
        views: Indices of the frames to weight [view].
        bound: A frame at this multiple of the median error gets weight 1/2.

    Returns:
        Weights [view].
    """
    weights = errors.new_empty(len(views))
    _frame_weights[1,](
        errors,
        views.contiguous(),
        weights,
        len(errors),
        len(views),
        bound,
        max(16, 1 << (len(errors) - 1).bit_length()),
    )
    return weights


class _TritonPhotometric(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rgb, frames):
        views, height, width, _ = rgb.shape
        window = _windows.get(rgb.device)
        if window is None:
            window = _windows[rgb.device] = torch.from_numpy(ssim_window.WINDOW).to(rgb.device)
        lines, tiles = _grids(views, height, width)
        moments = rgb.new_empty(5, views, height, 3 * width)
        slopes = rgb.new_empty(3, views, height, 3 * width)
        means = rgb.new_zeros(views + 1)  # difference of each view, then similarity of all
        _blur_rows[lines](
            rgb,
            frames,
            window,
            moments,
            means,
            height,
            width,
            rgb.stride(2),
            rgb.numel(),
            views / rgb.numel(),
        )
        _compare_columns[tiles](
            moments, window, slopes, means[views:], height, 3 * width, rgb.numel(), 1 / rgb.numel()
        )
        ctx.save_for_backward(rgb, frames, window, slopes)
        return means[:views], means[views]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_difference, grad_similarity):
        rgb, frames, window, slopes = ctx.saved_tensors
        views, height, width, _ = rgb.shape
        lines, tiles = _grids(views, height, width)
        blurred = torch.empty_like(slopes)
        gradient = rgb.new_empty(rgb.shape)
        _blur_slopes[lines](slopes, window, blurred, 3 * width, rgb.numel())
        _photometric_gradient[tiles](
            rgb,
            frames,
            window,
            blurred,
            grad_difference.contiguous(),
            grad_similarity,
            gradient,
            height,
            3 * width,
            rgb.stride(2),
            rgb.numel(),
            views / rgb.numel(),
            1 / rgb.numel(),
        )
        return gradient, None


class _TritonInverseDepth(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rendered, alpha, target, confidence, unit):
        sums = rendered.new_zeros(2)
        count = rendered.numel()
        _depth_sums[cdiv(count, _PIXELS),](
            rendered, alpha, target, confidence, sums, count, 0.02 * unit
        )
        ctx.save_for_backward(rendered, alpha, target, confidence, sums)
        ctx.unit = unit
        return unit * sums[0] / sums[1].clamp(min=1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        *inputs, sums = ctx.saved_tensors
        gradient = torch.empty_like(inputs[0])
        count = inputs[0].numel()
        _depth_gradient[cdiv(count, _PIXELS),](
            *inputs, sums, grad, gradient, count, 0.02 * ctx.unit, ctx.unit
        )
        return gradient, None, None, None, None


def _grids(views: int, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int, int]]:
    """Return the grids of kernels on lines, and of kernels on tiles."""
    lines = cdiv(3 * width, _LINE), views * height
    return lines, (cdiv(3 * width, _COLUMNS), cdiv(height, _ROWS), views)


@triton_jit
def _blur_rows(x, y, window, moments, means, height, width, pixel_stride, size, factor):
    """Blur x, y, xx, yy and xy of one line, and add |x - y| to the sum of its view."""
    line = tl.program_id(1)
    j = tl.program_id(0) * _LINE + tl.arange(0, _LINE)
    zero = tl.zeros([_LINE], tl.float32)
    ex = zero
    ey = zero
    exx = zero
    eyy = zero
    exy = zero
    difference = zero
    for t in tl.static_range(_TAPS):
        at = j + 3 * (t - _RADIUS)
        inside = (at >= 0) & (at < 3 * width)
        at = tl.maximum(at, 0)
        a = tl.load(x + (line * width + at // 3) * pixel_stride + at % 3, inside, 0.0)
        b = tl.load(y + line * 3 * width + at, inside, 0).to(tl.float32) / 255.0
        w = tl.load(window + t)
        ex += w * a
        ey += w * b
        exx += w * a * a
        eyy += w * b * b
        exy += w * a * b
        if t == _RADIUS:
            difference += tl.abs(a - b)
    to = moments + line * 3 * width + j
    inside = j < 3 * width
    tl.store(to, ex, inside)
    tl.store(to + size, ey, inside)
    tl.store(to + 2 * size, exx, inside)
    tl.store(to + 3 * size, eyy, inside)
    tl.store(to + 4 * size, exy, inside)
    tl.atomic_add(means + line // height, tl.sum(difference, 0) * factor)


@triton_jit
def _tile(height, length):
    """Return a tile's rows and columns, the offset of its plane, and which pixels lie inside."""
    i = tl.program_id(1) * _ROWS + tl.arange(0, _ROWS)[:, None]
    j = tl.program_id(0) * _COLUMNS + tl.arange(0, _COLUMNS)[None]
    return i, j, tl.program_id(2) * height * length, (i < height) & (j < length)


@triton_jit
def _compare_columns(moments, window, slopes, means, height, length, size, factor):
    """Blur the moments down the columns, and sum the similarity.

    Also write the derivatives of the similarity by E[x], E[xx] and E[xy].
    """
    i, j, plane, inside = _tile(height, length)
    zero = tl.zeros([_ROWS, _COLUMNS], tl.float32)
    mx = zero
    my = zero
    exx = zero
    eyy = zero
    exy = zero
    for t in tl.static_range(_TAPS):
        row = i + t - _RADIUS
        valid = (row >= 0) & (row < height) & (j < length)
        w = tl.load(window + t)
        at = moments + plane + row * length + j
        mx += w * tl.load(at, valid, 0.0)
        my += w * tl.load(at + size, valid, 0.0)
        exx += w * tl.load(at + 2 * size, valid, 0.0)
        eyy += w * tl.load(at + 3 * size, valid, 0.0)
        exy += w * tl.load(at + 4 * size, valid, 0.0)
    a1 = 2.0 * mx * my + _C1
    a2 = 2.0 * (exy - mx * my) + _C2
    b1 = 1.0 / (mx * mx + my * my + _C1)
    b2 = 1.0 / (exx - mx * mx + eyy - my * my + _C2)
    s = a1 * a2 * b1 * b2
    to = slopes + plane + i * length + j
    tl.store(to, 2.0 * (my * (a2 - a1) * b1 * b2 + mx * s * (b2 - b1)), inside)
    tl.store(to + size, -s * b2, inside)
    tl.store(to + 2 * size, 2.0 * a1 * b1 * b2, inside)
    tl.atomic_add(means, tl.sum(tl.sum(tl.where(inside, s, 0.0), 1), 0) * factor)


@triton_jit
def _blur_slopes(slopes, window, blurred, length, size):
    """Blur the derivatives of one line."""
    line = tl.program_id(1)
    j = tl.program_id(0) * _LINE + tl.arange(0, _LINE)
    zero = tl.zeros([_LINE], tl.float32)
    d0 = zero
    d1 = zero
    d2 = zero
    for t in tl.static_range(_TAPS):
        at = j + 3 * (t - _RADIUS)
        inside = (at >= 0) & (at < length)
        w = tl.load(window + t)
        source = slopes + line * length + at
        d0 += w * tl.load(source, inside, 0.0)
        d1 += w * tl.load(source + size, inside, 0.0)
        d2 += w * tl.load(source + 2 * size, inside, 0.0)
    to = blurred + line * length + j
    inside = j < length
    tl.store(to, d0, inside)
    tl.store(to + size, d1, inside)
    tl.store(to + 2 * size, d2, inside)


@triton_jit
def _photometric_gradient(
    x,
    y,
    window,
    blurred,
    grad_difference,
    grad_similarity,
    gradient,
    height,
    length,
    pixel_stride,
    size,
    view_factor,
    total_factor,
):
    """Blur the derivatives down the columns, and write the gradient by x.

    The gradient of the similarity follows by the chain rule through x, xx and xy. That of the
    difference is its sign.
    """
    i, j, plane, inside = _tile(height, length)
    zero = tl.zeros([_ROWS, _COLUMNS], tl.float32)
    d0 = zero
    d1 = zero
    d2 = zero
    for t in tl.static_range(_TAPS):
        row = i + t - _RADIUS
        valid = (row >= 0) & (row < height) & (j < length)
        w = tl.load(window + t)
        at = blurred + plane + row * length + j
        d0 += w * tl.load(at, valid, 0.0)
        d1 += w * tl.load(at + size, valid, 0.0)
        d2 += w * tl.load(at + 2 * size, valid, 0.0)
    at = plane + i * length + j
    a = tl.load(x + (at // 3) * pixel_stride + at % 3, inside, 0.0)
    b = tl.load(y + at, inside, 0).to(tl.float32) / 255.0
    sign = tl.where(a > b, 1.0, tl.where(a < b, -1.0, 0.0))
    similar = d0 + 2.0 * a * d1 + b * d2
    by_difference = view_factor * tl.load(grad_difference + tl.program_id(2))
    tl.store(
        gradient + at,
        total_factor * tl.load(grad_similarity) * similar + by_difference * sign,
        inside,
    )


@triton_jit
def _target_weight(alpha, target, confidence, i, inside):
    """Return the target, and the confidence of pixels with a target that the render covers."""
    target_depth = tl.load(target + i, inside, 0.0)
    valid = (target_depth > 0.0) & (tl.load(alpha + i, inside, 0.0) > 0.5)
    return target_depth, tl.where(valid, tl.load(confidence + i, inside, 0.0), 0.0)


@triton_jit
def _depth_sums(rendered, alpha, target, confidence, sums, count, min_depth):
    """Add up the weighted differences of inverse depth, and the weights."""
    i = tl.program_id(0) * _PIXELS + tl.arange(0, _PIXELS)
    inside = i < count
    target_depth, weight = _target_weight(alpha, target, confidence, i, inside)
    difference = tl.abs(
        1.0 / tl.maximum(tl.load(rendered + i, inside, 1.0), min_depth)
        - 1.0 / tl.maximum(target_depth, min_depth)
    )
    tl.atomic_add(sums, tl.sum(weight * difference, 0))
    tl.atomic_add(sums + 1, tl.sum(weight, 0))


@triton_jit
def _depth_gradient(
    rendered, alpha, target, confidence, sums, grad, gradient, count, min_depth, unit
):
    """Write the gradient by the rendered depth."""
    i = tl.program_id(0) * _PIXELS + tl.arange(0, _PIXELS)
    inside = i < count
    target_depth, weight = _target_weight(alpha, target, confidence, i, inside)
    depth = tl.load(rendered + i, inside, 1.0)
    nearer = tl.maximum(target_depth, min_depth)
    slope = tl.where(
        depth < min_depth, 0.0, tl.where(depth < nearer, -1.0, tl.where(depth > nearer, 1.0, 0.0))
    )
    slope /= tl.maximum(depth, min_depth) * tl.maximum(
        depth, min_depth
    )  # the depth is 0 where nothing was hit
    tl.store(
        gradient + i,
        tl.load(grad) * unit * weight * slope / tl.maximum(tl.load(sums + 1), 1.0),
        inside,
    )


@triton_jit
def _frame_weights(errors, views, weights, frames, count, bound, FRAMES: tl.constexpr):  # noqa: N803
    """Write the robust weights of frames.

    The median is the lower one of the errors above 0. Until there is any, all weights are 1.
    """
    i = tl.arange(0, FRAMES)
    error = tl.load(errors + i, i < frames, 0.0)
    num_errors = tl.sum((error > 0.0).to(tl.int32), 0)
    sorted_errors = tl.sort(tl.where(error > 0.0, error, float("inf")))
    typical = tl.sum(tl.where(i == (num_errors - 1) // 2, sorted_errors, 0.0), 0)
    for k in range(count):
        view = tl.load(views + k)
        ratio = tl.load(errors + view) / (bound * typical)
        ratio = tl.where(ratio == ratio, ratio, 0.0)  # NaN counts as 0
        square = ratio * ratio
        weight = 1.0 / (1.0 + square * square * square)
        tl.store(weights + k, tl.where(view > 0, weight, 1.0))
