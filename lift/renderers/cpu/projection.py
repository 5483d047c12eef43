"""Project Gaussians to splats of every view."""

import numpy as np
from numba import prange

from lift.renderers import EPS2D, MIN_ALPHA, NEAR_PLANE
from lift.renderers.cpu.compile import compile_kernel, f32
from lift.renderers.cpu.tiling import TILE_HEIGHT, TILE_WIDTH
from lift.runtime.jit import PARALLEL

CHUNK = 512
"""Number of Gaussians that one thread takes at a time.

It is part of the order of summation, so it does not depend on the machine.
"""


@compile_kernel()
def rotation_matrix(w, x, y, z):
    """Return the nine entries of the rotation matrix of a unit quaternion, row by row.

    Args:
        w: Real part of the quaternion, in [-1, 1].
        x: First imaginary part, in [-1, 1].
        y: Second imaginary part, in [-1, 1].
        z: Third imaginary part, in [-1, 1].
    """
    return (
        f32(1) - f32(2) * (y * y + z * z),
        f32(2) * (x * y - w * z),
        f32(2) * (x * z + w * y),
        f32(2) * (x * y + w * z),
        f32(1) - f32(2) * (x * x + z * z),
        f32(2) * (y * z - w * x),
        f32(2) * (x * z - w * y),
        f32(2) * (y * z + w * x),
        f32(1) - f32(2) * (x * x + y * y),
    )


@compile_kernel()
def normalize_quat(quat):
    """Return the unit quaternion w, x, y, z, and one over the length that it had.

    Args:
        quat: Quaternion w x y z of any length, [4].
    """
    w = quat[0]
    x = quat[1]
    y = quat[2]
    z = quat[3]
    inverse = f32(1) / max(np.sqrt(w * w + x * x + y * y + z * z), f32(1e-12))
    return w * inverse, x * inverse, y * inverse, z * inverse, inverse


@compile_kernel()
def to_camera(camera, mean):
    """Return a position in the axes of a camera.

    Args:
        camera: World-to-camera matrix, [4 4].
        mean: Position in the world, in scene units, [3].
    """
    x = mean[0]
    y = mean[1]
    z = mean[2]
    return (
        camera[0, 0] * x + camera[0, 1] * y + camera[0, 2] * z + camera[0, 3],
        camera[1, 0] * x + camera[1, 1] * y + camera[1, 2] * z + camera[1, 3],
        camera[2, 0] * x + camera[2, 1] * y + camera[2, 2] * z + camera[2, 3],
    )


@compile_kernel()
def clamp_to_view(value, size):
    """Clamp a pixel coordinate to at most 0.15 of the picture's size beyond its border.

    Args:
        value: Coordinate across or down, in pixels.
        size: Width or height of the picture in pixels, as float32.
    """
    return min(max(value, f32(-0.15) * size), f32(1.15) * size)


@compile_kernel()
def projection_rows(camera, fx, fy, u, v, z):
    """Return the two rows of the projection's Jacobian times the camera's rotation.

    Args:
        camera: World-to-camera matrix, [4 4].
        fx: Focal length across, in pixels.
        fy: Focal length down, in pixels.
        u: Clamped offset across from the principal point, in pixels.
        v: Clamped offset down from the principal point, in pixels.
        z: z-depth in scene units, above 0.
    """
    a = fx / z
    b = -u / z
    c = fy / z
    d = -v / z
    return (
        a * camera[0, 0] + b * camera[2, 0],
        a * camera[0, 1] + b * camera[2, 1],
        a * camera[0, 2] + b * camera[2, 2],
        c * camera[1, 0] + d * camera[2, 0],
        c * camera[1, 1] + d * camera[2, 1],
        c * camera[1, 2] + d * camera[2, 2],
    )


@compile_kernel()
def projected_axes(g, r, scale):
    """Return a Gaussian's three axes in the picture: x of each, then y of each.

    The 2D covariance is their square plus EPS2D on its diagonal.

    Args:
        g: The six numbers of `projection_rows`.
        r: The nine numbers of the Gaussian's `rotation_matrix`.
        scale: Standard deviations along the Gaussian's axes, in scene units, [3].
    """
    s0 = scale[0]
    s1 = scale[1]
    s2 = scale[2]
    return (
        (g[0] * r[0] + g[1] * r[3] + g[2] * r[6]) * s0,
        (g[0] * r[1] + g[1] * r[4] + g[2] * r[7]) * s1,
        (g[0] * r[2] + g[1] * r[5] + g[2] * r[8]) * s2,
        (g[3] * r[0] + g[4] * r[3] + g[5] * r[6]) * s0,
        (g[3] * r[1] + g[4] * r[4] + g[5] * r[7]) * s1,
        (g[3] * r[2] + g[4] * r[5] + g[5] * r[8]) * s2,
    )


@compile_kernel()
def _project_chunk(
    chunk,
    means,
    quats,
    scales,
    opacities,
    colors,
    camera,
    intrinsics,
    w,
    h,
    splats,
    boxes,
    radii,
    num_tiles,
):
    fx = intrinsics[0, 0]
    fy = intrinsics[1, 1]
    cx = intrinsics[0, 2]
    cy = intrinsics[1, 2]
    for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, len(colors))):
        x, y, z = to_camera(camera, means[i])
        opacity = opacities[i]
        if not (z >= f32(NEAR_PLANE) and opacity >= f32(MIN_ALPHA)):
            continue
        px = fx * x / z + cx
        py = fy * y / z + cy
        qw, qx, qy, qz, _ = normalize_quat(quats[i])
        g = projection_rows(camera, fx, fy, clamp_to_view(px, w) - cx, clamp_to_view(py, h) - cy, z)
        m = projected_axes(g, rotation_matrix(qw, qx, qy, qz), scales[i])
        xx = m[0] * m[0] + m[1] * m[1] + m[2] * m[2]
        yy = m[3] * m[3] + m[4] * m[4] + m[5] * m[5]
        xy = m[0] * m[3] + m[1] * m[4] + m[2] * m[5]
        # The determinant by Cauchy-Binet, as in the renderer `reference`.
        k0 = m[1] * m[5] - m[2] * m[4]
        k1 = m[2] * m[3] - m[0] * m[5]
        k2 = m[0] * m[4] - m[1] * m[3]
        det = k0 * k0 + k1 * k1 + k2 * k2 + f32(EPS2D) * (xx + yy) + f32(EPS2D * EPS2D)
        xx = xx + f32(EPS2D)
        yy = yy + f32(EPS2D)
        square = f32(2) * np.log(opacity / f32(MIN_ALPHA))
        cutoff = np.sqrt(square)
        rx = cutoff * np.sqrt(xx) * f32(1 + 1e-5) + f32(1e-3)
        ry = cutoff * np.sqrt(yy) * f32(1 + 1e-5) + f32(1e-3)
        left = max(np.ceil(px - rx - f32(0.5)), f32(0))
        right = min(np.floor(px + rx - f32(0.5)), w - f32(1))
        top = max(np.ceil(py - ry - f32(0.5)), f32(0))
        bottom = min(np.floor(py + ry - f32(0.5)), h - f32(1))
        if not (left <= right and top <= bottom and det < f32(np.inf)):
            continue
        splat = splats[i]
        box = boxes[i]
        splat[0] = px
        splat[1] = py
        splat[2] = yy / det
        splat[3] = -xy / det
        splat[4] = xx / det
        splat[5] = opacity
        splat[6] = colors[i, 0]
        splat[7] = colors[i, 1]
        splat[8] = colors[i, 2]
        splat[9] = z
        splat[10] = square
        box[0] = int(left)
        box[1] = int(top)
        box[2] = int(right)
        box[3] = int(bottom)
        radii[i] = np.ceil(max(rx, ry))
        num_tiles[i] = (box[2] // TILE_WIDTH - box[0] // TILE_WIDTH + 1) * (
            box[3] // TILE_HEIGHT - box[1] // TILE_HEIGHT + 1
        )


@compile_kernel(parallel=PARALLEL)
def project(means, quats, scales, opacities, colors, cameras, intrinsics, width, height):
    """Return splats, boxes, radii in pixels (0 where culled) and num_tiles of every Gaussian.

    The Gaussians are one set that all views share, or one set a view.

    Args:
        means: Centres in scene units, float32 [set gaussian 3].
        quats: Quaternions w x y z of any length, float32 [set gaussian 4].
        scales: Standard deviations along the axes, in scene units, float32 [set gaussian 3].
        opacities: Opacities in [0, 1], float32 [set gaussian].
        colors: Colours in every view, float32 [view gaussian 3].
        cameras: World-to-camera matrices, float32 [view 4 4].
        intrinsics: Intrinsic matrices in pixels, float32 [view 3 3].
        width: Width of the pictures in pixels.
        height: Height of the pictures in pixels.
    """
    views = colors.shape[0]
    count = colors.shape[1]
    splats = np.empty((views, count, 12), np.float32)
    boxes = np.zeros((views, count, 4), np.int32)
    radii = np.zeros((views, count), np.float32)
    num_tiles = np.zeros((views, count), np.int64)
    chunks = (count + CHUNK - 1) // CHUNK
    for job in prange(views * chunks):
        view = job // chunks
        scene = min(view, means.shape[0] - 1)
        _project_chunk(
            job % chunks,
            means[scene],
            quats[scene],
            scales[scene],
            opacities[scene],
            colors[view],
            cameras[view],
            intrinsics[view],
            f32(width),
            f32(height),
            splats[view],
            boxes[view],
            radii[view],
            num_tiles[view],
        )
    return splats, boxes, radii, num_tiles
