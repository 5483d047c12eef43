"""CUDA kernels for what comes before a rasteriser: Gaussians as splats in every view, and the gradients of all that made them.

One launch each way. Forwards a Gaussian in a view is a thread; backwards a Gaussian in all views is, so that nothing is added up by atomic
operations, and what cameras are owed is summed block by block: gsplat's own kernel spends a millisecond on adding half a million threads'
shares to the sixteen numbers of a camera.
"""

import torch
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from lift.renderers import BLUR, MIN_ALPHA, NEAR
from lift.runtime.jit import cdiv, kernel

_BLUR, _NEAR, _MIN_ALPHA = tl.constexpr(BLUR), tl.constexpr(NEAR), tl.constexpr(MIN_ALPHA)
_BEYOND = tl.constexpr(0.15)
"""How far outside the picture, in its sizes, a centre is held for the affine approximation."""
_BLOCK = tl.constexpr(128)


def project(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    world_to_camera: Tensor,
    intrinsics: Tensor,
    width: int,
    height: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """As `lift.renderers.reference.project`: means [gaussian 3], quats [gaussian 4], scales [gaussian 3] and opacities [gaussian], all shared or all
    with a leading axis `view`, colors [view gaussian 3], world_to_camera [view 4 4], intrinsics [view 3 3]; float32 on one CUDA device.

    Of each view and Gaussian: places [2] in pixels, inverse covariances xx, xy, yy, colours and z-depth [4], opacities, all of which are
    differentiable; z-depths, half the box's sides [2] in pixels (0 where nothing is to be seen) and the longer of these, which are not. A Gaussian with
    numbers that are not finite is not seen, and owes nothing. Raises ValueError for sets of Gaussians that are neither one nor one a view.
    """
    if means.ndim == 3 and len(means) != len(colors):
        raise ValueError(
            f"there are {len(means)} sets of Gaussians for {len(colors)} views; choose one without a leading axis, or one a view"
        )
    dense = (
        value.contiguous()
        for value in (means, quats, scales, opacities, colors, world_to_camera, intrinsics)
    )
    return _Project.apply(*dense, width, height)


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, means, quats, scales, opacities, colors, world_to_camera, intrinsics, width, height
    ):
        views, count = colors.shape[:2]
        places, conics, features, covers, depths = (
            colors.new_empty(views, count, *size) for size in ((2,), (3,), (4,), (), ())
        )
        boxes, radii = (
            torch.empty(views, count, *size, dtype=torch.int32, device=colors.device)
            for size in ((2,), ())
        )
        own = count if means.ndim == 3 else 0
        _project[cdiv(count, _BLOCK), views](
            means,
            quats,
            scales,
            opacities,
            colors,
            world_to_camera,
            intrinsics,
            places,
            conics,
            features,
            covers,
            depths,
            boxes,
            radii,
            count,
            own,
            width,
            height,
        )
        ctx.save_for_backward(means, quats, scales, world_to_camera, intrinsics, radii)
        ctx.size = width, height
        ctx.mark_non_differentiable(depths, boxes, radii)
        ctx.set_materialize_grads(False)  # it would fill zeros for these, too
        return places, conics, features, covers, depths, boxes, radii

    @staticmethod
    @once_differentiable
    def backward(ctx, by_places, by_conics, by_features, by_covers, *_):
        means, quats, scales, world_to_camera, intrinsics, radii = ctx.saved_tensors
        views, count = radii.shape
        given = zip(
            (by_places, by_conics, by_features, by_covers), ((2,), (3,), (4,), ()), strict=False
        )
        outer = [
            means.new_zeros(views, count, *size) if value is None else value.contiguous()
            for value, size in given
        ]
        d_means, d_quats, d_scales = (torch.empty_like(value) for value in (means, quats, scales))
        d_opacities, d_colors = means.new_empty(means.shape[:-1]), means.new_empty(views, count, 3)
        groups = views if means.ndim == 3 else 1
        blocks, moves = cdiv(count, _BLOCK), any(ctx.needs_input_grad[5:7])
        shares = (
            [means.new_empty(views, blocks, 4, 4), means.new_empty(views, blocks, 3, 3)]
            if moves
            else [means, means]
        )
        _project_gradient[blocks, groups](
            means,
            quats,
            scales,
            world_to_camera,
            intrinsics,
            radii,
            *outer,
            d_means,
            d_quats,
            d_scales,
            d_opacities,
            d_colors,
            *shares,
            count,
            views // groups,
            *ctx.size,
            moves,
        )
        owed = [share.sum(1) for share in shares] if moves else [None, None]
        return d_means, d_quats, d_scales, d_opacities, d_colors, *owed, None, None


@kernel
def _three(at, there):
    return tl.load(at, there, 0.0), tl.load(at + 1, there, 0.0), tl.load(at + 2, there, 0.0)


@kernel
def _turned(quats, there):
    """Unit quaternion w x y z, one over its former length, and the rotation's rows."""
    w, x, y, z = (
        tl.load(quats, there, 1.0),
        tl.load(quats + 1, there, 0.0),
        tl.load(quats + 2, there, 0.0),
        tl.load(quats + 3, there, 0.0),
    )
    unit = 1.0 / tl.maximum(tl.sqrt(w * w + x * x + y * y + z * z), 1e-12)
    w, x, y, z = w * unit, x * unit, y * unit, z * unit
    row0 = (1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y))
    row1 = (2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x))
    row2 = (2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y))
    return (w, x, y, z), unit, row0, row1, row2


@kernel
def _where(there, a):
    return tl.where(there, a[0], 0.0), tl.where(there, a[1], 0.0), tl.where(there, a[2], 0.0)


@kernel
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@kernel
def _plus(a, b):
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@kernel
def _along(a, x, b, y):
    return a * x[0] + b * y[0], a * x[1] + b * y[1], a * x[2] + b * y[2]


@kernel
def _scaled(row, s):
    return row[0] * s[0], row[1] * s[1], row[2] * s[2]


@kernel
def _through(g, row0, row1, row2):
    """G @ rows."""
    return (
        g[0] * row0[0] + g[1] * row1[0] + g[2] * row2[0],
        g[0] * row0[1] + g[1] * row1[1] + g[2] * row2[1],
        g[0] * row0[2] + g[1] * row1[2] + g[2] * row2[2],
    )


@kernel
def _axis(local, depth, focal, center, size):
    """Along one axis of the picture: the centre's place, its offset as the affine approximation has it, and whether that is not held."""
    at = focal * local / depth + center
    held = tl.minimum(tl.maximum(at, -_BEYOND * size), (1.0 + _BEYOND) * size)
    return at, held - center, held == at


@kernel
def _camera(world_to_camera, intrinsics, v):
    """Rows of the rotation, the translation, and focal length and principal point across and down."""
    at, k = world_to_camera + 16 * v, intrinsics + 9 * v
    row0 = (tl.load(at), tl.load(at + 1), tl.load(at + 2))
    row1 = (tl.load(at + 4), tl.load(at + 5), tl.load(at + 6))
    row2 = (tl.load(at + 8), tl.load(at + 9), tl.load(at + 10))
    return (
        row0,
        row1,
        row2,
        (tl.load(at + 3), tl.load(at + 7), tl.load(at + 11)),
        tl.load(k),
        tl.load(k + 4),
        tl.load(k + 2),
        tl.load(k + 5),
    )


@kernel
def _covariance(x, y):
    """xx, xy, yy of a splat whose three axes are x and y across and down, widened by the blur, and its determinant; by Cauchy-Binet the latter is
    a sum of squares, which stays exact for needles.
    """
    c0, c1, c2 = x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]
    xx, xy, yy = _dot(x, x), _dot(x, y), _dot(y, y)
    return (
        xx + _BLUR,
        xy,
        yy + _BLUR,
        c0 * c0 + c1 * c1 + c2 * c2 + (xx + yy) * _BLUR + _BLUR * _BLUR,
    )


@kernel
def _project(
    means,
    quats,
    scales,
    opacities,
    colors,
    world_to_camera,
    intrinsics,
    places,
    conics,
    features,
    covers,
    depths,
    boxes,
    radii,
    count,
    own,
    width,
    height,
):
    v, n = tl.program_id(1), tl.program_id(0) * _BLOCK + tl.arange(0, _BLOCK)
    there = n < count
    source, out = v * own + n, v * count + n
    _, _, turn0, turn1, turn2 = _turned(quats + 4 * source, there)
    s, mean = _three(scales + 3 * source, there), _three(means + 3 * source, there)
    row0, row1, row2, moved, fx, fy, cx, cy = _camera(world_to_camera, intrinsics, v)
    depth = _dot(row2, mean) + moved[2]
    in_front = depth >= _NEAR
    z = tl.where(in_front, depth, 1.0)
    px, ox, _ = _axis(_dot(row0, mean) + moved[0], z, fx, cx, width)
    py, oy, _ = _axis(_dot(row1, mean) + moved[1], z, fy, cy, height)
    axes0, axes1, axes2 = _scaled(turn0, s), _scaled(turn1, s), _scaled(turn2, s)
    x = _through(_along(fx / z, row0, -ox / z, row2), axes0, axes1, axes2)
    y = _through(_along(fy / z, row1, -oy / z, row2), axes0, axes1, axes2)
    xx, xy, yy, det = _covariance(x, y)
    opacity = tl.load(opacities + source, there, 0.0)
    reach = tl.sqrt(2.0 * tl.log(tl.maximum(opacity / _MIN_ALPHA, 1.0)))  # in standard deviations
    # A rounding error must not cut off a pixel; what is wider than any picture is no wider for that.
    across = tl.minimum(reach * tl.sqrt(xx) * (1.0 + 1e-5) + 1e-3, 1e9)
    down = tl.minimum(reach * tl.sqrt(yy) * (1.0 + 1e-5) + 1e-3, 1e9)
    first_x, last_x = (
        tl.maximum(tl.ceil(px - across - 0.5), 0.0),
        tl.minimum(tl.floor(px + across - 0.5), width - 1.0),
    )
    first_y, last_y = (
        tl.maximum(tl.ceil(py - down - 0.5), 0.0),
        tl.minimum(tl.floor(py + down - 0.5), height - 1.0),
    )
    finite = (
        (xx < 1e30) & (yy < 1e30) & (tl.abs(px) < 1e30) & (tl.abs(py) < 1e30)
    )  # which is also false of what is no number
    seen = in_front & finite & (opacity >= _MIN_ALPHA) & (first_x <= last_x) & (first_y <= last_y)
    across, down = (
        tl.where(seen, tl.ceil(across), 0.0).to(tl.int32),
        tl.where(seen, tl.ceil(down), 0.0).to(tl.int32),
    )
    tl.store(boxes + 2 * out, across, there)
    tl.store(boxes + 2 * out + 1, down, there)
    tl.store(radii + out, tl.maximum(across, down), there)
    tl.store(places + 2 * out, px, there)
    tl.store(places + 2 * out + 1, py, there)
    tl.store(conics + 3 * out, yy / det, there)
    tl.store(conics + 3 * out + 1, -xy / det, there)
    tl.store(conics + 3 * out + 2, xx / det, there)
    for c in tl.static_range(3):
        tl.store(features + 4 * out + c, tl.load(colors + 3 * out + c, there, 0.0), there)
    tl.store(features + 4 * out + 3, z, there)
    tl.store(depths + out, z, there)
    tl.store(covers + out, opacity, there)


@kernel
def _project_gradient(
    means,
    quats,
    scales,
    world_to_camera,
    intrinsics,
    radii,
    by_places,
    by_conics,
    by_features,
    by_covers,
    d_means,
    d_quats,
    d_scales,
    d_opacities,
    d_colors,
    to_poses,
    to_intrinsics,
    count,
    views,
    width,
    height,
    CAMERAS: tl.constexpr,  # noqa: N803
):
    n = tl.program_id(0) * _BLOCK + tl.arange(0, _BLOCK)
    there, source = n < count, tl.program_id(1) * count + n
    unit, inverse, turn0, turn1, turn2 = _turned(quats + 4 * source, there)
    s, mean = _three(scales + 3 * source, there), _three(means + 3 * source, there)
    # What is no number would still be none where nothing is seen of it, times zero.
    every = _dot(s, s) + _dot(mean, mean) + _dot(turn0, turn1) + _dot(turn2, turn2)
    sound = every - every == 0.0
    s, mean = _where(sound, s), _where(sound, mean)
    turn0, turn1, turn2 = _where(sound, turn0), _where(sound, turn1), _where(sound, turn2)
    axes0, axes1, axes2 = _scaled(turn0, s), _scaled(turn1, s), _scaled(turn2, s)
    zero = tl.zeros([_BLOCK], tl.float32)
    d_mean, d_axes0, d_axes1, d_axes2, d_opacity = (
        (zero, zero, zero),
        (zero, zero, zero),
        (zero, zero, zero),
        (zero, zero, zero),
        zero,
    )
    for k in range(views):
        v = tl.program_id(1) * views + k
        out = v * count + n
        seen = there & (tl.load(radii + out, there, 0) > 0)
        row0, row1, row2, moved, fx, fy, cx, cy = _camera(world_to_camera, intrinsics, v)
        z = tl.where(seen, _dot(row2, mean) + moved[2], 1.0)
        lx, ly = _dot(row0, mean) + moved[0], _dot(row1, mean) + moved[1]
        _, ox, free_x = _axis(lx, z, fx, cx, width)
        _, oy, free_y = _axis(ly, z, fy, cy, height)
        gx, gy = _along(fx / z, row0, -ox / z, row2), _along(fy / z, row1, -oy / z, row2)
        x, y = _through(gx, axes0, axes1, axes2), _through(gy, axes0, axes1, axes2)
        xx, xy, yy, det = _covariance(x, y)
        # With the inverse C of a symmetric S, a change of S changes it by -C dS C.
        a, b, c = yy / det, -xy / det, xx / det
        by_a, by_b, by_c = _three(by_conics + 3 * out, seen)
        by_b *= 0.5
        p, q, r, t = (
            a * by_a + b * by_b,
            a * by_b + b * by_c,
            b * by_a + c * by_b,
            b * by_b + c * by_c,
        )
        d_xx, d_xy, d_yy = -(p * a + q * b), -(p * b + q * c), -(r * b + t * c)
        d_x, d_y = _along(2.0 * d_xx, x, 2.0 * d_xy, y), _along(2.0 * d_yy, y, 2.0 * d_xy, x)
        d_axes0 = _plus(d_axes0, _along(gx[0], d_x, gy[0], d_y))
        d_axes1 = _plus(d_axes1, _along(gx[1], d_x, gy[1], d_y))
        d_axes2 = _plus(d_axes2, _along(gx[2], d_x, gy[2], d_y))
        d_gx = (_dot(axes0, d_x), _dot(axes1, d_x), _dot(axes2, d_x))
        d_gy = (_dot(axes0, d_y), _dot(axes1, d_y), _dot(axes2, d_y))
        # What `_along` was given: fx / z and -ox / z, the same down.
        to_x, to_ox, to_y, to_oy = (
            _dot(d_gx, row0) / z,
            -_dot(d_gx, row2) / z,
            _dot(d_gy, row1) / z,
            -_dot(d_gy, row2) / z,
        )
        d_px = tl.load(by_places + 2 * out, seen, 0.0) + tl.where(free_x, to_ox, 0.0)
        d_py = tl.load(by_places + 2 * out + 1, seen, 0.0) + tl.where(free_y, to_oy, 0.0)
        d_lx, d_ly = fx * d_px / z, fy * d_py / z
        d_lz = (
            tl.load(by_features + 4 * out + 3, seen, 0.0)
            - (lx * d_lx + ly * d_ly + fx * to_x + fy * to_y + ox * to_ox + oy * to_oy) / z
        )
        d_mean = _plus(d_mean, _through((d_lx, d_ly, d_lz), row0, row1, row2))
        d_opacity += tl.load(by_covers + out, seen, 0.0)
        for i in tl.static_range(3):
            tl.store(d_colors + 3 * out + i, tl.load(by_features + 4 * out + i, seen, 0.0), there)
        if CAMERAS:
            to = to_poses + 16 * (v * tl.num_programs(0) + tl.program_id(0))
            for i in tl.static_range(3):
                tl.store(to + i, tl.sum(d_lx * mean[i] + fx / z * d_gx[i], 0))
                tl.store(to + 4 + i, tl.sum(d_ly * mean[i] + fy / z * d_gy[i], 0))
                tl.store(
                    to + 8 + i, tl.sum(d_lz * mean[i] - ox / z * d_gx[i] - oy / z * d_gy[i], 0)
                )
                tl.store(to + 12 + i, 0.0)
            tl.store(to + 3, tl.sum(d_lx, 0))
            tl.store(to + 7, tl.sum(d_ly, 0))
            tl.store(to + 11, tl.sum(d_lz, 0))
            tl.store(to + 15, 0.0)
            to = to_intrinsics + 9 * (v * tl.num_programs(0) + tl.program_id(0))
            tl.store(to, tl.sum(lx / z * d_px + to_x, 0))
            tl.store(to + 1, 0.0)
            tl.store(to + 2, tl.sum(d_px - to_ox, 0))
            tl.store(to + 3, 0.0)
            tl.store(to + 4, tl.sum(ly / z * d_py + to_y, 0))
            tl.store(to + 5, tl.sum(d_py - to_oy, 0))
            for i in tl.static_range(3):
                tl.store(to + 6 + i, 0.0)
    for i in tl.static_range(3):
        tl.store(d_means + 3 * source + i, d_mean[i], there)
        tl.store(
            d_scales + 3 * source + i,
            d_axes0[i] * turn0[i] + d_axes1[i] * turn1[i] + d_axes2[i] * turn2[i],
            there,
        )
    tl.store(d_opacities + source, d_opacity, there)
    d0, d1, d2 = _scaled(d_axes0, s), _scaled(d_axes1, s), _scaled(d_axes2, s)
    w, x, y, z = (
        tl.where(sound, unit[0], 1.0),
        tl.where(sound, unit[1], 0.0),
        tl.where(sound, unit[2], 0.0),
        tl.where(sound, unit[3], 0.0),
    )
    inverse = tl.where(sound, inverse, 0.0)
    d_w = 2.0 * (z * (d1[0] - d0[1]) + y * (d0[2] - d2[0]) + x * (d2[1] - d1[2]))
    d_x = 2.0 * (
        y * (d0[1] + d1[0]) + z * (d0[2] + d2[0]) + w * (d2[1] - d1[2]) - 2.0 * x * (d1[1] + d2[2])
    )
    d_y = 2.0 * (
        x * (d0[1] + d1[0]) + z * (d1[2] + d2[1]) + w * (d0[2] - d2[0]) - 2.0 * y * (d0[0] + d2[2])
    )
    d_z = 2.0 * (
        x * (d0[2] + d2[0]) + y * (d1[2] + d2[1]) + w * (d1[0] - d0[1]) - 2.0 * z * (d0[0] + d1[1])
    )
    along = w * d_w + x * d_x + y * d_y + z * d_z
    tl.store(d_quats + 4 * source, inverse * (d_w - w * along), there)
    tl.store(d_quats + 4 * source + 1, inverse * (d_x - x * along), there)
    tl.store(d_quats + 4 * source + 2, inverse * (d_y - y * along), there)
    tl.store(d_quats + 4 * source + 3, inverse * (d_z - z * along), there)
