"""Compiled kernels of `lift.training.splats` for the CPU."""

import numpy as np
import torch
from numba import prange
from torch import Tensor
from torch.autograd.function import once_differentiable

from lift.runtime import jit

_kernel = jit.njit_cached(
    error_model="numpy", fastmath={"nsz", "arcp", "contract", "reassoc"}, parallel=jit.PARALLEL
)
_CHUNK = 4096
"""Quaternions that one job of a thread handles."""
_MIN_NORM = np.float32(1e-12)


def normalize_quats(quats: Tensor) -> Tensor:
    """Normalise float32 quaternions [gaussian 4].

    The result equals `torch.nn.functional.normalize(quats, dim=-1)`, whose gradient alone takes
    torch seven passes.

    Args:
        quats: Quaternions, float32 [gaussian 4].
    """
    return _Normalize.apply(quats)


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, quats):
        array = jit.to_numpy(quats)
        units = np.empty(array.shape, np.float32)
        inverses = np.empty(len(array), np.float32)
        with jit.parallel_lock:
            _normalize(array, units, inverses)
        ctx.arrays = units, inverses
        return torch.from_numpy(units)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_units):
        gradient = np.empty(grad_units.shape, np.float32)
        with jit.parallel_lock:
            _gradient(*ctx.arrays, jit.to_numpy(grad_units), gradient)
        return torch.from_numpy(gradient)


@_kernel
def _normalize(quats, units, inverses):
    """Write unit quaternions and the inverses of the norms."""
    for chunk in prange((len(quats) + _CHUNK - 1) // _CHUNK):
        for i in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, len(quats))):
            w = quats[i, 0]
            x = quats[i, 1]
            y = quats[i, 2]
            z = quats[i, 3]
            inverse = np.float32(1) / max(np.sqrt(w * w + x * x + y * y + z * z), _MIN_NORM)
            inverses[i] = inverse
            units[i, 0] = w * inverse
            units[i, 1] = x * inverse
            units[i, 2] = y * inverse
            units[i, 3] = z * inverse


@_kernel
def _gradient(units, inverses, grad_units, gradient):
    """Write the gradient by the quaternions, given that by the unit quaternions."""
    for chunk in prange((len(units) + _CHUNK - 1) // _CHUNK):
        for i in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, len(units))):
            dot = np.float32(0)
            for j in range(4):
                dot += units[i, j] * grad_units[i, j]
            for j in range(4):
                gradient[i, j] = (grad_units[i, j] - dot * units[i, j]) * inverses[i]
