"""Compiled kernels of `lift.training.similarity`: the similarity map summed, and its gradient."""

import numpy as np
from numba import prange

from lift.jit import compiled
from lift.training.similarity import C1, C2, WINDOW


def value_and_gradient(a: np.ndarray, b: np.ndarray, gradient: np.ndarray) -> float:
    """Sum of the similarity map of two [height width 3] pictures; writes its gradient by `a`."""
    height, width, channels = a.shape
    x, y = a.reshape(height, -1), b.reshape(height, -1)
    moments = np.empty((5, height, width * channels), np.float32)
    slopes = np.empty((3, height, width * channels), np.float32)
    rows = np.empty(height, np.float64)
    _moments(x, y, channels, WINDOW, moments)
    _similarity(moments, channels, WINDOW, slopes, rows)
    _gradient(x, y, slopes, channels, WINDOW, gradient.reshape(height, -1))
    return float(rows.sum())


# Rows are handled as one line of width x channel floats, so that the inner loops run over contiguous memory without a branch:
# a tap to the side is a tap `channels` floats away, and what lies outside the picture is a margin of zeros.
_kernel = compiled(parallel=True, fastmath=True, error_model="numpy")
_inline = compiled(fastmath=True, error_model="numpy")


@_inline
def _blur_line(line, channels, window, out):
    """out += horizontal blur of `line`, which has a margin of 5 * channels on both sides."""
    for k in range(window.size):
        weight, shift = window[k], k * channels
        for j in range(out.size):
            out[j] += weight * line[j + shift]


@_kernel
def _moments(x, y, channels, window, moments):
    """Horizontally blurred x, y, xx, yy, xy."""
    height, length = x.shape
    margin = (window.size // 2) * channels
    for i in prange(height):
        lines = np.zeros((5, length + 2 * margin), np.float32)
        for j in range(length):
            p, q = x[i, j], y[i, j]
            lines[0, margin + j] = p
            lines[1, margin + j] = q
            lines[2, margin + j] = p * p
            lines[3, margin + j] = q * q
            lines[4, margin + j] = p * q
        for m in range(5):
            moments[m, i, :] = 0
            _blur_line(lines[m], channels, window, moments[m, i])


@_kernel
def _similarity(moments, channels, window, slopes, rows):
    """Vertical blur, the similarity summed a row, and its derivatives by E[x], E[xx], E[xy], horizontally blurred again."""
    _, height, length = moments.shape
    half = window.size // 2
    margin = half * channels
    for i in prange(height):
        e = np.zeros((5, length), np.float32)
        for k in range(max(0, half - i), min(window.size, height + half - i)):
            weight = window[k]
            for m in range(5):
                source = moments[m, i + k - half]
                for j in range(length):
                    e[m, j] += weight * source[j]
        lines = np.zeros((3, length + 2 * margin), np.float32)
        total = 0.0
        for j in range(length):
            mx, my = e[0, j], e[1, j]
            a1 = 2 * mx * my + np.float32(C1)
            a2 = 2 * (e[4, j] - mx * my) + np.float32(C2)
            b1 = 1 / (mx * mx + my * my + np.float32(C1))
            b2 = 1 / (e[2, j] - mx * mx + e[3, j] - my * my + np.float32(C2))
            s = a1 * a2 * b1 * b2
            total += s
            lines[0, margin + j] = 2 * (my * (a2 - a1) * b1 * b2 + mx * s * (b2 - b1))
            lines[1, margin + j] = -s * b2
            lines[2, margin + j] = 2 * a1 * b1 * b2
        rows[i] = total
        for m in range(3):
            slopes[m, i, :] = 0
            _blur_line(lines[m], channels, window, slopes[m, i])


@_kernel
def _gradient(x, y, slopes, channels, window, gradient):
    """Vertical blur of the derivatives, then the chain rule through x, xx and xy (the window is its own adjoint)."""
    _, height, length = slopes.shape
    half = window.size // 2
    for i in prange(height):
        d = np.zeros((3, length), np.float32)
        for k in range(max(0, half - i), min(window.size, height + half - i)):
            weight = window[k]
            for m in range(3):
                source = slopes[m, i + k - half]
                for j in range(length):
                    d[m, j] += weight * source[j]
        for j in range(length):
            gradient[i, j] = d[0, j] + 2 * x[i, j] * d[1, j] + y[i, j] * d[2, j]
