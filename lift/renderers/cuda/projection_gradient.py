"""The CUDA kernel for the gradients of the projection."""

# Triton has incomplete type stubs.
# pyright: reportGeneralTypeIssues=false

import triton.language as tl

from lift.renderers.cuda.geometry import (
    BLOCK,
    add,
    combine,
    covariance,
    dot,
    load_camera,
    load_rotation,
    load_vector,
    multiply,
    project_axis,
    transform,
    where_vector,
)
from lift.runtime.jit import triton_jit


@triton_jit
def project_gradient(
    means,
    quats,
    scales,
    world_to_camera,
    intrinsics,
    radii,
    by_means2d,
    by_conics,
    by_features,
    by_opacities,
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
    """Compute the gradients of a block of Gaussians, and of the cameras block by block.

    A program handles `views` views in a loop, so the gradients of Gaussians that views share need
    no atomic additions. Gradients of cameras, if CAMERAS, are partial sums of each block.
    The arrays are pointers to contiguous float32, except `radii`. There is one set of Gaussians
    that all views share, or one set a view.

    Args:
        means: Centres in scene units, [set gaussian 3].
        quats: Quaternions w x y z of any length, [set gaussian 4].
        scales: Standard deviations along the axes, in scene units, [set gaussian 3].
        world_to_camera: World-to-camera matrices, [view 4 4].
        intrinsics: Intrinsic matrices in pixels, [view 3 3].
        radii: Radii in pixels, 0 where not visible, int32 [view gaussian].
        by_means2d: Gradient of the loss by the means in pixels, [view gaussian 2].
        by_conics: Gradient of the loss by the inverse covariances xx, xy, yy, [view gaussian 3].
        by_features: Gradient of the loss by colour and z-depth, [view gaussian 4].
        by_opacities: Gradient of the loss by the opacities in every view, [view gaussian].
        d_means: Output. Gradient by `means`, [set gaussian 3].
        d_quats: Output. Gradient by `quats`, [set gaussian 4].
        d_scales: Output. Gradient by `scales`, [set gaussian 3].
        d_opacities: Output. Gradient by the opacities, [set gaussian].
        d_colors: Output. Gradient by the colours, [view gaussian 3].
        to_poses: Output if CAMERAS. Sums by `world_to_camera`, [view block 4 4].
        to_intrinsics: Output if CAMERAS. Sums by `intrinsics`, [view block 3 3].
        count: Number of Gaussians in a set.
        views: Number of views that a program handles: 1 if there is one set a view.
        width: Width of the pictures in pixels.
        height: Height of the pictures in pixels.
        CAMERAS: Whether to compute the gradients of cameras.
    """
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = n < count
    source = tl.program_id(1) * count + n
    unit, inverse, rotation0, rotation1, rotation2 = load_rotation(quats + 4 * source, mask)
    s = load_vector(scales + 3 * source, mask)
    mean = load_vector(means + 3 * source, mask)
    # NaN and infinities would remain NaN after a multiplication by zero.
    magnitude = dot(s, s) + dot(mean, mean) + dot(rotation0, rotation1) + dot(rotation2, rotation2)
    finite = magnitude - magnitude == 0.0
    s = where_vector(finite, s)
    mean = where_vector(finite, mean)
    rotation0 = where_vector(finite, rotation0)
    rotation1 = where_vector(finite, rotation1)
    rotation2 = where_vector(finite, rotation2)
    axes0 = multiply(rotation0, s)
    axes1 = multiply(rotation1, s)
    axes2 = multiply(rotation2, s)
    zero = tl.zeros([BLOCK], tl.float32)
    d_mean = (zero, zero, zero)
    d_axes0 = (zero, zero, zero)
    d_axes1 = (zero, zero, zero)
    d_axes2 = (zero, zero, zero)
    d_opacity = zero
    for k in range(views):
        v = tl.program_id(1) * views + k
        out = v * count + n
        visible = mask & (tl.load(radii + out, mask, 0) > 0)
        row0, row1, row2, translation, fx, fy, cx, cy = load_camera(world_to_camera, intrinsics, v)
        z = tl.where(visible, dot(row2, mean) + translation[2], 1.0)
        lx = dot(row0, mean) + translation[0]
        ly = dot(row1, mean) + translation[1]
        _, ox, free_x = project_axis(lx, z, fx, cx, width)
        _, oy, free_y = project_axis(ly, z, fy, cy, height)
        gx = combine(fx / z, row0, -ox / z, row2)
        gy = combine(fy / z, row1, -oy / z, row2)
        x = transform(gx, axes0, axes1, axes2)
        y = transform(gy, axes0, axes1, axes2)
        xx, xy, yy, det = covariance(x, y)
        # C is the inverse of a symmetric S; a change dS changes it by -C dS C.
        a = yy / det
        b = -xy / det
        c = xx / det
        by_a, by_b, by_c = load_vector(by_conics + 3 * out, visible)
        by_b *= 0.5
        p = a * by_a + b * by_b
        q = a * by_b + b * by_c
        r = b * by_a + c * by_b
        t = b * by_b + c * by_c
        d_xx = -(p * a + q * b)
        d_xy = -(p * b + q * c)
        d_yy = -(r * b + t * c)
        d_x = combine(2.0 * d_xx, x, 2.0 * d_xy, y)
        d_y = combine(2.0 * d_yy, y, 2.0 * d_xy, x)
        d_axes0 = add(d_axes0, combine(gx[0], d_x, gy[0], d_y))
        d_axes1 = add(d_axes1, combine(gx[1], d_x, gy[1], d_y))
        d_axes2 = add(d_axes2, combine(gx[2], d_x, gy[2], d_y))
        d_gx = (dot(axes0, d_x), dot(axes1, d_x), dot(axes2, d_x))
        d_gy = (dot(axes0, d_y), dot(axes1, d_y), dot(axes2, d_y))
        # Gradients by the factors of `combine`: fx / z and -ox / z, fy / z and -oy / z.
        to_x = dot(d_gx, row0) / z
        to_ox = -dot(d_gx, row2) / z
        to_y = dot(d_gy, row1) / z
        to_oy = -dot(d_gy, row2) / z
        d_px = tl.load(by_means2d + 2 * out, visible, 0.0) + tl.where(free_x, to_ox, 0.0)
        d_py = tl.load(by_means2d + 2 * out + 1, visible, 0.0) + tl.where(free_y, to_oy, 0.0)
        d_lx = fx * d_px / z
        d_ly = fy * d_py / z
        d_lz = (
            tl.load(by_features + 4 * out + 3, visible, 0.0)
            - (lx * d_lx + ly * d_ly + fx * to_x + fy * to_y + ox * to_ox + oy * to_oy) / z
        )
        d_mean = add(d_mean, transform((d_lx, d_ly, d_lz), row0, row1, row2))
        d_opacity += tl.load(by_opacities + out, visible, 0.0)
        for i in tl.static_range(3):
            tl.store(d_colors + 3 * out + i, tl.load(by_features + 4 * out + i, visible, 0.0), mask)
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
        tl.store(d_means + 3 * source + i, d_mean[i], mask)
        tl.store(
            d_scales + 3 * source + i,
            d_axes0[i] * rotation0[i] + d_axes1[i] * rotation1[i] + d_axes2[i] * rotation2[i],
            mask,
        )
    tl.store(d_opacities + source, d_opacity, mask)
    d0 = multiply(d_axes0, s)
    d1 = multiply(d_axes1, s)
    d2 = multiply(d_axes2, s)
    w = tl.where(finite, unit[0], 1.0)
    x = tl.where(finite, unit[1], 0.0)
    y = tl.where(finite, unit[2], 0.0)
    z = tl.where(finite, unit[3], 0.0)
    inverse = tl.where(finite, inverse, 0.0)
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
    tl.store(d_quats + 4 * source, inverse * (d_w - w * along), mask)
    tl.store(d_quats + 4 * source + 1, inverse * (d_x - x * along), mask)
    tl.store(d_quats + 4 * source + 2, inverse * (d_y - y * along), mask)
    tl.store(d_quats + 4 * source + 3, inverse * (d_z - z * along), mask)
