"""Compiled kernels of `lift.training.splats` for the CPU."""

import numpy as np
import torch
from numba import prange
from torch import Tensor
from torch.autograd.function import once_differentiable

from lift.runtime import jit

_kernel = jit.compiled(
    error_model="numpy", fastmath={"nsz", "arcp", "contract", "reassoc"}, parallel=jit.PARALLEL
)
_CHUNK = 4096
_LEAST = np.float32(1e-12)


def unit(quats: Tensor) -> Tensor:
    """torch.nn.functional.normalize(quats, dim=-1) of float32 [gaussian 4], whose gradient alone takes torch seven passes."""
    return _Unit.apply(quats)


class _Unit(torch.autograd.Function):
    @staticmethod
    def forward(ctx, quats):
        array = jit.array(quats)
        units, inverses = np.empty(array.shape, np.float32), np.empty(len(array), np.float32)
        with jit.one_at_a_time:
            _unit(array, units, inverses)
        ctx.arrays = units, inverses
        return torch.from_numpy(units)

    @staticmethod
    @once_differentiable
    def backward(ctx, by_units):
        gradient = np.empty(by_units.shape, np.float32)
        with jit.one_at_a_time:
            _gradient(*ctx.arrays, jit.array(by_units), gradient)
        return torch.from_numpy(gradient)


@_kernel
def _unit(quats, units, inverses):
    for chunk in prange((len(quats) + _CHUNK - 1) // _CHUNK):
        for i in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, len(quats))):
            w, x, y, z = quats[i, 0], quats[i, 1], quats[i, 2], quats[i, 3]
            inverse = np.float32(1) / max(np.sqrt(w * w + x * x + y * y + z * z), _LEAST)
            inverses[i] = inverse
            units[i, 0], units[i, 1], units[i, 2], units[i, 3] = (
                w * inverse,
                x * inverse,
                y * inverse,
                z * inverse,
            )


@_kernel
def _gradient(units, inverses, by_units, gradient):
    for chunk in prange((len(units) + _CHUNK - 1) // _CHUNK):
        for i in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, len(units))):
            along = np.float32(0)
            for j in range(4):
                along += units[i, j] * by_units[i, j]
            for j in range(4):
                gradient[i, j] = (by_units[i, j] - along * units[i, j]) * inverses[i]
