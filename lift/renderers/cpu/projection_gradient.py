"""Gradients of the projection by Gaussians and cameras."""

import numpy as np
from numba import prange

from lift.renderers import EPS2D
from lift.renderers.cpu.compile import compile_kernel, f32
from lift.renderers.cpu.compositing_gradient import NUM_SUMS
from lift.renderers.cpu.projection import (
    CHUNK,
    clamp_to_view,
    normalize_quat,
    projected_axes,
    projection_rows,
    rotation_matrix,
    to_camera,
)
from lift.runtime.jit import PARALLEL


@compile_kernel()
def _quat_gradient(quat, d):
    """Return the gradient of a quaternion from that of its rotation matrix.

    The quaternion need not have unit length.
    """
    w, x, y, z, inverse = normalize_quat(quat)
    gw = f32(2) * (x * (d[7] - d[5]) + y * (d[2] - d[6]) + z * (d[3] - d[1]))
    gx = f32(2) * (
        y * (d[1] + d[3]) + z * (d[2] + d[6]) + w * (d[7] - d[5]) - f32(2) * x * (d[4] + d[8])
    )
    gy = f32(2) * (
        x * (d[1] + d[3]) + z * (d[5] + d[7]) + w * (d[2] - d[6]) - f32(2) * y * (d[0] + d[8])
    )
    gz = f32(2) * (
        x * (d[2] + d[6]) + y * (d[5] + d[7]) + w * (d[3] - d[1]) - f32(2) * z * (d[0] + d[4])
    )
    along = gw * w + gx * x + gy * y + gz * z
    return (
        (gw - along * w) * inverse,
        (gx - along * x) * inverse,
        (gy - along * y) * inverse,
        (gz - along * z) * inverse,
    )


@compile_kernel()
def _axes_gradient(m, a, b, c, da, db, dc):
    """Return the gradient of a Gaussian's projected axes from that of its conic (a, b, c).

    It goes through the determinant, as `project` computes it. The form -conic S conic would be
    shorter, but for a needle it would consist of rounding errors.
    """
    k0 = m[1] * m[5] - m[2] * m[4]
    k1 = m[2] * m[3] - m[0] * m[5]
    k2 = m[0] * m[4] - m[1] * m[3]
    trace = m[0] * m[0] + m[1] * m[1] + m[2] * m[2] + m[3] * m[3] + m[4] * m[4] + m[5] * m[5]
    inverse = f32(1) / (k0 * k0 + k1 * k1 + k2 * k2 + f32(EPS2D) * trace + f32(EPS2D * EPS2D))
    d_det = -(da * a + db * b + dc * c) * inverse
    d_xx = f32(2) * (dc * inverse + f32(EPS2D) * d_det)
    d_xy = -db * inverse
    d_yy = f32(2) * (da * inverse + f32(EPS2D) * d_det)
    k0 = f32(2) * k0 * d_det
    k1 = f32(2) * k1 * d_det
    k2 = f32(2) * k2 * d_det
    return (
        d_xx * m[0] + d_xy * m[3] + m[4] * k2 - m[5] * k1,
        d_xx * m[1] + d_xy * m[4] + m[5] * k0 - m[3] * k2,
        d_xx * m[2] + d_xy * m[5] + m[3] * k1 - m[4] * k0,
        d_yy * m[3] + d_xy * m[0] + k1 * m[2] - k2 * m[1],
        d_yy * m[4] + d_xy * m[1] + k2 * m[0] - k0 * m[2],
        d_yy * m[5] + d_xy * m[2] + k0 * m[1] - k1 * m[0],
    )


@compile_kernel()
def _project_gradient_chunk(
    chunk,
    means,
    quats,
    scales,
    radii,
    splats,
    pair_starts,
    num_tiles,
    sums,
    camera,
    intrinsics,
    w,
    h,
    with_cameras,
    d_means,
    d_quats,
    d_scales,
    d_opacities,
    d_colors,
    d_camera,
):
    fx = intrinsics[0, 0]
    fy = intrinsics[1, 1]
    cx = intrinsics[0, 2]
    cy = intrinsics[1, 2]
    s = np.empty(NUM_SUMS, np.float32)
    for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, len(radii))):
        if radii[i] == 0:
            continue
        s[:] = 0
        for k in range(pair_starts[i], pair_starts[i] + num_tiles[i]):
            for j in range(NUM_SUMS):
                s[j] += sums[k, j]
        d_colors[i, 0] = s[6]
        d_colors[i, 1] = s[7]
        d_colors[i, 2] = s[8]
        splat = splats[i]
        a = splat[2]
        b = splat[3]
        c = splat[4]
        d_opacities[i] += s[0] / splat[5]

        x, y, z = to_camera(camera, means[i])
        u = clamp_to_view(splat[0], w) - cx
        v = clamp_to_view(splat[1], h) - cy
        g = projection_rows(camera, fx, fy, u, v, z)
        qw, qx, qy, qz, _ = normalize_quat(quats[i])
        r = rotation_matrix(qw, qx, qy, qz)
        m = projected_axes(g, r, scales[i])
        dm = _axes_gradient(m, a, b, c, f32(-0.5) * s[3], -s[4], f32(-0.5) * s[5])

        # The gradient of the axes (rotation times scale) is l = g^T dm.
        s0 = scales[i, 0]
        s1 = scales[i, 1]
        s2 = scales[i, 2]
        l00 = g[0] * dm[0] + g[3] * dm[3]
        l01 = g[0] * dm[1] + g[3] * dm[4]
        l02 = g[0] * dm[2] + g[3] * dm[5]
        l10 = g[1] * dm[0] + g[4] * dm[3]
        l11 = g[1] * dm[1] + g[4] * dm[4]
        l12 = g[1] * dm[2] + g[4] * dm[5]
        l20 = g[2] * dm[0] + g[5] * dm[3]
        l21 = g[2] * dm[1] + g[5] * dm[4]
        l22 = g[2] * dm[2] + g[5] * dm[5]
        d_scales[i, 0] += l00 * r[0] + l10 * r[3] + l20 * r[6]
        d_scales[i, 1] += l01 * r[1] + l11 * r[4] + l21 * r[7]
        d_scales[i, 2] += l02 * r[2] + l12 * r[5] + l22 * r[8]
        dq = _quat_gradient(
            quats[i],
            (
                l00 * s0,
                l01 * s1,
                l02 * s2,
                l10 * s0,
                l11 * s1,
                l12 * s2,
                l20 * s0,
                l21 * s1,
                l22 * s2,
            ),
        )
        for j in range(4):
            d_quats[i, j] += dq[j]

        # The gradient of the rows g = Jacobian times rotation is dm axes^T.
        e0 = dm[0] * s0
        e1 = dm[1] * s1
        e2 = dm[2] * s2
        f0 = dm[3] * s0
        f1 = dm[4] * s1
        f2 = dm[5] * s2
        dg0 = e0 * r[0] + e1 * r[1] + e2 * r[2]
        dg1 = e0 * r[3] + e1 * r[4] + e2 * r[5]
        dg2 = e0 * r[6] + e1 * r[7] + e2 * r[8]
        dg3 = f0 * r[0] + f1 * r[1] + f2 * r[2]
        dg4 = f0 * r[3] + f1 * r[4] + f2 * r[5]
        dg5 = f0 * r[6] + f1 * r[7] + f2 * r[8]
        j00 = dg0 * camera[0, 0] + dg1 * camera[0, 1] + dg2 * camera[0, 2]
        j02 = dg0 * camera[2, 0] + dg1 * camera[2, 1] + dg2 * camera[2, 2]
        j11 = dg3 * camera[1, 0] + dg4 * camera[1, 1] + dg5 * camera[1, 2]
        j12 = dg3 * camera[2, 0] + dg4 * camera[2, 1] + dg5 * camera[2, 2]

        # The gradient of the mean goes through its pixel, the Jacobian and its depth.
        rz = f32(1) / z
        du = -j02 * rz
        dv = -j12 * rz
        px = a * s[1] + b * s[2]
        py = b * s[1] + c * s[2]
        inside_x = clamp_to_view(splat[0], w) == splat[0]
        inside_y = clamp_to_view(splat[1], h) == splat[1]
        px = px + (du if inside_x else f32(0))
        py = py + (dv if inside_y else f32(0))
        dx = px * fx * rz
        dy = py * fy * rz
        dz = s[9] - (dx * x + dy * y) * rz + (j02 * u + j12 * v - j00 * fx - j11 * fy) * rz * rz
        d_means[i, 0] += camera[0, 0] * dx + camera[1, 0] * dy + camera[2, 0] * dz
        d_means[i, 1] += camera[0, 1] * dx + camera[1, 1] * dy + camera[2, 1] * dz
        d_means[i, 2] += camera[0, 2] * dx + camera[1, 2] * dy + camera[2, 2] * dz

        if with_cameras:
            jx = fx * rz
            jy = fy * rz
            jz = -u * rz
            jw = -v * rz
            for j, dg_x, dg_y in ((0, dg0, dg3), (1, dg1, dg4), (2, dg2, dg5)):
                mean = means[i, j]
                d_camera[j] += dx * mean + jx * dg_x
                d_camera[3 + j] += dy * mean + jy * dg_y
                d_camera[6 + j] += dz * mean + jz * dg_x + jw * dg_y
            d_camera[9] += dx
            d_camera[10] += dy
            d_camera[11] += dz
            d_camera[12] += (px * x + j00) * rz
            d_camera[13] += (py * y + j11) * rz
            d_camera[14] += px - du
            d_camera[15] += py - dv


@compile_kernel(parallel=PARALLEL)
def project_gradient(
    means,
    quats,
    scales,
    radii,
    splats,
    pair_starts,
    num_tiles,
    sums,
    cameras,
    intrinsics,
    width,
    height,
    with_cameras,
):
    """Return the gradients of means, quats, scales, opacities, colors and cameras.

    Those of cameras are partial sums [chunk view 16]: nine entries of the rotation, three of the
    translation, fx, fy, cx, cy.

    Args:
        means: Centres in scene units, one set or one a view, float32 [set gaussian 3].
        quats: Quaternions w x y z of any length, float32 [set gaussian 4].
        scales: Standard deviations along the axes, in scene units, float32 [set gaussian 3].
        radii: Radii from `project`, in pixels, 0 where culled, [view gaussian].
        splats: Splats from `project`, float32 [view gaussian 12].
        pair_starts: Where the pairs of each Gaussian start, int64 [view gaussian].
        num_tiles: Number of tiles that each Gaussian touches, int64 [view gaussian].
        sums: The ten sums of every pair from `composite_gradient`, [entry 10].
        cameras: World-to-camera matrices, float32 [view 4 4].
        intrinsics: Intrinsic matrices in pixels, float32 [view 3 3].
        width: Width of the pictures in pixels.
        height: Height of the pictures in pixels.
        with_cameras: Whether to compute the gradients of cameras. They are 0 if not.
    """
    views, count = radii.shape
    d_means = np.zeros(means.shape, np.float32)
    d_quats = np.zeros(quats.shape, np.float32)
    d_scales = np.zeros(scales.shape, np.float32)
    d_opacities = np.zeros(means.shape[:2], np.float32)
    d_colors = np.zeros((views, count, 3), np.float32)
    chunks = (count + CHUNK - 1) // CHUNK
    d_cameras = np.zeros((chunks, views, 16), np.float64)
    for chunk in prange(chunks):
        for view in range(views):  # in sequence, because views may share Gaussians
            scene = min(view, means.shape[0] - 1)
            _project_gradient_chunk(
                chunk,
                means[scene],
                quats[scene],
                scales[scene],
                radii[view],
                splats[view],
                pair_starts[view],
                num_tiles[view],
                sums,
                cameras[view],
                intrinsics[view],
                f32(width),
                f32(height),
                with_cameras,
                d_means[scene],
                d_quats[scene],
                d_scales[scene],
                d_opacities[scene],
                d_colors[view],
                d_cameras[chunk, view],
            )
    return d_means, d_quats, d_scales, d_opacities, d_colors, d_cameras
