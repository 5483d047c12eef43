"""Device functions that the projection and its gradient share."""

import triton.language as tl

from lift.renderers import EPS2D
from lift.runtime.jit import triton_jit

_EPS2D = tl.constexpr(EPS2D)
_CLAMP_MARGIN = tl.constexpr(0.15)
"""Offsets are clamped to this margin around the picture, in units of its size."""

BLOCK = tl.constexpr(128)
"""Number of Gaussians of a program."""


@triton_jit
def load_vector(pointer, mask):
    """Load three numbers that lie side by side; 0 where masked out.

    Args:
        pointer: Pointers to the first numbers, [block].
        mask: Whether to load, [block].
    """
    return (
        tl.load(pointer, mask, 0.0),
        tl.load(pointer + 1, mask, 0.0),
        tl.load(pointer + 2, mask, 0.0),
    )


@triton_jit
def load_rotation(quats, mask):
    """Return the unit quaternion w x y z, one over its former length, and the rotation's rows.

    Args:
        quats: Pointers to the w of quaternions w x y z of any length, [block].
        mask: Whether to load, [block]. Elsewhere the rotation is the identity.
    """
    w = tl.load(quats, mask, 1.0)
    x = tl.load(quats + 1, mask, 0.0)
    y = tl.load(quats + 2, mask, 0.0)
    z = tl.load(quats + 3, mask, 0.0)
    unit = 1.0 / tl.maximum(tl.sqrt(w * w + x * x + y * y + z * z), 1e-12)
    w = w * unit
    x = x * unit
    y = y * unit
    z = z * unit
    row0 = (1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y))
    row1 = (2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x))
    row2 = (2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y))
    return (w, x, y, z), unit, row0, row1, row2


@triton_jit
def where_vector(mask, a):
    """Return a vector, 0 where masked out.

    Args:
        mask: Whether to keep the vector, [block].
        a: Vector as a tuple of three tensors, each [block].
    """
    return tl.where(mask, a[0], 0.0), tl.where(mask, a[1], 0.0), tl.where(mask, a[2], 0.0)


@triton_jit
def dot(a, b):
    """Return the dot product.

    Args:
        a: Vector as a tuple of three numbers or tensors [block].
        b: Vector as a tuple of three numbers or tensors [block].
    """
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@triton_jit
def add(a, b):
    """Return the sum of two vectors.

    Args:
        a: Vector as a tuple of three numbers or tensors [block].
        b: Vector as a tuple of three numbers or tensors [block].
    """
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@triton_jit
def combine(a, x, b, y):
    """Return a * x + b * y for numbers a and b and vectors x and y.

    Args:
        a: Factor of `x`, a number or a tensor [block].
        x: Vector as a tuple of three numbers or tensors [block].
        b: Factor of `y`, a number or a tensor [block].
        y: Vector as a tuple of three numbers or tensors [block].
    """
    return a * x[0] + b * y[0], a * x[1] + b * y[1], a * x[2] + b * y[2]


@triton_jit
def multiply(row, s):
    """Return the products of two vectors' components.

    Args:
        row: Vector as a tuple of three numbers or tensors [block].
        s: Vector as a tuple of three numbers or tensors [block].
    """
    return row[0] * s[0], row[1] * s[1], row[2] * s[2]


@triton_jit
def transform(g, row0, row1, row2):
    """Return g @ rows.

    Args:
        g: Vector as a tuple of three numbers or tensors [block].
        row0: First row of the 3x3 matrix, a tuple as `g`.
        row1: Second row of the matrix.
        row2: Third row of the matrix.
    """
    return (
        g[0] * row0[0] + g[1] * row1[0] + g[2] * row2[0],
        g[0] * row0[1] + g[1] * row1[1] + g[2] * row2[1],
        g[0] * row0[2] + g[1] * row1[2] + g[2] * row2[2],
    )


@triton_jit
def project_axis(local, depth, focal, center, size):
    """Project along one axis of the picture.

    Args:
        local: Coordinate along the axis in the camera's frame, in scene units, [block].
        depth: z-depth in scene units, above 0, [block].
        focal: Focal length along the axis, in pixels.
        center: Coordinate of the principal point, in pixels.
        size: Width or height of the picture, in pixels.

    Returns:
        The pixel coordinate, the offset from the principal point for the affine approximation,
        which is clamped, and whether it is unclamped.
    """
    pixel = focal * local / depth + center
    clamped = tl.minimum(tl.maximum(pixel, -_CLAMP_MARGIN * size), (1.0 + _CLAMP_MARGIN) * size)
    return pixel, clamped - center, clamped == pixel


@triton_jit
def load_camera(world_to_camera, intrinsics, v):
    """Load a camera.

    Args:
        world_to_camera: Pointer to world-to-camera matrices, [view 4 4].
        intrinsics: Pointer to intrinsic matrices in pixels, [view 3 3].
        v: Index of the view, from 0.

    Returns:
        The rows of its rotation, its translation, fx, fy, cx and cy.
    """
    pose = world_to_camera + 16 * v
    k = intrinsics + 9 * v
    row0 = (tl.load(pose), tl.load(pose + 1), tl.load(pose + 2))
    row1 = (tl.load(pose + 4), tl.load(pose + 5), tl.load(pose + 6))
    row2 = (tl.load(pose + 8), tl.load(pose + 9), tl.load(pose + 10))
    return (
        row0,
        row1,
        row2,
        (tl.load(pose + 3), tl.load(pose + 7), tl.load(pose + 11)),
        tl.load(k),
        tl.load(k + 4),
        tl.load(k + 2),
        tl.load(k + 5),
    )


@triton_jit
def covariance(x, y):
    """Return xx, xy, yy and the determinant of a splat's covariance, with EPS2D added.

    By Cauchy-Binet the determinant is a sum of squares, which stays exact for needles.

    Args:
        x: Components across of the splat's three axes, in pixels, a tuple of tensors [block].
        y: Components down of the splat's three axes, in pixels, a tuple of tensors [block].
    """
    c0 = x[1] * y[2] - x[2] * y[1]
    c1 = x[2] * y[0] - x[0] * y[2]
    c2 = x[0] * y[1] - x[1] * y[0]
    xx = dot(x, x)
    xy = dot(x, y)
    yy = dot(y, y)
    return (
        xx + _EPS2D,
        xy,
        yy + _EPS2D,
        c0 * c0 + c1 * c1 + c2 * c2 + (xx + yy) * _EPS2D + _EPS2D * _EPS2D,
    )
