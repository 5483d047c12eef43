"""Compiled loops of the numba renderer, backwards. Arrays as in `numba_kernels`.

With v = dL/dalpha * alpha of a pixel and (dx, dy) its offset from a Gaussian's mean, all that the Gaussian's shape needs of its pixels
are the six moments sum v (1, dx, dy, dx^2, dx dy, dy^2); with its colour's and its depth's gradient they are a pair's ten sums.
"""

import numpy as np
from numba import prange

from lift.renderers import BLUR, MAX_ALPHA, MIN_COVERAGE
from lift.renderers.cpu.kernels import (
    AHEAD,
    CHUNK,
    LINE,
    TILE_HEIGHT,
    TILE_WIDTH,
    _clamped,
    _falloff,
    _local,
    _pass,
    _picture_axes,
    _picture_rows,
    _rotation,
    _rows,
    _spread,
    _unit,
    compiled,
    f32,
)
from lift.renderers.cpu.lanes import (
    WIDTH,
    broadcast,
    load,
    prefetch,
    ramp,
    store,
    total,
    totals,
    where_above,
)
from lift.runtime.jit import PARALLEL

SUMS = 10
ROW = 7 * LINE


@compiled()
def _slopes(state, p, raw, red, green, blue, depth):
    """Of eight pixels: v, and the gradients by what the Gaussian shows; moves the first two lines on."""
    weight, after = _pass(state, p, raw)
    g_red, g_green, g_blue = (
        load(state, p + 2 * LINE),
        load(state, p + 3 * LINE),
        load(state, p + 4 * LINE),
    )
    g_depth = load(state, p + 5 * LINE)
    shown = (
        g_red * red + g_green * green + g_blue * blue + g_depth * depth + load(state, p + 6 * LINE)
    ) * weight
    behind = load(state, p + LINE) - shown
    store(state, p + LINE, behind)
    v = where_above(raw, f32(MAX_ALPHA), f32(0), shown - weight / after * behind)
    return v, weight * g_red, weight * g_green, weight * g_blue, weight * g_depth


@compiled(forceinline=True)
def _tile_sums(state, splat, box, tile_x, tile_y, sums):
    """One Gaussian's ten sums over a tile. Lines of a row of `state`: transmittance in front of it; R, the loss's gradient times all that is
    composited from it on; the gradients of r, g, b, depth, alpha. Front to back, as the picture was made, so that transmittance is
    exactly what it was: dL/dalpha = transmittance * (what the Gaussian shows) - R behind it / (1 - alpha).
    """
    xx, xy, yy = splat[2] * f32(1 / 32), splat[3] * f32(1 / 16), splat[4] * f32(1 / 32)
    opacity, red, green, blue, depth = splat[5], splat[6], splat[7], splat[8], splat[9]
    left, right = max(box[0] - tile_x, 0), min(box[2] - tile_x, TILE_WIDTH - 1)
    zero = broadcast(f32(0))
    s_0, s_x, s_y, s_xx, s_xy, s_yy, d_red, d_green, d_blue, d_depth = (
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
    )
    for x in range(left, right + 1, WIDTH):
        top, bottom = _rows(splat, box, tile_x + x, tile_y)
        dx = ramp(f32(tile_x + x) + f32(0.5) - splat[0])
        across, mixed = dx * dx * xx, dx * xy
        v_0, v_y, v_yy = zero, zero, zero
        for y in range(top, bottom + 1, 2):
            dy = f32(tile_y + y) + f32(0.5) - splat[1]
            below = dy + f32(1)
            p = y * ROW + x
            raw = _falloff(across + (mixed * dy + yy * dy * dy)) * opacity
            v, by_red, by_green, by_blue, by_depth = _slopes(state, p, raw, red, green, blue, depth)
            raw = _falloff(across + (mixed * below + yy * below * below)) * opacity
            w, w_red, w_green, w_blue, w_depth = _slopes(
                state, p + ROW, raw, red, green, blue, depth
            )
            v_0 += v + w
            v_y += v * dy + w * below
            v_yy += v * (dy * dy) + w * (below * below)
            d_red += by_red + w_red
            d_green += by_green + w_green
            d_blue += by_blue + w_blue
            d_depth += by_depth + w_depth
        v_x = v_0 * dx
        s_0 += v_0
        s_x += v_x
        s_y += v_y
        s_xx += v_x * dx
        s_xy += v_y * dx
        s_yy += v_yy
    store(sums, 0, totals(s_0, s_x, s_y, s_xx, s_xy, s_yy, d_red, d_green))
    sums[8], sums[9] = total(d_blue), total(d_depth)


@compiled(parallel=PARALLEL)
def pair_sums(
    splats, boxes, slots, starts, entries, seen, rgb, alpha, depth, g_rgb, g_alpha, g_depth
):
    """The ten sums of every (tile, Gaussian) pair, [entry 10], each Gaussian's pairs side by side."""
    views, height, width = alpha.shape
    count = splats.shape[1]
    across = (width + TILE_WIDTH - 1) // TILE_WIDTH
    tiles = (len(starts) - 1) // max(views, 1)
    sums = np.empty((len(entries), SUMS), np.float32)
    for job in prange(views * tiles):
        tile = _spread(job, views * tiles)
        view, tile_y, tile_x = (
            tile // tiles,
            tile % tiles // across * TILE_HEIGHT,
            tile % tiles % across * TILE_WIDTH,
        )
        state = np.zeros((TILE_HEIGHT + 1) * ROW, np.float32)
        for p in range(0, len(state), ROW):
            state[p : p + LINE] = -1
        for row in range(min(TILE_HEIGHT, height - tile_y)):
            for column in range(min(TILE_WIDTH, width - tile_x)):
                p, y, x = row * ROW + column, tile_y + row, tile_x + column
                c, g = rgb[view, y, x], g_rgb[view, y, x]
                state[p] = 1
                state[p + LINE] = c[0] * g[0] + c[1] * g[1] + c[2] * g[2]
                state[p + LINE] += (
                    depth[view, y, x] * g_depth[view, y, x]
                    + alpha[view, y, x] * g_alpha[view, y, x]
                )
                state[p + 2 * LINE], state[p + 3 * LINE], state[p + 4 * LINE] = g[0], g[1], g[2]
                state[p + 5 * LINE], state[p + 6 * LINE] = g_depth[view, y, x], g_alpha[view, y, x]
        for k in range(starts[tile], starts[tile + 1]):
            i = entries[k]
            if k + AHEAD < starts[tile + 1]:
                ahead = view * count + entries[k + AHEAD]
                prefetch(splats, ahead * 12)
                prefetch(splats, ahead * 12 + 11)
                prefetch(boxes, ahead * 4)
                prefetch(slots, ahead)
            box = boxes[view, i]
            first_column, last_column = box[0] // TILE_WIDTH, box[2] // TILE_WIDTH
            row, column = (
                tile_y // TILE_HEIGHT - box[1] // TILE_HEIGHT,
                tile_x // TILE_WIDTH - first_column,
            )
            slot = sums[slots[view, i] + row * (last_column - first_column + 1) + column]
            if k - starts[tile] < seen[tile]:
                _tile_sums(state, splats[view, i], box, tile_x, tile_y, slot)
            else:
                slot[:] = 0
    return sums


@compiled()
def _quat_gradient(quat, d):
    """Gradient of a quaternion, which need not have unit length, from that of its rotation matrix."""
    w, x, y, z, inverse = _unit(quat)
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


@compiled()
def _axes_gradient(m, a, b, c, da, db, dc):
    """Gradient of a Gaussian's picture axes from that of its conic (a, b, c). Through the determinant as `project` makes it: -conic S conic
    would be shorter, and for a needle nothing but rounding errors.
    """
    k0, k1, k2 = m[1] * m[5] - m[2] * m[4], m[2] * m[3] - m[0] * m[5], m[0] * m[4] - m[1] * m[3]
    trace = m[0] * m[0] + m[1] * m[1] + m[2] * m[2] + m[3] * m[3] + m[4] * m[4] + m[5] * m[5]
    inverse = f32(1) / (k0 * k0 + k1 * k1 + k2 * k2 + f32(BLUR) * trace + f32(BLUR * BLUR))
    d_det = -(da * a + db * b + dc * c) * inverse
    d_xx, d_xy, d_yy = (
        f32(2) * (dc * inverse + f32(BLUR) * d_det),
        -db * inverse,
        f32(2) * (da * inverse + f32(BLUR) * d_det),
    )
    k0, k1, k2 = f32(2) * k0 * d_det, f32(2) * k1 * d_det, f32(2) * k2 * d_det
    return (
        d_xx * m[0] + d_xy * m[3] + m[4] * k2 - m[5] * k1,
        d_xx * m[1] + d_xy * m[4] + m[5] * k0 - m[3] * k2,
        d_xx * m[2] + d_xy * m[5] + m[3] * k1 - m[4] * k0,
        d_yy * m[3] + d_xy * m[0] + k1 * m[2] - k2 * m[1],
        d_yy * m[4] + d_xy * m[1] + k2 * m[0] - k0 * m[2],
        d_yy * m[5] + d_xy * m[2] + k0 * m[1] - k1 * m[0],
    )


@compiled()
def _unproject_chunk(
    chunk,
    means,
    quats,
    scales,
    radii,
    splats,
    slots,
    touched,
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
    fx, fy, cx, cy = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]
    s = np.empty(SUMS, np.float32)
    for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, len(radii))):
        if radii[i] == 0:
            continue
        s[:] = 0
        for k in range(slots[i], slots[i] + touched[i]):
            for j in range(SUMS):
                s[j] += sums[k, j]
        d_colors[i, 0], d_colors[i, 1], d_colors[i, 2] = s[6], s[7], s[8]
        splat = splats[i]
        a, b, c = splat[2], splat[3], splat[4]
        d_opacities[i] += s[0] / splat[5]

        x, y, z = _local(camera, means[i])
        u, v = _clamped(splat[0], w) - cx, _clamped(splat[1], h) - cy
        g = _picture_rows(camera, fx, fy, u, v, z)
        qw, qx, qy, qz, _ = _unit(quats[i])
        r = _rotation(qw, qx, qy, qz)
        m = _picture_axes(g, r, scales[i])
        dm = _axes_gradient(m, a, b, c, f32(-0.5) * s[3], -s[4], f32(-0.5) * s[5])

        # Of the axes (rotation times scale), l = g^T dm.
        s0, s1, s2 = scales[i, 0], scales[i, 1], scales[i, 2]
        l00, l01, l02 = (
            g[0] * dm[0] + g[3] * dm[3],
            g[0] * dm[1] + g[3] * dm[4],
            g[0] * dm[2] + g[3] * dm[5],
        )
        l10, l11, l12 = (
            g[1] * dm[0] + g[4] * dm[3],
            g[1] * dm[1] + g[4] * dm[4],
            g[1] * dm[2] + g[4] * dm[5],
        )
        l20, l21, l22 = (
            g[2] * dm[0] + g[5] * dm[3],
            g[2] * dm[1] + g[5] * dm[4],
            g[2] * dm[2] + g[5] * dm[5],
        )
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

        # Of the rows g = Jacobian times rotation, dm axes^T.
        e0, e1, e2 = dm[0] * s0, dm[1] * s1, dm[2] * s2
        f0, f1, f2 = dm[3] * s0, dm[4] * s1, dm[5] * s2
        dg0, dg1, dg2 = (
            e0 * r[0] + e1 * r[1] + e2 * r[2],
            e0 * r[3] + e1 * r[4] + e2 * r[5],
            e0 * r[6] + e1 * r[7] + e2 * r[8],
        )
        dg3, dg4, dg5 = (
            f0 * r[0] + f1 * r[1] + f2 * r[2],
            f0 * r[3] + f1 * r[4] + f2 * r[5],
            f0 * r[6] + f1 * r[7] + f2 * r[8],
        )
        j00 = dg0 * camera[0, 0] + dg1 * camera[0, 1] + dg2 * camera[0, 2]
        j02 = dg0 * camera[2, 0] + dg1 * camera[2, 1] + dg2 * camera[2, 2]
        j11 = dg3 * camera[1, 0] + dg4 * camera[1, 1] + dg5 * camera[1, 2]
        j12 = dg3 * camera[2, 0] + dg4 * camera[2, 1] + dg5 * camera[2, 2]

        # Of the mean: through its place in the picture, the Jacobian and its depth.
        rz = f32(1) / z
        du, dv = -j02 * rz, -j12 * rz
        px, py = a * s[1] + b * s[2], b * s[1] + c * s[2]
        inside_x, inside_y = _clamped(splat[0], w) == splat[0], _clamped(splat[1], h) == splat[1]
        px, py = px + (du if inside_x else f32(0)), py + (dv if inside_y else f32(0))
        dx, dy = px * fx * rz, py * fy * rz
        dz = s[9] - (dx * x + dy * y) * rz + (j02 * u + j12 * v - j00 * fx - j11 * fy) * rz * rz
        d_means[i, 0] += camera[0, 0] * dx + camera[1, 0] * dy + camera[2, 0] * dz
        d_means[i, 1] += camera[0, 1] * dx + camera[1, 1] * dy + camera[2, 1] * dz
        d_means[i, 2] += camera[0, 2] * dx + camera[1, 2] * dy + camera[2, 2] * dz

        if with_cameras:
            jx, jy, jz, jw = fx * rz, fy * rz, -u * rz, -v * rz
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


@compiled(parallel=PARALLEL)
def unproject(
    means,
    quats,
    scales,
    radii,
    splats,
    slots,
    touched,
    sums,
    cameras,
    intrinsics,
    width,
    height,
    with_cameras,
):
    """Gradients of means, quats, scales, opacities, colors, and of cameras as partial sums [chunk view 16]: the rotation's nine entries,
    the translation's three, fx, fy, cx, cy.
    """
    views, count = radii.shape
    d_means, d_quats, d_scales = (
        np.zeros(means.shape, np.float32),
        np.zeros(quats.shape, np.float32),
        np.zeros(scales.shape, np.float32),
    )
    d_opacities = np.zeros(means.shape[:2], np.float32)
    d_colors = np.zeros((views, count, 3), np.float32)
    chunks = (count + CHUNK - 1) // CHUNK
    d_cameras = np.zeros((chunks, views, 16), np.float64)
    for chunk in prange(chunks):
        for view in range(views):  # in turn: Gaussians that views share add up here
            own = min(view, means.shape[0] - 1)
            _unproject_chunk(
                chunk,
                means[own],
                quats[own],
                scales[own],
                radii[view],
                splats[view],
                slots[view],
                touched[view],
                sums,
                cameras[view],
                intrinsics[view],
                f32(width),
                f32(height),
                with_cameras,
                d_means[own],
                d_quats[own],
                d_scales[own],
                d_opacities[own],
                d_colors[view],
                d_cameras[chunk, view],
            )
    return d_means, d_quats, d_scales, d_opacities, d_colors, d_cameras


@compiled(parallel=PARALLEL)
def unfinish(alpha, depth, background, g_rgb, g_depth):
    """Gradients of alpha and of depth sums from those of `finish`; that of rgb passes as it is."""
    views, height, width = alpha.shape
    d_alpha, d_depth = np.empty(alpha.shape, np.float32), np.empty(alpha.shape, np.float32)
    for job in prange(views * height):
        view, y = job // height, job % height
        red, green, blue = background[view, 0], background[view, 1], background[view, 2]
        for x in range(width):
            g = g_rgb[view, y, x]
            inverse = f32(1) / max(alpha[view, y, x], f32(MIN_COVERAGE))
            slope = g_depth[view, y, x] * inverse
            d_depth[view, y, x] = slope
            along = slope * depth[view, y, x] if alpha[view, y, x] >= f32(MIN_COVERAGE) else f32(0)
            d_alpha[view, y, x] = -(g[0] * red + g[1] * green + g[2] * blue) - along
    return d_alpha, d_depth
