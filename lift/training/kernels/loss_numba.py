"""Compiled kernels of `lift.training.losses` for the CPU.

They compute value and gradient in one pass, because a training step needs both.

A row is handled as one line of width x channel floats, eight at a time. A neighbour to the side is
the same line `channels` floats on. A margin of zeros stands for what lies outside the picture. A
thread walks down a band of rows. It keeps the eleven lines that a vertical tap needs in a ring
buffer, so intermediate pictures never go to memory. A row's values do not depend on the bands, so
they do not depend on the number of threads.
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
_RADIUS = _TAPS // 2
_SKEW = 112
"""Extra floats between lines.

Lines whose distance is close to a power of two would share only a few sets of the cache.
"""
_C1 = np.float32(C1)
_C2 = np.float32(C2)
_W0, _W1, _W2, _W3, _W4, _W5 = (np.float32(w) for w in WINDOW[: _RADIUS + 1])
_STAMP = jit.source_hash(__file__, lanes.__file__)
_inline = jit.njit_cached(_STAMP, fastmath=True, error_model="numpy")
_kernel = jit.njit_cached(_STAMP, fastmath=True, error_model="numpy", parallel=jit.PARALLEL)


def photometric(rgb: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Compute `lift.training.losses.photometric` on the CPU.

    Args:
        rgb: Rendered colours, float32 [view height width 3].
        frames: Colours of the frames, uint8 in [0, 255] or float32 in [0, 1].
    """
    return _Photometric.apply(rgb, frames)


def inverse_depth(
    rendered: Tensor, alpha: Tensor, target: Tensor, confidence: Tensor, unit: float
) -> Tensor:
    """Compute `lift.training.losses.inverse_depth` on the CPU.

    Args:
        rendered: Rendered z-depth, float32 [view height width], as are all tensors.
        alpha: Coverage of the render in [0, 1].
        target: z-depth of the frames; 0 where it is unknown.
        confidence: Weights of the target in [0, 1].
        unit: The scene's typical depth.
    """
    return _InverseDepth.apply(rendered, alpha, target, confidence, unit)


class _Photometric(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rgb, frames):
        x = jit.to_numpy(rgb)
        y = jit.to_numpy(frames)
        scale = np.float32(1 / 255 if y.dtype == np.uint8 else 1)
        slopes = np.empty(x.shape, np.float32)
        with jit.parallel_lock:
            rows = _compare_bands(
                _as_lines(x),
                _as_lines(y),
                scale,
                x.shape[3],
                numba.get_num_threads(),
                _as_lines(slopes),
            )
        ctx.save_for_backward(rgb, frames)
        ctx.slopes = slopes
        ctx.scale = scale
        sums = rows.sum(1)  # of each view
        differences = rgb.new_tensor(sums[:, 0] * (len(x) / x.size))
        return differences, rgb.new_tensor(sums[:, 1].sum() / x.size)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_difference, grad_similarity):
        x, y = (jit.to_numpy(value) for value in ctx.saved_tensors)
        gradient = np.empty(x.shape, np.float32)
        factors = (
            jit.to_numpy(grad_difference) * np.float32(len(x) / x.size),
            np.float32(float(grad_similarity) / x.size),
        )
        with jit.parallel_lock:
            _photometric_gradient(
                _as_lines(x),
                _as_lines(y),
                ctx.scale,
                _as_lines(ctx.slopes),
                *factors,
                _as_lines(gradient),
            )
        return torch.from_numpy(gradient), None


class _InverseDepth(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rendered, alpha, target, confidence, unit):
        slopes = np.empty(rendered.shape, np.float32)
        inputs = (jit.to_numpy(value) for value in (rendered, alpha, target, confidence))
        with jit.parallel_lock:
            rows = _depth_differences(*inputs, np.float32(0.02 * unit), slopes)
        difference, weight = rows.sum((0, 1))
        ctx.slopes = slopes
        ctx.factor = unit / max(weight, 1.0)
        return rendered.new_tensor(ctx.factor * difference)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        gradient = torch.from_numpy(ctx.slopes * np.float32(ctx.factor * float(grad)))
        return gradient, None, None, None, None


def _as_lines(pictures: np.ndarray) -> np.ndarray:
    """View pictures [view height width channel] as lines [view height width*channel]."""
    return pictures.reshape(*pictures.shape[:2], -1)


@_inline
def _blur_row(line, j, c):
    """Blur a line horizontally at j. It has a margin of 5 * c floats on both sides."""
    return (
        (load(line, j) + load(line, j + 10 * c)) * _W0
        + (load(line, j + c) + load(line, j + 9 * c)) * _W1
        + (load(line, j + 2 * c) + load(line, j + 8 * c)) * _W2
        + (load(line, j + 3 * c) + load(line, j + 7 * c)) * _W3
        + (load(line, j + 4 * c) + load(line, j + 6 * c)) * _W4
        + load(line, j + 5 * c) * _W5
    )


@_inline
def _blur_column(ring, p, j):
    """Blur eleven lines vertically at j. They begin at the offsets p of a ring buffer."""
    return (
        (load(ring, p[0] + j) + load(ring, p[10] + j)) * _W0
        + (load(ring, p[1] + j) + load(ring, p[9] + j)) * _W1
        + (load(ring, p[2] + j) + load(ring, p[8] + j)) * _W2
        + (load(ring, p[3] + j) + load(ring, p[7] + j)) * _W3
        + (load(ring, p[4] + j) + load(ring, p[6] + j)) * _W4
        + load(ring, p[5] + j) * _W5
    )


@_inline
def _line_offsets(row, pad):
    """Return the offsets of the rows from row - 5 to row + 5 in a ring buffer."""
    s = row + 2 * _TAPS - _RADIUS
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
    """Write lines of x, y, xx + yy and xy, and return the sum of |x - y|."""
    l_x = lines[0, margin:]
    l_y = lines[1, margin:]
    l_squares = lines[2, margin:]
    l_xy = lines[3, margin:]
    difference = np.float32(0)
    for j in range(len(x)):
        p = x[j]
        q = np.float32(y[j]) * scale
        l_x[j] = p
        l_y[j] = q
        l_squares[j] = p * p + q * q
        l_xy[j] = p * q
        difference += abs(p - q)
    return difference


@_inline
def _compare_row(ring, offsets, length, margin, lines):
    """Return the sum of a row's similarities.

    Also write lines of its derivatives by E[x], E[xx] and E[xy].
    """
    sums = broadcast(np.float32(0))
    for j in range(0, length, WIDTH):
        mx = _blur_column(ring[0], offsets, j)
        my = _blur_column(ring[1], offsets, j)
        squares = _blur_column(ring[2], offsets, j)
        xy = _blur_column(ring[3], offsets, j)
        a1 = mx * my * np.float32(2) + _C1
        a2 = (xy - mx * my) * np.float32(2) + _C2
        means = mx * mx + my * my
        b1 = means + _C1
        b2 = squares - means + _C2
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
def _band(x, y, scale, channels, start, stop, slopes, rows):
    """Compare the rows from `start` to `stop`, and write the gradient of the similarity by x."""
    height, length = x.shape
    margin = _RADIUS * channels
    pad = (length + 1023) // 1024 * 1024 + _SKEW
    lines = np.zeros((4, pad + 2 * margin + WIDTH), np.float32)
    derivatives = np.zeros((3, pad + 2 * margin + WIDTH), np.float32)
    moments = np.empty((4, _TAPS * pad), np.float32)
    blurred = np.empty((3, _TAPS * pad), np.float32)
    for row in range(start - 2 * _RADIUS, stop + 2 * _RADIUS):
        p = (row + _TAPS) % _TAPS * pad
        if 0 <= row < height:
            difference = _moments(x[row], y[row], scale, margin, lines)
            if start <= row < stop:
                rows[row, 0] = difference
            for m in range(4):
                for j in range(0, length, WIDTH):
                    store(moments[m], p + j, _blur_row(lines[m], j, channels))
        else:
            moments[:, p : p + pad] = 0
        row -= _RADIUS
        if row < start - _RADIUS:
            continue
        p = (row + _TAPS) % _TAPS * pad
        if 0 <= row < height:
            similarity = _compare_row(moments, _line_offsets(row, pad), length, margin, derivatives)
            if start <= row < stop:
                rows[row, 1] = similarity
            for m in range(3):
                for j in range(0, length, WIDTH):
                    store(blurred[m], p + j, _blur_row(derivatives[m], j, channels))
        else:
            blurred[:, p : p + pad] = 0
        row -= _RADIUS
        if row < start:
            continue
        # The chain rule through x, xx and xy (the window is its own adjoint).
        offsets = _line_offsets(row, pad)
        for m in range(3):
            for j in range(0, length, WIDTH):
                store(lines[m], j, _blur_column(blurred[m], offsets, j))
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
def _compare_bands(x, y, scale, channels, bands, slopes):
    """Return the sums [view row 2] of the absolute difference and of the similarity.

    Also write the gradient of the similarity by x.
    """
    views, height = x.shape[:2]
    size = (height + bands - 1) // bands
    rows = np.zeros((views, height, 2), np.float64)
    for job in prange(views * bands):
        view = job // bands
        band = job % bands
        start = min(band * size, height)
        stop = min((band + 1) * size, height)
        if start < stop:
            _band(x[view], y[view], scale, channels, start, stop, slopes[view], rows[view])
    return rows


@_kernel
def _photometric_gradient(x, y, scale, slopes, grad_difference, grad_similarity, gradient):
    """Combine the gradients of the absolute difference and of the similarity."""
    views, height, length = x.shape
    for job in prange(views * height):
        view = job // height
        row = job % height
        p = x[view, row]
        q = y[view, row]
        s = slopes[view, row]
        g = gradient[view, row]
        sign = grad_difference[view]
        for j in range(length):
            d = p[j] - np.float32(q[j]) * scale
            g[j] = grad_similarity * s[j] + (sign if d > 0 else -sign if d < 0 else np.float32(0))


@_kernel
def _depth_differences(rendered, alpha, target, confidence, min_depth, slopes):
    """Return the sums [view row 2] of the weighted difference and of the weights.

    Also write the gradient of the difference by `rendered`.
    """
    views, height, width = rendered.shape
    rows = np.zeros((views, height, 2), np.float64)
    for job in prange(views * height):
        view = job // height
        row = job % height
        r = rendered[view, row]
        a = alpha[view, row]
        t = target[view, row]
        c = confidence[view, row]
        s = slopes[view, row]
        differences = np.float32(0)
        weights = np.float32(0)
        for j in range(width):
            weight = c[j] if t[j] > 0 and a[j] > np.float32(0.5) else np.float32(0)
            inverse = np.float32(1) / max(r[j], min_depth)
            d = inverse - np.float32(1) / max(t[j], min_depth)
            differences += weight * abs(d)
            weights += weight
            slope = weight * inverse * inverse if r[j] >= min_depth else np.float32(0)
            s[j] = -slope if d > 0 else slope if d < 0 else np.float32(0)
        rows[view, row, 0] = differences
        rows[view, row, 1] = weights
    return rows
