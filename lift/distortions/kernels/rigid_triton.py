"""CUDA kernels for `rigid`: move and zoom cameras, and the gradient, with one launch each.

Plain torch takes a hundred launches a step on a handful of numbers, longer than the rasteriser.
"""

# Triton has incomplete type stubs.
# pyright: reportGeneralTypeIssues=false

import torch
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from lift.runtime.jit import triton_jit


def apply_corrections(
    world_to_camera: Tensor, intrinsics: Tensor, corrections: Tensor, extent: float
) -> tuple[Tensor, Tensor]:
    """Move and zoom cameras as `Rigid.cameras` does; float32 on a CUDA device.

    Args:
        world_to_camera: [view 4 4]; it gets no gradient.
        intrinsics: [view 3 3]; they get no gradient.
        corrections: [view 6], rotation vector and translation in units of `extent`; or [view 7]
            with the logarithm of the focal length's factor.
        extent: The scene's typical depth.

    Returns:
        world_to_camera and intrinsics of the corrected cameras.
    """
    return _ApplyCorrections.apply(
        world_to_camera.contiguous(), intrinsics.contiguous(), corrections.contiguous(), extent
    )


class _ApplyCorrections(Function):
    @staticmethod
    def forward(ctx, world_to_camera, intrinsics, corrections, extent):
        out_poses = torch.empty_like(world_to_camera)
        out_intrinsics = torch.empty_like(intrinsics)
        _move[len(corrections),](
            world_to_camera,
            intrinsics,
            corrections,
            out_poses,
            out_intrinsics,
            extent,
            corrections.shape[1],
        )
        ctx.save_for_backward(world_to_camera, corrections, out_intrinsics)
        ctx.extent = extent
        return out_poses, out_intrinsics

    @staticmethod
    @once_differentiable
    def backward(ctx, by_pose, by_intrinsics):
        world_to_camera, corrections, out_intrinsics = ctx.saved_tensors
        gradient = torch.empty_like(corrections)
        _move_gradient[len(corrections),](
            world_to_camera,
            corrections,
            out_intrinsics,
            by_pose.contiguous(),
            by_intrinsics.contiguous(),
            gradient,
            ctx.extent,
            corrections.shape[1],
        )
        return None, None, gradient, None


@triton_jit
def _motion(corrections, n, NUMBERS: tl.constexpr):  # noqa: N803
    """Load a view's rotation vector and translation."""
    pointer = corrections + NUMBERS * n
    return (
        tl.load(pointer),
        tl.load(pointer + 1),
        tl.load(pointer + 2),
        tl.load(pointer + 3),
        tl.load(pointer + 4),
        tl.load(pointer + 5),
    )


@triton_jit
def _factors(q):
    """Return sin(a) / a and (1 - cos(a)) / a^2 for q = a^2, and their derivatives by q.

    Series replace the closed forms where these cancel.
    """
    small = q < 0.01
    angle = tl.sqrt(tl.where(small, 1.0, q))
    square = tl.where(small, 1.0, q)
    sine = tl.where(small, 1 - q / 6 + q * q / 120 - q * q * q / 5040, tl.sin(angle) / angle)
    cosine = tl.where(
        small, 0.5 - q / 24 + q * q / 720 - q * q * q / 40320, (1 - tl.cos(angle)) / square
    )
    d_sine = tl.where(
        small, -1.0 / 6 + q / 60 - q * q / 1680, (tl.cos(angle) - sine) / (2 * square)
    )
    d_cosine = tl.where(small, -1.0 / 24 + q / 360 - q * q / 13440, (0.5 * sine - cosine) / square)
    return sine, cosine, d_sine, d_cosine


@triton_jit
def _move(
    world_to_camera,
    intrinsics,
    corrections,
    out_poses,
    out_intrinsics,
    extent,
    NUMBERS: tl.constexpr,  # noqa: N803
):
    n = tl.program_id(0)
    x, y, z, tx, ty, tz = _motion(corrections, n, NUMBERS)
    q = x * x + y * y + z * z
    sine, cosine, _, _ = _factors(q)
    for j in tl.static_range(4):
        pointer = world_to_camera + 16 * n + j
        wx = tl.load(pointer)
        wy = tl.load(pointer + 4)
        wz = tl.load(pointer + 8)
        w = tl.load(pointer + 12)
        # Rodrigues' formula: (1 - cosine q) w + cosine r (r . w) + sine r x w.
        keep = 1 - cosine * q
        along = cosine * (x * wx + y * wy + z * wz)
        to = out_poses + 16 * n + j
        tl.store(to, keep * wx + along * x + sine * (y * wz - z * wy) + extent * tx * w)
        tl.store(to + 4, keep * wy + along * y + sine * (z * wx - x * wz) + extent * ty * w)
        tl.store(to + 8, keep * wz + along * z + sine * (x * wy - y * wx) + extent * tz * w)
        tl.store(to + 12, w)
    factor = tl.exp(tl.load(corrections + NUMBERS * n + 6)) if NUMBERS == 7 else 1.0
    for k in tl.static_range(9):
        # The third column, with the principal point, stays.
        tl.store(
            out_intrinsics + 9 * n + k,
            tl.load(intrinsics + 9 * n + k) * (factor if k % 3 < 2 else 1.0),
        )


@triton_jit
def _move_gradient(
    world_to_camera,
    corrections,
    out_intrinsics,
    outer,
    by_intrinsics,
    gradient,
    extent,
    NUMBERS: tl.constexpr,  # noqa: N803
):
    n = tl.program_id(0)
    x, y, z, _, _, _ = _motion(corrections, n, NUMBERS)
    q = x * x + y * y + z * z
    sine, cosine, d_sine, d_cosine = _factors(q)
    zero = 0.0 * q
    dx = zero
    dy = zero
    dz = zero
    ex = zero
    ey = zero
    ez = zero
    tx = zero
    ty = zero
    tz = zero
    dots = zero
    products = zero
    for j in tl.static_range(4):
        pointer = world_to_camera + 16 * n + j
        by = outer + 16 * n + j
        wx = tl.load(pointer)
        wy = tl.load(pointer + 4)
        wz = tl.load(pointer + 8)
        w = tl.load(pointer + 12)
        gx = tl.load(by)
        gy = tl.load(by + 4)
        gz = tl.load(by + 8)
        tx = tx + gx * w
        ty = ty + gy * w
        tz = tz + gz * w
        w_along = x * wx + y * wy + z * wz
        g_along = x * gx + y * gy + z * gz
        dots += wx * gx + wy * gy + wz * gz
        products += w_along * g_along
        dx = dx + wx * g_along + gx * w_along
        dy = dy + wy * g_along + gy * w_along
        dz = dz + wz * g_along + gz * w_along
        # (r x w) . g = r . (w x g)
        ex = ex + wy * gz - wz * gy
        ey = ey + wz * gx - wx * gz
        ez = ez + wx * gy - wy * gx
    by_q = 2 * (
        d_cosine * (products - q * dots) - cosine * dots + d_sine * (x * ex + y * ey + z * ez)
    )
    to = gradient + NUMBERS * n
    tl.store(to, by_q * x + cosine * dx + sine * ex)
    tl.store(to + 1, by_q * y + cosine * dy + sine * ey)
    tl.store(to + 2, by_q * z + cosine * dz + sine * ez)
    tl.store(to + 3, extent * tx)
    tl.store(to + 4, extent * ty)
    tl.store(to + 5, extent * tz)
    if NUMBERS == 7:
        zoom = zero
        for k in tl.static_range(9):
            if k % 3 < 2:
                zoom += tl.load(by_intrinsics + 9 * n + k) * tl.load(out_intrinsics + 9 * n + k)
        tl.store(to + 6, zoom)
