"""Compiled kernels of `lift.training.losses` for the CPU: value and gradient in one pass, since a training step wants both.

Rows are handled as one line of width x channel floats, eight at a time; a tap to the side is the same line `channels` floats on, and what
lies outside the picture is a margin of zeros. A thread walks down a band of rows and keeps the eleven lines that a vertical tap reaches in
a ring, so intermediate pictures never go to memory. A row's values do not depend on the bands, so not on the number of threads.
"""

import numba
import numpy as np
import torch
from numba import prange
from torch import Tensor
from torch.autograd.function import once_differentiable

from lift.renderers.cpu import lanes
from lift.renderers.cpu.lanes import WIDTH, broadcast, load, ramp, store, total, where_below
from lift.runtime import jit
from lift.training.kernels.ssim_window import C1, C2, WINDOW

_TAPS = len(WINDOW)
_REACH = _TAPS // 2
_SKEW = 112
"""Lines whose distance is close to a power of two would share a few of the cache's sets; by this many floats they are spread over all."""
_C1, _C2 = np.float32(C1), np.float32(C2)
_W0, _W1, _W2, _W3, _W4, _W5 = (np.float32(w) for w in WINDOW[: _REACH + 1])
_STAMP = jit.stamp(__file__, lanes.__file__)
_inline = jit.compiled(_STAMP, fastmath=True, error_model="numpy")
_kernel = jit.compiled(_STAMP, fastmath=True, error_model="numpy", parallel=jit.PARALLEL)


def photometric(rgb: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """As `lift.training.losses.photometric`, for float32 on the CPU; frames uint8, or float32 in [0, 1]."""
    return _Photometric.apply(rgb, frames)


def inverse_depth(
    rendered: Tensor, alpha: Tensor, target: Tensor, confidence: Tensor, unit: float
) -> Tensor:
    """As `lift.training.losses.inverse_depth`, for float32 on the CPU."""
    return _InverseDepth.apply(rendered, alpha, target, confidence, unit)


class _Photometric(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rgb, frames):
        x, y = jit.array(rgb), jit.array(frames)
        scale = np.float32(1 / 255 if y.dtype == np.uint8 else 1)
        slopes = np.empty(x.shape, np.float32)
        with jit.one_at_a_time:
            rows = _compare(
                _lines(x), _lines(y), scale, x.shape[3], numba.get_num_threads(), _lines(slopes)
            )
        ctx.save_for_backward(rgb, frames)
        ctx.slopes, ctx.scale = slopes, scale
        sums = rows.sum(1)  # of views
        return rgb.new_tensor(sums[:, 0] * (len(x) / x.size)), rgb.new_tensor(
            sums[:, 1].sum() / x.size
        )

    @staticmethod
    @once_differentiable
    def backward(ctx, by_difference, by_similarity):
        x, y = (jit.array(value) for value in ctx.saved_tensors)
        gradient = np.empty(x.shape, np.float32)
        factors = (
            jit.array(by_difference) * np.float32(len(x) / x.size),
            np.float32(float(by_similarity) / x.size),
        )
        with jit.one_at_a_time:
            _combine(
                _lines(x), _lines(y), ctx.scale, _lines(ctx.slopes), *factors, _lines(gradient)
            )
        return torch.from_numpy(gradient), None


class _InverseDepth(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rendered, alpha, target, confidence, unit):
        slopes = np.empty(rendered.shape, np.float32)
        inputs = (jit.array(value) for value in (rendered, alpha, target, confidence))
        with jit.one_at_a_time:
            rows = _inverse_depth(*inputs, np.float32(0.02 * unit), slopes)
        difference, weight = rows.sum((0, 1))
        ctx.slopes, ctx.factor = slopes, unit / max(weight, 1.0)
        return rendered.new_tensor(ctx.factor * difference)

    @staticmethod
    @once_differentiable
    def backward(ctx, outer):
        return (
            torch.from_numpy(ctx.slopes * np.float32(ctx.factor * float(outer))),
            None,
            None,
            None,
            None,
        )


def _lines(pictures: np.ndarray) -> np.ndarray:
    return pictures.reshape(*pictures.shape[:2], -1)


@_inline
def _along(line, j, c):
    """Horizontal blur at j of a line with a margin of 5 * c floats on both sides."""
    return (
        (load(line, j) + load(line, j + 10 * c)) * _W0
        + (load(line, j + c) + load(line, j + 9 * c)) * _W1
        + (load(line, j + 2 * c) + load(line, j + 8 * c)) * _W2
        + (load(line, j + 3 * c) + load(line, j + 7 * c)) * _W3
        + (load(line, j + 4 * c) + load(line, j + 6 * c)) * _W4
        + load(line, j + 5 * c) * _W5
    )


@_inline
def _down(ring, p, j):
    """Vertical blur at j of the eleven lines that begin at p."""
    return (
        (load(ring, p[0] + j) + load(ring, p[10] + j)) * _W0
        + (load(ring, p[1] + j) + load(ring, p[9] + j)) * _W1
        + (load(ring, p[2] + j) + load(ring, p[8] + j)) * _W2
        + (load(ring, p[3] + j) + load(ring, p[7] + j)) * _W3
        + (load(ring, p[4] + j) + load(ring, p[6] + j)) * _W4
        + load(ring, p[5] + j) * _W5
    )


@_inline
def _places(row, pad):
    """Where the lines of the rows from row - 5 to row + 5 begin in a ring."""
    s = row + 2 * _TAPS - _REACH
    return (
        s % _TAPS * pad,
        (s + 1) % _TAPS * pad,
        (s + 2) % _TAPS * pad,
        (s + 3) % _TAPS * pad,
        (s + 4) % _TAPS * pad,
        (s + 5) % _TAPS * pad,
        (s + 6) % _TAPS * pad,
        (s + 7) % _TAPS * pad,
        (s + 8) % _TAPS * pad,
        (s + 9) % _TAPS * pad,
        (s + 10) % _TAPS * pad,
    )


@_inline
def _moments(x, y, scale, margin, lines):
    """Lines of x, y, xx + yy, xy; returns the sum of |x - y|."""
    l_x, l_y, l_squares, l_xy = (
        lines[0, margin:],
        lines[1, margin:],
        lines[2, margin:],
        lines[3, margin:],
    )
    difference = np.float32(0)
    for j in range(len(x)):
        p, q = x[j], np.float32(y[j]) * scale
        l_x[j], l_y[j], l_squares[j], l_xy[j] = p, q, p * p + q * q, p * q
        difference += abs(p - q)
    return difference


@_inline
def _similarities(ring, places, length, margin, lines):
    """Similarity of a row, summed, and lines of its derivatives by E[x], E[xx], E[xy]."""
    sums = broadcast(np.float32(0))
    for j in range(0, length, WIDTH):
        mx, my = _down(ring[0], places, j), _down(ring[1], places, j)
        squares, xy = _down(ring[2], places, j), _down(ring[3], places, j)
        a1 = mx * my * np.float32(2) + _C1
        a2 = (xy - mx * my) * np.float32(2) + _C2
        means = mx * mx + my * my
        b1, b2 = means + _C1, squares - means + _C2
        b12 = np.float32(1) / (b1 * b2)
        s = a1 * a2 * b12
        sums = sums + where_below(ramp(np.float32(j)), np.float32(length), s, np.float32(0))
        store(lines[0], margin + j, (my * (a2 - a1) + mx * s * (b1 - b2)) * b12 * np.float32(2))
        store(lines[1], margin + j, np.float32(0) - s * b1 * b12)
        store(lines[2], margin + j, a1 * b12 * np.float32(2))
    for m in range(3):
        for j in range(length, length + WIDTH):
            lines[m, margin + j] = 0
    return total(sums)


@_inline
def _band(x, y, scale, channels, first, last, slopes, rows):
    height, length = x.shape
    margin, pad = _REACH * channels, (length + 1023) // 1024 * 1024 + _SKEW
    lines = np.zeros((4, pad + 2 * margin + WIDTH), np.float32)
    derivatives = np.zeros((3, pad + 2 * margin + WIDTH), np.float32)
    moments, blurred = (
        np.empty((4, _TAPS * pad), np.float32),
        np.empty((3, _TAPS * pad), np.float32),
    )
    for row in range(first - 2 * _REACH, last + 2 * _REACH):
        p = (row + _TAPS) % _TAPS * pad
        if 0 <= row < height:
            difference = _moments(x[row], y[row], scale, margin, lines)
            if first <= row < last:
                rows[row, 0] = difference
            for m in range(4):
                for j in range(0, length, WIDTH):
                    store(moments[m], p + j, _along(lines[m], j, channels))
        else:
            moments[:, p : p + pad] = 0
        row -= _REACH
        if row < first - _REACH:
            continue
        p = (row + _TAPS) % _TAPS * pad
        if 0 <= row < height:
            similarity = _similarities(moments, _places(row, pad), length, margin, derivatives)
            if first <= row < last:
                rows[row, 1] = similarity
            for m in range(3):
                for j in range(0, length, WIDTH):
                    store(blurred[m], p + j, _along(derivatives[m], j, channels))
        else:
            blurred[:, p : p + pad] = 0
        row -= _REACH
        if row < first:
            continue
        # The chain rule through x, xx and xy (the window is its own adjoint).
        places = _places(row, pad)
        for m in range(3):
            for j in range(0, length, WIDTH):
                store(lines[m], j, _down(blurred[m], places, j))
        for j in range(length):
            slopes[row, j] = (
                lines[0, j]
                + np.float32(2) * x[row, j] * lines[1, j]
                + np.float32(y[row, j]) * scale * lines[2, j]
            )
        lines[:3, :margin] = 0
        for m in range(3):
            lines[m, margin + length :] = 0


@_kernel
def _compare(x, y, scale, channels, bands, slopes):
    """Sums [view row 2] of the absolute difference and of the similarity map; writes the latter's gradient by x."""
    views, height = x.shape[:2]
    size = (height + bands - 1) // bands
    rows = np.zeros((views, height, 2), np.float64)
    for job in prange(views * bands):
        view, band = job // bands, job % bands
        first, last = min(band * size, height), min((band + 1) * size, height)
        if first < last:
            _band(x[view], y[view], scale, channels, first, last, slopes[view], rows[view])
    return rows


@_kernel
def _combine(x, y, scale, slopes, by_difference, by_similarity, gradient):
    views, height, length = x.shape
    for job in prange(views * height):
        view, row = job // height, job % height
        p, q, s, g, sign = (
            x[view, row],
            y[view, row],
            slopes[view, row],
            gradient[view, row],
            by_difference[view],
        )
        for j in range(length):
            d = p[j] - np.float32(q[j]) * scale
            g[j] = by_similarity * s[j] + (sign if d > 0 else -sign if d < 0 else np.float32(0))


@_kernel
def _inverse_depth(rendered, alpha, target, confidence, least, slopes):
    """Sums [view row 2] of the weighted difference and of the weights; writes the former's gradient by `rendered`."""
    views, height, width = rendered.shape
    rows = np.zeros((views, height, 2), np.float64)
    for job in prange(views * height):
        view, row = job // height, job % height
        r, a, t, c, s = (
            rendered[view, row],
            alpha[view, row],
            target[view, row],
            confidence[view, row],
            slopes[view, row],
        )
        differences, weights = np.float32(0), np.float32(0)
        for j in range(width):
            weight = c[j] if t[j] > 0 and a[j] > np.float32(0.5) else np.float32(0)
            inverse = np.float32(1) / max(r[j], least)
            d = inverse - np.float32(1) / max(t[j], least)
            differences += weight * abs(d)
            weights += weight
            slope = weight * inverse * inverse if r[j] >= least else np.float32(0)
            s[j] = -slope if d > 0 else slope if d < 0 else np.float32(0)
        rows[view, row, 0], rows[view, row, 1] = differences, weights
    return rows
