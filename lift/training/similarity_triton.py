"""CUDA kernels of `lift.training.losses.photometric`: mean absolute difference and structural similarity of a render and a frame.

Two launches forwards (blur along rows; blur down columns and compare) and two backwards (the blur is its own adjoint), without a copy of
the frame as floats. Rows are lines of 3 x width floats, in which a tap to the side is three floats on.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from lift.jit import kernel
from lift.training import similarity

_C1, _C2 = tl.constexpr(similarity.C1), tl.constexpr(similarity.C2)
_TAPS = tl.constexpr(len(similarity.WINDOW))
_REACH = tl.constexpr(len(similarity.WINDOW) // 2)
_LINE = tl.constexpr(512)
_ROWS, _COLUMNS = tl.constexpr(8), tl.constexpr(128)
_windows: dict[torch.device, Tensor] = {}


def photometric(rgb: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """As `lift.training.losses.photometric`; rgb float32, frames uint8, on one CUDA device."""
    if rgb.stride(-1) != 1 or rgb.stride(1) != rgb.shape[2] * rgb.stride(2) or rgb.stride(0) != rgb.shape[1] * rgb.stride(1):
        rgb = rgb.contiguous()  # pixels may lie apart, as in a render with depth, but nothing between rows
    return _Photometric.apply(rgb, frames.contiguous())


class _Photometric(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rgb, frames):
        views, height, width, _ = rgb.shape
        window = _windows.get(rgb.device)
        if window is None:
            window = _windows[rgb.device] = torch.from_numpy(similarity.WINDOW).to(rgb.device)
        lines, tiles = _grids(views, height, width)
        moments, slopes = rgb.new_empty(5, views, height, 3 * width), rgb.new_empty(3, views, height, 3 * width)
        differences, similarities = rgb.new_empty(lines), rgb.new_empty(tiles)
        _along[lines](rgb, frames, window, moments, differences, width, rgb.stride(2), rgb.numel())
        _compare[tiles](moments, window, slopes, similarities, height, 3 * width, rgb.numel())
        ctx.save_for_backward(rgb, frames, window, slopes)
        return differences.sum() / rgb.numel(), similarities.sum() / rgb.numel()

    @staticmethod
    @once_differentiable
    def backward(ctx, by_difference, by_similarity):
        rgb, frames, window, slopes = ctx.saved_tensors
        views, height, width, _ = rgb.shape
        lines, tiles = _grids(views, height, width)
        blurred, gradient = torch.empty_like(slopes), rgb.new_empty(rgb.shape)
        _along_again[lines](slopes, window, blurred, 3 * width, rgb.numel())
        _gradient[tiles](
            rgb, frames, window, blurred, by_difference, by_similarity, gradient, height, 3 * width, rgb.stride(2), rgb.numel(), 1 / rgb.numel()
        )
        return gradient, None


def _grids(views: int, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int, int]]:
    lines = triton.cdiv(3 * width, _LINE.value), views * height
    return lines, (triton.cdiv(3 * width, _COLUMNS.value), triton.cdiv(height, _ROWS.value), views)


@kernel
def _along(x, y, window, moments, differences, width, pixel, size):
    """Blurs x, y, xx, yy, xy of one line; sums |x - y|."""
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
    tl.store(differences + tl.program_id(0) * tl.num_programs(1) + line, tl.sum(difference, 0))


@kernel
def _tile(height, length):
    """Rows and columns of this program's tile, where it begins in a plane, and which of it lies inside."""
    i = tl.program_id(1) * _ROWS + tl.arange(0, _ROWS)[:, None]
    j = tl.program_id(0) * _COLUMNS + tl.arange(0, _COLUMNS)[None]
    return i, j, tl.program_id(2) * height * length, (i < height) & (j < length)


@kernel
def _compare(moments, window, slopes, similarities, height, length, size):
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
    program = (tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(0) + tl.program_id(0)
    tl.store(similarities + program, tl.sum(tl.sum(tl.where(inside, s, 0.0), 1), 0))


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
def _gradient(x, y, window, blurred, by_difference, by_similarity, gradient, height, length, pixel, size, share):
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
    tl.store(gradient + at, share * (tl.load(by_similarity) * similar + tl.load(by_difference) * sign), inside)
