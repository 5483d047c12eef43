"""Device functions that evaluate spherical harmonics and their derivatives."""

# Triton has incomplete type stubs.
# pyright: reportOperatorIssue=false

import triton.language as tl

from lift import spherical_harmonics
from lift.runtime.jit import triton_jit

_C0 = tl.constexpr(spherical_harmonics.C0)
_C1 = tl.constexpr(spherical_harmonics.C1)
_A2, _B2, _C2 = (tl.constexpr(c) for c in spherical_harmonics.C2)
_A3, _B3, _C3, _D3, _E3 = (tl.constexpr(c) for c in spherical_harmonics.C3)


@triton_jit
def direction(means, center, n, inside):
    """Return the unit direction from a camera to Gaussians, and 1 / distance.

    Args:
        means: Pointer to the centres of the Gaussians in scene units, [gaussian 3].
        center: Pointer to the position of the camera in scene units, [3].
        n: Indices of the Gaussians, from 0, [block].
        inside: Whether `n` is a Gaussian's index, [block].
    """
    x = tl.load(means + 3 * n, inside, 0.0) - tl.load(center)
    y = tl.load(means + 3 * n + 1, inside, 0.0) - tl.load(center + 1)
    z = tl.load(means + 3 * n + 2, inside, 0.0) - tl.load(center + 2)
    inverse = 1.0 / tl.maximum(tl.sqrt(x * x + y * y + z * z), 1e-12)
    return x * inverse, y * inverse, z * inverse, inverse


@triton_jit
def basis(x, y, z, k: tl.constexpr):
    """Return the k-th basis function.

    Args:
        x: First component of unit directions, in [-1, 1], [block].
        y: Second component of unit directions, in [-1, 1], [block].
        z: Third component of unit directions, in [-1, 1], [block].
        k: Index of the basis function, 0 to 15.
    """
    if k == 0:
        b = 0.0 * x + _C0
    elif k == 1:
        b = -_C1 * y
    elif k == 2:
        b = _C1 * z
    elif k == 3:
        b = -_C1 * x
    elif k == 4:
        b = _A2 * x * y
    elif k == 5:
        b = -_A2 * y * z
    elif k == 6:
        b = _B2 * (2.0 * z * z - x * x - y * y)
    elif k == 7:
        b = -_A2 * x * z
    elif k == 8:
        b = _C2 * (x * x - y * y)
    elif k == 9:
        b = -_A3 * y * (3.0 * x * x - y * y)
    elif k == 10:
        b = _B3 * x * y * z
    elif k == 11:
        b = -_C3 * y * (4.0 * z * z - x * x - y * y)
    elif k == 12:
        b = _D3 * z * (2.0 * z * z - 3.0 * x * x - 3.0 * y * y)
    elif k == 13:
        b = -_C3 * x * (4.0 * z * z - x * x - y * y)
    elif k == 14:
        b = _E3 * z * (x * x - y * y)
    else:
        b = -_A3 * x * (x * x - 3.0 * y * y)
    return b


@triton_jit
def basis_gradient(x, y, z, k: tl.constexpr):
    """Return the derivatives of the k-th basis function by x, y and z.

    Args:
        x: First component of unit directions, in [-1, 1], [block].
        y: Second component of unit directions, in [-1, 1], [block].
        z: Third component of unit directions, in [-1, 1], [block].
        k: Index of the basis function, 0 to 15.
    """
    zero = 0.0 * x
    if k == 0:
        d = zero, zero, zero
    elif k == 1:
        d = zero, zero - _C1, zero
    elif k == 2:
        d = zero, zero, zero + _C1
    elif k == 3:
        d = zero - _C1, zero, zero
    elif k == 4:
        d = _A2 * y, _A2 * x, zero
    elif k == 5:
        d = zero, -_A2 * z, -_A2 * y
    elif k == 6:
        d = -2.0 * _B2 * x, -2.0 * _B2 * y, 4.0 * _B2 * z
    elif k == 7:
        d = -_A2 * z, zero, -_A2 * x
    elif k == 8:
        d = 2.0 * _C2 * x, -2.0 * _C2 * y, zero
    elif k == 9:
        d = -6.0 * _A3 * x * y, -3.0 * _A3 * (x * x - y * y), zero
    elif k == 10:
        d = _B3 * y * z, _B3 * x * z, _B3 * x * y
    elif k == 11:
        d = 2.0 * _C3 * x * y, -_C3 * (4.0 * z * z - x * x - 3.0 * y * y), -8.0 * _C3 * y * z
    elif k == 12:
        d = -6.0 * _D3 * x * z, -6.0 * _D3 * y * z, 3.0 * _D3 * (2.0 * z * z - x * x - y * y)
    elif k == 13:
        d = -_C3 * (4.0 * z * z - 3.0 * x * x - y * y), 2.0 * _C3 * x * y, -8.0 * _C3 * x * z
    elif k == 14:
        d = 2.0 * _E3 * x * z, -2.0 * _E3 * y * z, _E3 * (x * x - y * y)
    else:
        d = -3.0 * _A3 * (x * x - y * y), 6.0 * _A3 * x * y, zero
    return d
