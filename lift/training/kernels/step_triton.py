"""CUDA kernels of a training step: the losses, the raw parameters' physical values, and Adam.

The photometric loss takes two launches forwards (blur along rows; blur down columns and compare) and two backwards (the blur is its own
adjoint), without a copy of the frame as floats. Rows are lines of 3 x width floats, in which a tap to the side is three floats on.
Values of losses are summed by atomic additions, in no fixed order. Gradients of the photometric loss do not depend on them; that of the
depth loss does by its total weight, in the last digits, as everything that gsplat adds up does.
"""

import torch
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from lift.runtime.jit import cdiv, kernel
from lift.training.kernels import ssim_window

_C1, _C2 = tl.constexpr(ssim_window.C1), tl.constexpr(ssim_window.C2)
_TAPS = tl.constexpr(len(ssim_window.WINDOW))
_REACH = tl.constexpr(len(ssim_window.WINDOW) // 2)
_LINE = tl.constexpr(512)
_ROWS, _COLUMNS = tl.constexpr(8), tl.constexpr(128)
_PIXELS, _GAUSSIANS, _STEP = tl.constexpr(1024), tl.constexpr(256), tl.constexpr(1024)
_windows: dict[torch.device, Tensor] = {}


def photometric(rgb: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """As `lift.training.losses.photometric`; rgb float32, frames uint8, on one CUDA device."""
    if (
        rgb.stride(-1) != 1
        or rgb.stride(1) != rgb.shape[2] * rgb.stride(2)
        or rgb.stride(0) != rgb.shape[1] * rgb.stride(1)
    ):
        rgb = (
            rgb.contiguous()
        )  # pixels may lie apart, as in a render with depth, but nothing between rows
    return _Photometric.apply(rgb, frames.contiguous())


def inverse_depth(
    rendered: Tensor, alpha: Tensor, target: Tensor, confidence: Tensor, unit: float
) -> Tensor:
    """As `lift.training.losses.inverse_depth`, for float32 on one CUDA device."""
    return _InverseDepth.apply(
        rendered.contiguous(),
        alpha.contiguous(),
        target.contiguous(),
        confidence.contiguous(),
        unit,
    )


def activated(scales: Tensor, quats: Tensor, opacities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Standard deviations, unit quaternions and opacities of raw parameters: exp, normalised, sigmoid."""
    return _Activated.apply(scales.contiguous(), quats.contiguous(), opacities.contiguous())


def worth(errors: Tensor, views: Tensor, bound: float) -> Tensor:
    """What frames `views` [view] count, [view], as `lift.training.module.SceneModule.worth` says it of the last errors [frame] of all, at most 1024."""
    worth = errors.new_empty(len(views))
    _worths[1,](
        errors,
        views.contiguous(),
        worth,
        len(errors),
        len(views),
        bound,
        max(16, 1 << (len(errors) - 1).bit_length()),
    )
    return worth


class Adam(torch.optim.Adam):
    """torch.optim.Adam (Kingma and Ba, 2015) for a few large float32 parameters on CUDA: one launch each and nothing else, where torch's
    fused one spends a millisecond of a slow processor on lists. No weight decay, no closure; loads the state of torch's.
    """

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None or parameter.numel() == 0:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros(())
                    state["exp_avg"], state["exp_avg_sq"] = (
                        torch.zeros_like(parameter),
                        torch.zeros_like(parameter),
                    )
                elif state["step"].is_cuda:  # as torch's fused one keeps it
                    state["step"] = state["step"].cpu()
                state["step"] += 1
                (first, second), number = group["betas"], float(state["step"])
                rate, spread = group["lr"] / (1 - first**number), (1 - second**number) ** -0.5
                count = parameter.numel()
                _adam[cdiv(count, _STEP),](
                    parameter,
                    parameter.grad.contiguous(),
                    state["exp_avg"],
                    state["exp_avg_sq"],
                    count,
                    rate,
                    spread,
                    first,
                    second,
                    group["eps"],
                )


class _Photometric(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rgb, frames):
        views, height, width, _ = rgb.shape
        window = _windows.get(rgb.device)
        if window is None:
            window = _windows[rgb.device] = torch.from_numpy(ssim_window.WINDOW).to(rgb.device)
        lines, tiles = _grids(views, height, width)
        moments, slopes = (
            rgb.new_empty(5, views, height, 3 * width),
            rgb.new_empty(3, views, height, 3 * width),
        )
        means = rgb.new_zeros(views + 1)  # of each view's differences, and of all similarities
        _along[lines](
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
        _compare[tiles](
            moments, window, slopes, means[views:], height, 3 * width, rgb.numel(), 1 / rgb.numel()
        )
        ctx.save_for_backward(rgb, frames, window, slopes)
        return means[:views], means[views]

    @staticmethod
    @once_differentiable
    def backward(ctx, by_difference, by_similarity):
        rgb, frames, window, slopes = ctx.saved_tensors
        views, height, width, _ = rgb.shape
        lines, tiles = _grids(views, height, width)
        blurred, gradient = torch.empty_like(slopes), rgb.new_empty(rgb.shape)
        _along_again[lines](slopes, window, blurred, 3 * width, rgb.numel())
        _gradient[tiles](
            rgb,
            frames,
            window,
            blurred,
            by_difference.contiguous(),
            by_similarity,
            gradient,
            height,
            3 * width,
            rgb.stride(2),
            rgb.numel(),
            views / rgb.numel(),
            1 / rgb.numel(),
        )
        return gradient, None


class _InverseDepth(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rendered, alpha, target, confidence, unit):
        sums, count = rendered.new_zeros(2), rendered.numel()
        _depth_sums[cdiv(count, _PIXELS),](
            rendered, alpha, target, confidence, sums, count, 0.02 * unit
        )
        ctx.save_for_backward(rendered, alpha, target, confidence, sums)
        ctx.unit = unit
        return unit * sums[0] / sums[1].clamp(min=1)

    @staticmethod
    @once_differentiable
    def backward(ctx, outer):
        *inputs, sums = ctx.saved_tensors
        gradient, count = torch.empty_like(inputs[0]), inputs[0].numel()
        _depth_gradient[cdiv(count, _PIXELS),](
            *inputs, sums, outer, gradient, count, 0.02 * ctx.unit, ctx.unit
        )
        return gradient, None, None, None, None


class _Activated(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scales, quats, opacities):
        physical = torch.empty_like(scales), torch.empty_like(quats), torch.empty_like(opacities)
        if count := len(opacities):
            _activate[cdiv(count, _GAUSSIANS),](scales, quats, opacities, *physical, count)
        ctx.save_for_backward(quats, *physical)
        return physical

    @staticmethod
    @once_differentiable
    def backward(ctx, *outer):
        quats, *physical = ctx.saved_tensors
        gradients = [torch.empty_like(value) for value in physical]
        if count := len(quats):
            outer = [value.contiguous() for value in outer]
            _activate_gradient[cdiv(count, _GAUSSIANS),](
                quats, *physical, *outer, *gradients, count
            )
        return tuple(gradients)


def _grids(views: int, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int, int]]:
    lines = cdiv(3 * width, _LINE), views * height
    return lines, (cdiv(3 * width, _COLUMNS), cdiv(height, _ROWS), views)


@kernel
def _along(x, y, window, moments, means, height, width, pixel, size, share):
    """Blurs x, y, xx, yy, xy of one line; sums its view's |x - y|."""
    line, j = tl.program_id(1), tl.program_id(0) * _LINE + tl.arange(0, _LINE)
    zero = tl.zeros([_LINE], tl.float32)
    ex, ey, exx, eyy, exy, difference = zero, zero, zero, zero, zero, zero
    for t in tl.static_range(_TAPS):
        at = j + 3 * (t - _REACH)
        inside = (at >= 0) & (at < 3 * width)
        at = tl.maximum(at, 0)
        a = tl.load(x + (line * width + at // 3) * pixel + at % 3, inside, 0.0)
        b = tl.load(y + line * 3 * width + at, inside, 0).to(tl.float32) / 255.0
        w = tl.load(window + t)
        ex += w * a
        ey += w * b
        exx += w * a * a
        eyy += w * b * b
        exy += w * a * b
        if t == _REACH:
            difference += tl.abs(a - b)
    to, inside = moments + line * 3 * width + j, j < 3 * width
    tl.store(to, ex, inside)
    tl.store(to + size, ey, inside)
    tl.store(to + 2 * size, exx, inside)
    tl.store(to + 3 * size, eyy, inside)
    tl.store(to + 4 * size, exy, inside)
    tl.atomic_add(means + line // height, tl.sum(difference, 0) * share)


@kernel
def _tile(height, length):
    """Rows and columns of this program's tile, where it begins in a plane, and which of it lies inside."""
    i = tl.program_id(1) * _ROWS + tl.arange(0, _ROWS)[:, None]
    j = tl.program_id(0) * _COLUMNS + tl.arange(0, _COLUMNS)[None]
    return i, j, tl.program_id(2) * height * length, (i < height) & (j < length)


@kernel
def _compare(moments, window, slopes, means, height, length, size, share):
    """Blurs the moments down the columns, sums the similarity, and writes its derivatives by E[x], E[xx], E[xy]."""
    i, j, first, inside = _tile(height, length)
    zero = tl.zeros([_ROWS, _COLUMNS], tl.float32)
    mx, my, exx, eyy, exy = zero, zero, zero, zero, zero
    for t in tl.static_range(_TAPS):
        row = i + t - _REACH
        known, w = (row >= 0) & (row < height) & (j < length), tl.load(window + t)
        at = moments + first + row * length + j
        mx += w * tl.load(at, known, 0.0)
        my += w * tl.load(at + size, known, 0.0)
        exx += w * tl.load(at + 2 * size, known, 0.0)
        eyy += w * tl.load(at + 3 * size, known, 0.0)
        exy += w * tl.load(at + 4 * size, known, 0.0)
    a1, a2 = 2.0 * mx * my + _C1, 2.0 * (exy - mx * my) + _C2
    b1, b2 = 1.0 / (mx * mx + my * my + _C1), 1.0 / (exx - mx * mx + eyy - my * my + _C2)
    s = a1 * a2 * b1 * b2
    to = slopes + first + i * length + j
    tl.store(to, 2.0 * (my * (a2 - a1) * b1 * b2 + mx * s * (b2 - b1)), inside)
    tl.store(to + size, -s * b2, inside)
    tl.store(to + 2 * size, 2.0 * a1 * b1 * b2, inside)
    tl.atomic_add(means, tl.sum(tl.sum(tl.where(inside, s, 0.0), 1), 0) * share)


@kernel
def _along_again(slopes, window, blurred, length, size):
    line, j = tl.program_id(1), tl.program_id(0) * _LINE + tl.arange(0, _LINE)
    zero = tl.zeros([_LINE], tl.float32)
    d0, d1, d2 = zero, zero, zero
    for t in tl.static_range(_TAPS):
        at = j + 3 * (t - _REACH)
        inside, w = (at >= 0) & (at < length), tl.load(window + t)
        place = slopes + line * length + at
        d0 += w * tl.load(place, inside, 0.0)
        d1 += w * tl.load(place + size, inside, 0.0)
        d2 += w * tl.load(place + 2 * size, inside, 0.0)
    to, inside = blurred + line * length + j, j < length
    tl.store(to, d0, inside)
    tl.store(to + size, d1, inside)
    tl.store(to + 2 * size, d2, inside)


@kernel
def _gradient(
    x,
    y,
    window,
    blurred,
    by_difference,
    by_similarity,
    gradient,
    height,
    length,
    pixel,
    size,
    of_view,
    of_all,
):
    """Blurs the derivatives down the columns; the chain rule through x, xx and xy, and the difference's sign."""
    i, j, first, inside = _tile(height, length)
    zero = tl.zeros([_ROWS, _COLUMNS], tl.float32)
    d0, d1, d2 = zero, zero, zero
    for t in tl.static_range(_TAPS):
        row = i + t - _REACH
        known, w = (row >= 0) & (row < height) & (j < length), tl.load(window + t)
        at = blurred + first + row * length + j
        d0 += w * tl.load(at, known, 0.0)
        d1 += w * tl.load(at + size, known, 0.0)
        d2 += w * tl.load(at + 2 * size, known, 0.0)
    at = first + i * length + j
    a = tl.load(x + (at // 3) * pixel + at % 3, inside, 0.0)
    b = tl.load(y + at, inside, 0).to(tl.float32) / 255.0
    sign = tl.where(a > b, 1.0, tl.where(a < b, -1.0, 0.0))
    similar = d0 + 2.0 * a * d1 + b * d2
    by_own = of_view * tl.load(by_difference + tl.program_id(2))
    tl.store(gradient + at, of_all * tl.load(by_similarity) * similar + by_own * sign, inside)


@kernel
def _known(alpha, target, confidence, i, inside):
    """A pixel's weight: its confidence where the target is known and the render covers."""
    deep = tl.load(target + i, inside, 0.0)
    known = (deep > 0.0) & (tl.load(alpha + i, inside, 0.0) > 0.5)
    return deep, tl.where(known, tl.load(confidence + i, inside, 0.0), 0.0)


@kernel
def _depth_sums(rendered, alpha, target, confidence, sums, count, least):
    i = tl.program_id(0) * _PIXELS + tl.arange(0, _PIXELS)
    inside = i < count
    deep, weight = _known(alpha, target, confidence, i, inside)
    difference = tl.abs(
        1.0 / tl.maximum(tl.load(rendered + i, inside, 1.0), least) - 1.0 / tl.maximum(deep, least)
    )
    tl.atomic_add(sums, tl.sum(weight * difference, 0))
    tl.atomic_add(sums + 1, tl.sum(weight, 0))


@kernel
def _depth_gradient(rendered, alpha, target, confidence, sums, outer, gradient, count, least, unit):
    i = tl.program_id(0) * _PIXELS + tl.arange(0, _PIXELS)
    inside = i < count
    deep, weight = _known(alpha, target, confidence, i, inside)
    own = tl.load(rendered + i, inside, 1.0)
    nearer = tl.maximum(deep, least)
    slope = tl.where(
        own < least, 0.0, tl.where(own < nearer, -1.0, tl.where(own > nearer, 1.0, 0.0))
    )
    slope /= tl.maximum(own, least) * tl.maximum(own, least)  # where nothing was hit `own` is 0
    tl.store(
        gradient + i,
        tl.load(outer) * unit * weight * slope / tl.maximum(tl.load(sums + 1), 1.0),
        inside,
    )


@kernel
def _activate(scales, quats, opacities, to_scales, to_quats, to_opacities, count):
    n = tl.program_id(0) * _GAUSSIANS + tl.arange(0, _GAUSSIANS)
    inside = n < count
    for k in tl.static_range(3):
        tl.store(to_scales + 3 * n + k, tl.exp(tl.load(scales + 3 * n + k, inside, 0.0)), inside)
    square = tl.zeros([_GAUSSIANS], tl.float32)
    for k in tl.static_range(4):
        q = tl.load(quats + 4 * n + k, inside, 0.0)
        square += q * q
    length = tl.maximum(tl.sqrt(square), 1e-12)
    for k in tl.static_range(4):
        tl.store(to_quats + 4 * n + k, tl.load(quats + 4 * n + k, inside, 0.0) / length, inside)
    tl.store(to_opacities + n, 1.0 / (1.0 + tl.exp(-tl.load(opacities + n, inside, 0.0))), inside)


@kernel
def _activate_gradient(
    quats,
    scales,
    units,
    opacities,
    by_scales,
    by_units,
    by_opacities,
    d_scales,
    d_quats,
    d_opacities,
    count,
):
    n = tl.program_id(0) * _GAUSSIANS + tl.arange(0, _GAUSSIANS)
    inside = n < count
    for k in tl.static_range(3):
        at = 3 * n + k
        tl.store(
            d_scales + at,
            tl.load(by_scales + at, inside, 0.0) * tl.load(scales + at, inside, 0.0),
            inside,
        )
    square, along = tl.zeros([_GAUSSIANS], tl.float32), tl.zeros([_GAUSSIANS], tl.float32)
    for k in tl.static_range(4):
        q = tl.load(quats + 4 * n + k, inside, 0.0)
        square += q * q
        along += tl.load(units + 4 * n + k, inside, 0.0) * tl.load(
            by_units + 4 * n + k, inside, 0.0
        )
    length = tl.maximum(tl.sqrt(square), 1e-12)
    for k in tl.static_range(4):
        at = 4 * n + k
        tl.store(
            d_quats + at,
            (tl.load(by_units + at, inside, 0.0) - along * tl.load(units + at, inside, 0.0))
            / length,
            inside,
        )
    opacity = tl.load(opacities + n, inside, 0.0)
    tl.store(
        d_opacities + n, tl.load(by_opacities + n, inside, 0.0) * opacity * (1.0 - opacity), inside
    )


@kernel
def _worths(errors, views, worth, frames, count, bound, FRAMES: tl.constexpr):  # noqa: N803
    """The median is the lower one of those that are known; until there are any, all frames count whole."""
    i = tl.arange(0, FRAMES)
    error = tl.load(errors + i, i < frames, 0.0)
    known = tl.sum((error > 0.0).to(tl.int32), 0)
    ordered = tl.sort(tl.where(error > 0.0, error, float("inf")))
    typical = tl.sum(tl.where(i == (known - 1) // 2, ordered, 0.0), 0)
    for k in range(count):
        view = tl.load(views + k)
        ratio = tl.load(errors + view) / (bound * typical)
        ratio = tl.where(ratio == ratio, ratio, 0.0)  # no number: nothing is known
        square = ratio * ratio
        counts = 1.0 / (1.0 + square * square * square)
        tl.store(worth + k, tl.where(view > 0, counts, 1.0))


@kernel
def _adam(parameter, gradient, mean, square, count, rate, spread, first, second, eps):
    i = tl.program_id(0).to(tl.int64) * _STEP + tl.arange(0, _STEP)
    inside = i < count
    g = tl.load(gradient + i, inside, 0.0)
    m = first * tl.load(mean + i, inside, 0.0) + (1.0 - first) * g
    v = second * tl.load(square + i, inside, 0.0) + (1.0 - second) * g * g
    tl.store(mean + i, m, inside)
    tl.store(square + i, v, inside)
    tl.store(
        parameter + i,
        tl.load(parameter + i, inside, 0.0) - rate * m / (tl.sqrt(v) * spread + eps),
        inside,
    )
