"""A CUDA kernel for `rigid`: cameras moved by a small rigid motion each and zoomed, and the gradient, one launch each.

In plain torch that is a hundred launches a step on a handful of numbers, longer than the rasteriser takes.
"""

import torch
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from lift.runtime.jit import kernel


def changed(
    world_to_camera: Tensor, intrinsics: Tensor, motions: Tensor, extent: float
) -> tuple[Tensor, Tensor]:
    """What `Rigid.cameras` makes of world_to_camera [view 4 4] and intrinsics [view 3 3], neither of which has a gradient, by motions [view 6],
    or 7 of which the last zooms; float32 on one CUDA device.
    """
    return _Changed.apply(
        world_to_camera.contiguous(), intrinsics.contiguous(), motions.contiguous(), extent
    )


class _Changed(Function):
    @staticmethod
    def forward(ctx, world_to_camera, intrinsics, motions, extent):
        out = torch.empty_like(world_to_camera), torch.empty_like(intrinsics)
        _move[len(motions),](world_to_camera, intrinsics, motions, *out, extent, motions.shape[1])
        ctx.save_for_backward(world_to_camera, motions, out[1])
        ctx.extent = extent
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, by_place, by_intrinsics):
        world_to_camera, motions, zoomed = ctx.saved_tensors
        gradient, outer = (
            torch.empty_like(motions),
            (by_place.contiguous(), by_intrinsics.contiguous()),
        )
        _move_gradient[len(motions),](
            world_to_camera, motions, zoomed, *outer, gradient, ctx.extent, motions.shape[1]
        )
        return None, None, gradient, None


@kernel
def _motion(motions, n, NUMBERS: tl.constexpr):  # noqa: N803
    """A view's rotation vector and translation."""
    at = motions + NUMBERS * n
    return (
        tl.load(at),
        tl.load(at + 1),
        tl.load(at + 2),
        tl.load(at + 3),
        tl.load(at + 4),
        tl.load(at + 5),
    )


@kernel
def _factors(q):
    """sin(a) / a and (1 - cos(a)) / a^2 for q = a^2, and their derivatives by q; by series where the closed forms cancel."""
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


@kernel
def _move(world_to_camera, intrinsics, motions, out, zoomed, extent, NUMBERS: tl.constexpr):  # noqa: N803
    n = tl.program_id(0)
    x, y, z, tx, ty, tz = _motion(motions, n, NUMBERS)
    q = x * x + y * y + z * z
    sine, cosine, _, _ = _factors(q)
    for j in tl.static_range(4):
        at = world_to_camera + 16 * n + j
        wx, wy, wz, one = tl.load(at), tl.load(at + 4), tl.load(at + 8), tl.load(at + 12)
        # Rodrigues' formula: (1 - cosine q) w + cosine r (r . w) + sine r x w.
        still, along = 1 - cosine * q, cosine * (x * wx + y * wy + z * wz)
        to = out + 16 * n + j
        tl.store(to, still * wx + along * x + sine * (y * wz - z * wy) + extent * tx * one)
        tl.store(to + 4, still * wy + along * y + sine * (z * wx - x * wz) + extent * ty * one)
        tl.store(to + 8, still * wz + along * z + sine * (x * wy - y * wx) + extent * tz * one)
        tl.store(to + 12, one)
    factor = tl.exp(tl.load(motions + NUMBERS * n + 6)) if NUMBERS == 7 else 1.0
    for k in tl.static_range(9):
        tl.store(
            zoomed + 9 * n + k, tl.load(intrinsics + 9 * n + k) * (factor if k % 3 < 2 else 1.0)
        )  # the principal point stays


@kernel
def _move_gradient(
    world_to_camera,
    motions,
    zoomed,
    outer,
    by_intrinsics,
    gradient,
    extent,
    NUMBERS: tl.constexpr,  # noqa: N803
):
    n = tl.program_id(0)
    x, y, z, _, _, _ = _motion(motions, n, NUMBERS)
    q = x * x + y * y + z * z
    sine, cosine, d_sine, d_cosine = _factors(q)
    zero = 0.0 * q
    dx, dy, dz, ex, ey, ez, tx, ty, tz = zero, zero, zero, zero, zero, zero, zero, zero, zero
    dots, products = zero, zero
    for j in tl.static_range(4):
        at, by = world_to_camera + 16 * n + j, outer + 16 * n + j
        wx, wy, wz, one = tl.load(at), tl.load(at + 4), tl.load(at + 8), tl.load(at + 12)
        gx, gy, gz = tl.load(by), tl.load(by + 4), tl.load(by + 8)
        tx, ty, tz = tx + gx * one, ty + gy * one, tz + gz * one
        w_along, g_along = x * wx + y * wy + z * wz, x * gx + y * gy + z * gz
        dots += wx * gx + wy * gy + wz * gz
        products += w_along * g_along
        dx, dy, dz = (
            dx + wx * g_along + gx * w_along,
            dy + wy * g_along + gy * w_along,
            dz + wz * g_along + gz * w_along,
        )
        ex, ey, ez = (
            ex + wy * gz - wz * gy,
            ey + wz * gx - wx * gz,
            ez + wx * gy - wy * gx,
        )  # (r x w) . g = r . (w x g)
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
                zoom += tl.load(by_intrinsics + 9 * n + k) * tl.load(zoomed + 9 * n + k)
        tl.store(to + 6, zoom)
