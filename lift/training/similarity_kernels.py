"""Compiled kernels of `lift.training.similarity`: the similarity map summed, and its gradient.

Rows are handled as one line of width x channel floats, so that inner loops run over contiguous memory without a branch: a tap to the
side is the same line `channels` floats on, and what lies outside the picture is a margin of zeros on all four sides.
"""

import numpy as np
from numba import prange

from lift.jit import compiled
from lift.training.similarity import C1, C2, WINDOW

_MARGIN = len(WINDOW) // 2
_C1, _C2 = np.float32(C1), np.float32(C2)
_W0, _W1, _W2, _W3, _W4, _W5 = (np.float32(w) for w in WINDOW[: _MARGIN + 1])
_kernel = compiled(parallel=True, fastmath=True, error_model="numpy")
_inline = compiled(fastmath=True, error_model="numpy")


def value_and_gradient(a: np.ndarray, b: np.ndarray, gradient: np.ndarray) -> float:
    """Sum of the similarity map of two [height width 3] pictures; writes its gradient by `a`."""
    height, width, channels = a.shape
    x, y = a.reshape(height, -1), b.reshape(height, -1)
    moments = np.empty((5, height + 2 * _MARGIN, width * channels), np.float32)
    slopes = np.empty((3, height + 2 * _MARGIN, width * channels), np.float32)
    for maps in (moments, slopes):
        maps[:, :_MARGIN] = maps[:, -_MARGIN:] = 0
    rows = np.empty(height, np.float64)
    _moments(x, y, channels, moments)
    _similarity(moments, channels, slopes, rows)
    _gradient(x, y, slopes, gradient.reshape(height, -1))
    return float(rows.sum())


@_inline
def _weigh(s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, out):
    """The window's weighted sum of eleven lines. Written out: one pass over memory instead of eleven."""
    for j in range(out.size):
        out[j] = (
            _W0 * (s0[j] + s10[j]) + _W1 * (s1[j] + s9[j]) + _W2 * (s2[j] + s8[j])
            + _W3 * (s3[j] + s7[j]) + _W4 * (s4[j] + s6[j]) + _W5 * s5[j]
        )  # fmt: skip


@_inline
def _across(line, c, out):
    """Horizontal blur of a line with a margin of 5 * c floats on both sides."""
    n = out.size
    _weigh(
        line[:n], line[c : c + n], line[2 * c : 2 * c + n], line[3 * c : 3 * c + n], line[4 * c : 4 * c + n], line[5 * c : 5 * c + n],
        line[6 * c : 6 * c + n], line[7 * c : 7 * c + n], line[8 * c : 8 * c + n], line[9 * c : 9 * c + n], line[10 * c : 10 * c + n], out,
    )  # fmt: skip


@_inline
def _down(map, i, out):
    """Vertical blur at row i of the picture, which is row i + 5 of the map."""
    _weigh(
        map[i], map[i + 1], map[i + 2], map[i + 3], map[i + 4], map[i + 5], map[i + 6], map[i + 7], map[i + 8], map[i + 9], map[i + 10], out
    )


@_kernel
def _moments(x, y, channels, moments):
    """Horizontally blurred x, y, xx, yy, xy."""
    height, length = x.shape
    margin = _MARGIN * channels
    for i in prange(height):
        lines = np.zeros((5, length + 2 * margin), np.float32)
        p, q = x[i], y[i]
        for j in range(length):
            lines[0, margin + j] = p[j]
            lines[1, margin + j] = q[j]
            lines[2, margin + j] = p[j] * p[j]
            lines[3, margin + j] = q[j] * q[j]
            lines[4, margin + j] = p[j] * q[j]
        for m in range(5):
            _across(lines[m], channels, moments[m, i + _MARGIN])


@_kernel
def _similarity(moments, channels, slopes, rows):
    """Vertical blur, the similarity summed a row, and its derivatives by E[x], E[xx], E[xy], horizontally blurred again."""
    height, length = moments.shape[1] - 2 * _MARGIN, moments.shape[2]
    margin = _MARGIN * channels
    for i in prange(height):
        e = np.empty((5, length), np.float32)
        for m in range(5):
            _down(moments[m], i, e[m])
        lines = np.zeros((3, length + 2 * margin), np.float32)
        d0, d1, d2 = lines[0, margin:], lines[1, margin:], lines[2, margin:]
        total = np.float32(0)
        for j in range(length):
            mx, my = e[0, j], e[1, j]
            a1 = 2 * mx * my + _C1
            a2 = 2 * (e[4, j] - mx * my) + _C2
            b1 = np.float32(1) / (mx * mx + my * my + _C1)
            b2 = np.float32(1) / (e[2, j] - mx * mx + e[3, j] - my * my + _C2)
            s = a1 * a2 * b1 * b2
            total += s
            d0[j] = 2 * (my * (a2 - a1) * b1 * b2 + mx * s * (b2 - b1))
            d1[j] = -s * b2
            d2[j] = 2 * a1 * b1 * b2
        rows[i] = total
        for m in range(3):
            _across(lines[m], channels, slopes[m, i + _MARGIN])


@_kernel
def _gradient(x, y, slopes, gradient):
    """Vertical blur of the derivatives, then the chain rule through x, xx and xy (the window is its own adjoint)."""
    height, length = x.shape
    for i in prange(height):
        d = np.empty((3, length), np.float32)
        for m in range(3):
            _down(slopes[m], i, d[m])
        for j in range(length):
            gradient[i, j] = d[0, j] + 2 * x[i, j] * d[1, j] + y[i, j] * d[2, j]
