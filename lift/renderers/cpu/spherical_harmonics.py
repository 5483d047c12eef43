"""View-dependent colours and their gradients as compiled loops for the CPU.

`lift.spherical_harmonics` defines what is computed. Torch takes a dozen passes over the
coefficients for it.
"""

import numpy as np
import torch
from jaxtyping import Float
from numba import prange
from torch import Tensor
from torch.autograd.function import once_differentiable

from lift.runtime import jit
from lift.spherical_harmonics import C0, C1, C2, C3

_compile_parallel = jit.njit_cached(error_model="numpy", fastmath=True, parallel=jit.PARALLEL)
_compile = jit.njit_cached(error_model="numpy", fastmath=True)
_CHUNK = 1024
_F = np.float32
_C0 = _F(C0)
_C1 = _F(C1)
_A, _B, _C = (_F(value) for value in C2)
_D, _E, _G, _H, _I = (_F(value) for value in C3)
_HALF, _ZERO, _ONE, _TWO, _THREE, _FOUR = (_F(value) for value in (0.5, 0, 1, 2, 3, 4))
_MIN_DISTANCE = _F(1e-12)


def evaluate_from(
    sh_coeffs: Float[Tensor, "*view gaussian basis 3"],
    means: Float[Tensor, "*view gaussian 3"],
    centers: Float[Tensor, "view 3"],
) -> Float[Tensor, "view gaussian 3"]:
    """Evaluate the colours of Gaussians from cameras; differentiable in all arguments.

    Args:
        sh_coeffs: float32 on the CPU, shared by the views or one set a view; degree 1 to 3.
        means: Centres of the Gaussians in scene units, shared by the views or one set a view.
        centers: Positions of the cameras in scene units.

    Returns:
        0.5 + harmonics, not below 0.
    """
    return _Colors.apply(sh_coeffs, means, centers)


class _Colors(torch.autograd.Function):
    @staticmethod
    def forward(ctx, sh_coeffs, means, centers):
        arrays = [jit.to_numpy(value) for value in _with_views(sh_coeffs, means)]
        arrays.append(jit.to_numpy(centers))
        colors = np.empty((len(centers), arrays[0].shape[1], 3), np.float32)
        with jit.parallel_lock:
            _evaluate(*arrays, colors)
        out = torch.from_numpy(colors)
        ctx.save_for_backward(sh_coeffs, means, centers, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, by_colors):
        sh_coeffs, means, centers, colors = ctx.saved_tensors
        arrays = [jit.to_numpy(value) for value in _with_views(sh_coeffs, means)]
        arrays += [jit.to_numpy(value) for value in (centers, colors, by_colors)]
        count, basis = sh_coeffs.shape[-3:-1]
        by_coeffs = np.zeros((len(arrays[0]), count, basis, 3), np.float32)
        by_means = np.zeros((len(centers), count, 3), np.float32)
        with jit.parallel_lock:
            _gradients(*arrays, by_coeffs, by_means)
        by_direction = torch.from_numpy(by_means)
        by_centers = -by_direction.sum(1) if ctx.needs_input_grad[2] else None
        per_view = means.ndim == 3 and len(means) == len(by_direction)
        d_means = (by_direction if per_view else by_direction.sum(0)).view_as(means)
        return torch.from_numpy(by_coeffs).view_as(sh_coeffs), d_means, by_centers


def _with_views(sh_coeffs: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """Give both a leading axis of views, of length 1 if they are shared."""
    return (
        sh_coeffs if sh_coeffs.ndim == 4 else sh_coeffs[None],
        means if means.ndim == 3 else means[None],
    )


@_compile
def _basis(x, y, z, count, out):
    """Write the basis functions at a unit direction to `out`."""
    out[0] = _C0
    out[1] = -_C1 * y
    out[2] = _C1 * z
    out[3] = -_C1 * x
    if count > 4:
        xx = x * x
        yy = y * y
        zz = z * z
        out[4] = _A * x * y
        out[5] = -_A * y * z
        out[6] = _B * (_TWO * zz - xx - yy)
        out[7] = -_A * x * z
        out[8] = _C * (xx - yy)
        if count > 9:
            out[9] = -_D * y * (_THREE * xx - yy)
            out[10] = _E * x * y * z
            out[11] = -_G * y * (_FOUR * zz - xx - yy)
            out[12] = _H * z * (_TWO * zz - _THREE * xx - _THREE * yy)
            out[13] = -_G * x * (_FOUR * zz - xx - yy)
            out[14] = _I * z * (xx - yy)
            out[15] = -_D * x * (xx - _THREE * yy)


@_compile
def _slopes(x, y, z, count, by_basis):
    """Return the gradient by the direction from that by the basis functions."""
    s = by_basis
    dx = -_C1 * s[3]
    dy = -_C1 * s[1]
    dz = _C1 * s[2]
    if count > 4:
        dx += _A * (y * s[4] - z * s[7]) - _TWO * _B * x * s[6] + _TWO * _C * x * s[8]
        dy += _A * (x * s[4] - z * s[5]) - _TWO * _B * y * s[6] - _TWO * _C * y * s[8]
        dz += -_A * (y * s[5] + x * s[7]) + _FOUR * _B * z * s[6]
        if count > 9:
            xx = x * x
            yy = y * y
            zz = z * z
            xy = x * y
            xz = x * z
            yz = y * z
            six = _TWO * _THREE
            eight = _TWO * _FOUR
            dx += (
                -six * _D * xy * s[9]
                + _E * yz * s[10]
                + _TWO * _G * xy * s[11]
                - six * _H * xz * s[12]
                - _G * (_FOUR * zz - _THREE * xx - yy) * s[13]
                + _TWO * _I * xz * s[14]
                - _THREE * _D * (xx - yy) * s[15]
            )
            dy += (
                -_THREE * _D * (xx - yy) * s[9]
                + _E * xz * s[10]
                - _G * (_FOUR * zz - xx - _THREE * yy) * s[11]
                - six * _H * yz * s[12]
                + _TWO * _G * xy * s[13]
                - _TWO * _I * yz * s[14]
                + six * _D * xy * s[15]
            )
            dz += (
                _E * xy * s[10]
                - eight * _G * yz * s[11]
                + _H * (six * zz - _THREE * xx - _THREE * yy) * s[12]
                - eight * _G * xz * s[13]
                + _I * (xx - yy) * s[14]
            )
    return dx, dy, dz


@_compile_parallel
def _evaluate(coeffs, means, centers, colors):
    """Write the colours of Gaussians in every view to `colors`."""
    views, count, _ = colors.shape
    basis = coeffs.shape[2]
    for chunk in prange((count + _CHUNK - 1) // _CHUNK):
        values = np.empty(16, np.float32)
        for view in range(views):
            coeff_set = min(view, len(coeffs) - 1)
            mean_set = min(view, len(means) - 1)
            for i in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, count)):
                x = means[mean_set, i, 0] - centers[view, 0]
                y = means[mean_set, i, 1] - centers[view, 1]
                z = means[mean_set, i, 2] - centers[view, 2]
                inverse = _ONE / max(np.sqrt(x * x + y * y + z * z), _MIN_DISTANCE)
                _basis(x * inverse, y * inverse, z * inverse, basis, values)
                for c in range(3):
                    total = _HALF
                    for b in range(basis):
                        total += values[b] * coeffs[coeff_set, i, b, c]
                    colors[view, i, c] = max(total, _ZERO)


@_compile_parallel
def _gradients(coeffs, means, centers, colors, by_colors, by_coeffs, by_means):
    """Add the gradients of coefficients, and write those of positions in every view."""
    views, count, _ = colors.shape
    basis = coeffs.shape[2]
    for chunk in prange((count + _CHUNK - 1) // _CHUNK):
        values = np.empty(16, np.float32)
        slopes = np.empty(16, np.float32)
        for view in range(views):
            coeff_set = min(view, len(coeffs) - 1)
            mean_set = min(view, len(means) - 1)
            for i in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, count)):
                red = by_colors[view, i, 0] if colors[view, i, 0] > _ZERO else _ZERO
                green = by_colors[view, i, 1] if colors[view, i, 1] > _ZERO else _ZERO
                blue = by_colors[view, i, 2] if colors[view, i, 2] > _ZERO else _ZERO
                if red == _ZERO and green == _ZERO and blue == _ZERO:
                    continue
                x = means[mean_set, i, 0] - centers[view, 0]
                y = means[mean_set, i, 1] - centers[view, 1]
                z = means[mean_set, i, 2] - centers[view, 2]
                inverse = _ONE / max(np.sqrt(x * x + y * y + z * z), _MIN_DISTANCE)
                x = x * inverse
                y = y * inverse
                z = z * inverse
                _basis(x, y, z, basis, values)
                for b in range(basis):
                    by_coeffs[coeff_set, i, b, 0] += values[b] * red
                    by_coeffs[coeff_set, i, b, 1] += values[b] * green
                    by_coeffs[coeff_set, i, b, 2] += values[b] * blue
                    slopes[b] = (
                        coeffs[coeff_set, i, b, 0] * red
                        + coeffs[coeff_set, i, b, 1] * green
                        + coeffs[coeff_set, i, b, 2] * blue
                    )
                dx, dy, dz = _slopes(x, y, z, basis, slopes)
                along = dx * x + dy * y + dz * z
                by_means[view, i, 0] = (dx - along * x) * inverse
                by_means[view, i, 1] = (dy - along * y) * inverse
                by_means[view, i, 2] = (dz - along * z) * inverse
