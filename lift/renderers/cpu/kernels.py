"""Compiled loops of the numba renderer: project, sort into tiles, composite, and the way back.

Every loop that runs in parallel writes to places of its own and every sum has a fixed order, so results do not depend on the number
of threads. Arrays: `splats` holds what a tile needs of a Gaussian in a view (x, y, conic xx, xy, yy, opacity, r, g, b, depth, and
the squared distance, in standard deviations, at which its alpha is MIN_ALPHA), `boxes` its pixels left, top, right, bottom,
inclusive, `slots` where its (tile, Gaussian) pairs begin, `entries` each tile's Gaussians by depth, `starts` where a tile's begin.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numba import prange
from numpy.polynomial import Chebyshev, Polynomial

from lift.renderers import BLUR, MAX_ALPHA, MIN_ALPHA, MIN_COVERAGE, MIN_TRANSMITTANCE, NEAR
from lift.renderers.cpu.lanes import (
    WIDTH,
    load,
    prefetch,
    ramp,
    store,
    total,
    where_above,
    where_below,
)
from lift.runtime import jit
from lift.runtime.jit import PARALLEL

TILE_WIDTH, TILE_HEIGHT = 64, 16
LINE = TILE_WIDTH + WIDTH
"""What a tile keeps of a row's pixels, one quantity: lanes may start at any pixel and run over the tile's right edge."""
ROW = 5 * LINE
"""A row's lines lie side by side. There is a spare row below, since rows are taken in pairs."""
CHUNK = 512
"""Gaussians that one thread takes at a time; part of the order of summation, so not a matter of the machine."""

AHEAD = 6
"""How many entries before its turn a Gaussian is fetched into the cache: by depth, neighbours lie anywhere in memory."""

PARTS = 8
"""In how many parts the Gaussians of a view are put into tiles."""

FASTMATH = {"nsz", "arcp", "contract", "reassoc", "afn"}
"""Without `nnan` and `ninf`: comparisons with NaN stay false, which is how a degenerate Gaussian gets culled."""


@cache
def fingerprint() -> str:
    """Hash of all source that goes into kernels."""
    folder = Path(__file__).parent
    return jit.stamp(*sorted(folder.glob("*.py")), folder.parent / "__init__.py")


def compiled(**options: Any) -> Callable[[Callable], Callable]:
    """Loops with the options that all kernels share."""
    return jit.compiled(fingerprint(), error_model="numpy", fastmath=FASTMATH, **options)


f32 = np.float32

# exp(-d / 2) = exp(-d / 32)^16: for d / 32 up to _FAR a polynomial does, and beyond it every alpha is below MIN_ALPHA.
_FAR = 0.35
_E0, _E1, _E2, _E3, _E4 = (
    f32(c)
    for c in Chebyshev.interpolate(lambda t: np.exp(-t), 4, [0, _FAR]).convert(kind=Polynomial).coef
)


@compiled()
def _falloff(t):
    """exp(-16 t)"""
    t = where_above(t, f32(_FAR), f32(_FAR), t)
    p = (((t * _E4 + _E3) * t + _E2) * t + _E1) * t + _E0
    p = p * p
    p = p * p
    p = p * p
    return p * p


@compiled(forceinline=True)
def _rows(splat, box, left, tile_y):
    """First and last row, counted in the tile, of the pixels in the columns from `left` on whose alpha can reach MIN_ALPHA.

    The ellipse's upper and lower ends within a strip of columns: at its top or bottom, or at the strip's edge next to that.
    """
    top, bottom = max(box[1] - tile_y, 0), min(box[3] - tile_y, TILE_HEIGHT - 1)
    if box[2] - box[0] < 2 * WIDTH:  # too small for the corners of its box to matter
        return top, bottom
    xx, xy, yy, square = splat[2], splat[3], splat[4], splat[10] * f32(1.001) + f32(0.01)
    det = xx * yy - xy * xy
    if not det > f32(1e-3) * xx * yy:  # a needle: its corners are not worth the loss of precision
        return top, bottom
    first = f32(left) + f32(0.5) - splat[0]
    last = first + f32(WIDTH - 1)
    crest = -xy * np.sqrt(square / (det * xx))  # x of the point with the largest y
    below, above = min(max(crest, first), last), min(max(-crest, first), last)
    down = -xy * below + np.sqrt(max(square * yy - det * below * below, f32(0)))
    up = -xy * above - np.sqrt(max(square * yy - det * above * above, f32(0)))
    middle = splat[1] - f32(tile_y) - f32(0.5)
    return max(top, int(np.ceil(middle + up / yy - f32(0.01)))), min(
        bottom, int(np.floor(middle + down / yy + f32(0.01)))
    )


@compiled()
def _rotation(w, x, y, z):
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


@compiled()
def _unit(quat):
    w, x, y, z = quat[0], quat[1], quat[2], quat[3]
    inverse = f32(1) / max(np.sqrt(w * w + x * x + y * y + z * z), f32(1e-12))
    return w * inverse, x * inverse, y * inverse, z * inverse, inverse


@compiled()
def _local(camera, mean):
    x, y, z = mean[0], mean[1], mean[2]
    return (
        camera[0, 0] * x + camera[0, 1] * y + camera[0, 2] * z + camera[0, 3],
        camera[1, 0] * x + camera[1, 1] * y + camera[1, 2] * z + camera[1, 3],
        camera[2, 0] * x + camera[2, 1] * y + camera[2, 2] * z + camera[2, 3],
    )


@compiled()
def _clamped(value, size):
    """Pixel coordinate, at most 0.15 of the picture's size outside of it."""
    return min(max(value, f32(-0.15) * size), f32(1.15) * size)


@compiled()
def _picture_rows(camera, fx, fy, u, v, z):
    """The two rows of Jacobian times camera rotation; u, v: clamped offset from the principal point in pixels."""
    a, b, c, d = fx / z, -u / z, fy / z, -v / z
    return (
        a * camera[0, 0] + b * camera[2, 0],
        a * camera[0, 1] + b * camera[2, 1],
        a * camera[0, 2] + b * camera[2, 2],
        c * camera[1, 0] + d * camera[2, 0],
        c * camera[1, 1] + d * camera[2, 1],
        c * camera[1, 2] + d * camera[2, 2],
    )


@compiled()
def _picture_axes(g, r, scale):
    """A Gaussian's three axes as seen in the picture (x of each, y of each): its 2D covariance is their square, plus blur."""
    s0, s1, s2 = scale[0], scale[1], scale[2]
    return (
        (g[0] * r[0] + g[1] * r[3] + g[2] * r[6]) * s0,
        (g[0] * r[1] + g[1] * r[4] + g[2] * r[7]) * s1,
        (g[0] * r[2] + g[1] * r[5] + g[2] * r[8]) * s2,
        (g[3] * r[0] + g[4] * r[3] + g[5] * r[6]) * s0,
        (g[3] * r[1] + g[4] * r[4] + g[5] * r[7]) * s1,
        (g[3] * r[2] + g[4] * r[5] + g[5] * r[8]) * s2,
    )


@compiled()
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
    touched,
):
    fx, fy, cx, cy = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]
    for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, len(colors))):
        x, y, z = _local(camera, means[i])
        opacity = opacities[i]
        if not (z >= f32(NEAR) and opacity >= f32(MIN_ALPHA)):
            continue
        px, py = fx * x / z + cx, fy * y / z + cy
        qw, qx, qy, qz, _ = _unit(quats[i])
        g = _picture_rows(camera, fx, fy, _clamped(px, w) - cx, _clamped(py, h) - cy, z)
        m = _picture_axes(g, _rotation(qw, qx, qy, qz), scales[i])
        xx, yy = m[0] * m[0] + m[1] * m[1] + m[2] * m[2], m[3] * m[3] + m[4] * m[4] + m[5] * m[5]
        xy = m[0] * m[3] + m[1] * m[4] + m[2] * m[5]
        # The determinant by Cauchy-Binet, see `reference`.
        k0, k1, k2 = m[1] * m[5] - m[2] * m[4], m[2] * m[3] - m[0] * m[5], m[0] * m[4] - m[1] * m[3]
        det = k0 * k0 + k1 * k1 + k2 * k2 + f32(BLUR) * (xx + yy) + f32(BLUR * BLUR)
        xx, yy = xx + f32(BLUR), yy + f32(BLUR)
        square = f32(2) * np.log(opacity / f32(MIN_ALPHA))
        reach = np.sqrt(square)
        rx = reach * np.sqrt(xx) * f32(1 + 1e-5) + f32(1e-3)
        ry = reach * np.sqrt(yy) * f32(1 + 1e-5) + f32(1e-3)
        left, right = (
            max(np.ceil(px - rx - f32(0.5)), f32(0)),
            min(np.floor(px + rx - f32(0.5)), w - f32(1)),
        )
        top, bottom = (
            max(np.ceil(py - ry - f32(0.5)), f32(0)),
            min(np.floor(py + ry - f32(0.5)), h - f32(1)),
        )
        if not (left <= right and top <= bottom and det < f32(np.inf)):
            continue
        splat, box = splats[i], boxes[i]
        splat[0], splat[1], splat[2], splat[3], splat[4], splat[5] = (
            px,
            py,
            yy / det,
            -xy / det,
            xx / det,
            opacity,
        )
        splat[6], splat[7], splat[8], splat[9] = colors[i, 0], colors[i, 1], colors[i, 2], z
        splat[10] = square
        box[0], box[1], box[2], box[3] = int(left), int(top), int(right), int(bottom)
        radii[i] = np.ceil(max(rx, ry))
        touched[i] = (box[2] // TILE_WIDTH - box[0] // TILE_WIDTH + 1) * (
            box[3] // TILE_HEIGHT - box[1] // TILE_HEIGHT + 1
        )


@compiled(parallel=PARALLEL)
def project(means, quats, scales, opacities, colors, cameras, intrinsics, width, height):
    """splats, boxes, radii, and for every (view, Gaussian) the number of tiles it touches."""
    views, count = colors.shape[0], colors.shape[1]
    splats = np.empty((views, count, 12), np.float32)
    boxes = np.zeros((views, count, 4), np.int32)
    radii = np.zeros((views, count), np.float32)
    touched = np.zeros((views, count), np.int64)
    chunks = (count + CHUNK - 1) // CHUNK
    for job in prange(views * chunks):
        view = job // chunks
        own = min(view, means.shape[0] - 1)
        _project_chunk(
            job % chunks,
            means[own],
            quats[own],
            scales[own],
            opacities[own],
            colors[view],
            cameras[view],
            intrinsics[view],
            f32(width),
            f32(height),
            splats[view],
            boxes[view],
            radii[view],
            touched[view],
        )
    return splats, boxes, radii, touched


@compiled()
def _tiles_of(box):
    """First and last row and column of the tiles that a box touches."""
    return box[1] // TILE_HEIGHT, box[3] // TILE_HEIGHT, box[0] // TILE_WIDTH, box[2] // TILE_WIDTH


@compiled()
def _count(boxes, radii, across, counts):
    """Adds up how many Gaussians touch each tile."""
    for i in range(len(radii)):
        if radii[i] > 0:
            top, bottom, left, right = _tiles_of(boxes[i])
            for row in range(top, bottom + 1):
                for column in range(left, right + 1):
                    counts[row * across + column] += 1


@compiled()
def _fill(boxes, radii, splats, first, across, cursor, entries, depths):
    """Puts each Gaussian, `first` on, and its depth where the cursors of its tiles stand."""
    for i in range(len(radii)):
        if radii[i] > 0:
            top, bottom, left, right = _tiles_of(boxes[i])
            depth = splats[i, 9]
            for row in range(top, bottom + 1):
                for column in range(left, right + 1):
                    k = cursor[row * across + column]
                    entries[k], depths[k] = first + i, depth
                    cursor[row * across + column] = k + 1


@compiled()
def _sort(entries, keys, other_entries, other_keys):
    """Stable radix sort by the bits of the keys, which rise with positive floats; four passes leave the result where it was."""
    places = np.empty(257, np.int64)
    for shift in (0, 8, 16, 24):
        places[:] = 0
        for k in range(len(keys)):
            places[((keys[k] >> np.uint32(shift)) & np.uint32(255)) + np.uint32(1)] += 1
        for digit in range(256):
            places[digit + 1] += places[digit]
        for k in range(len(keys)):
            digit = (keys[k] >> np.uint32(shift)) & np.uint32(255)
            other_entries[places[digit]], other_keys[places[digit]] = entries[k], keys[k]
            places[digit] += 1
        entries, other_entries, keys, other_keys = other_entries, entries, other_keys, keys


@compiled(parallel=PARALLEL)
def bin_by_tile(splats, boxes, radii, num_entries, width, height):
    """Starts [view * tile + 1] and entries [num_entries]. Parts of the Gaussians are counted and placed side by side, in their order;
    each tile then sorts its own.
    """
    views, count = radii.shape
    across, down = (width + TILE_WIDTH - 1) // TILE_WIDTH, (height + TILE_HEIGHT - 1) // TILE_HEIGHT
    tiles = across * down
    size = (count + PARTS - 1) // PARTS
    cursors = np.zeros((views, PARTS, tiles), np.int64)
    for job in prange(views * PARTS):
        view, part = job // PARTS, job % PARTS
        own = slice(part * size, min((part + 1) * size, count))
        _count(boxes[view, own], radii[view, own], across, cursors[view, part])
    starts = np.zeros(views * tiles + 1, np.int64)
    k = 0
    for view in range(views):
        for tile in range(tiles):
            for part in range(PARTS):
                cursors[view, part, tile], k = k, k + cursors[view, part, tile]
            starts[view * tiles + tile + 1] = k
    entries, depths = np.empty(num_entries, np.int32), np.empty(num_entries, np.float32)
    for job in prange(views * PARTS):
        view, part = job // PARTS, job % PARTS
        first, last = part * size, min((part + 1) * size, count)
        own = slice(first, last)
        _fill(
            boxes[view, own],
            radii[view, own],
            splats[view, own],
            first,
            across,
            cursors[view, part],
            entries,
            depths,
        )
    keys = depths.view(np.uint32)
    for tile in prange(views * tiles):
        own = slice(starts[tile], starts[tile + 1])
        length = starts[tile + 1] - starts[tile]
        _sort(entries[own], keys[own], np.empty(length, np.int32), np.empty(length, np.uint32))
    return starts, entries


@compiled()
def _spread(job, jobs):
    """A permutation that scatters neighbours: threads take runs of jobs, and the busy tiles lie side by side."""
    step = max(int(jobs * 0.618), 1)
    while np.gcd(step, jobs) != 1:
        step += 1
    return job * step % jobs


@compiled()
def _alive(state):
    """Whether light still passes through any of the tile's pixels."""
    most = load(state, 0)
    for row in range(0, TILE_HEIGHT * ROW, ROW):
        for p in range(row, row + TILE_WIDTH, WIDTH):
            most = where_above(load(state, p), most, load(state, p), most)
    return total(where_above(most, f32(0), f32(1), f32(0))) > 0


@compiled()
def _pass(state, p, raw):
    """Lets the light of eight pixels through something of an alpha; returns what it takes of the light, and what is left."""
    alpha = where_below(
        raw, f32(MIN_ALPHA), f32(0), where_above(raw, f32(MAX_ALPHA), f32(MAX_ALPHA), raw)
    )
    light = load(state, p)
    weight = alpha * light
    after = light - weight
    done = where_above(light, f32(0), f32(0) - light, light)
    store(state, p, where_above(after, f32(MIN_TRANSMITTANCE), after, done))
    return where_above(after, f32(MIN_TRANSMITTANCE), weight, f32(0)), after


@compiled()
def _add(state, p, raw, red, green, blue, depth):
    weight, _ = _pass(state, p, raw)
    store(state, p + LINE, load(state, p + LINE) + weight * red)
    store(state, p + 2 * LINE, load(state, p + 2 * LINE) + weight * green)
    store(state, p + 3 * LINE, load(state, p + 3 * LINE) + weight * blue)
    store(state, p + 4 * LINE, load(state, p + 4 * LINE) + weight * depth)


@compiled()
def _composite_tile(state, splats, boxes, entries, tile_x, tile_y):
    """Composites onto the lines of a row of `state`: transmittance, r, g, b, depth. A pixel that is done has its transmittance negated.
    Returns how many entries were looked at before all pixels were done.
    """
    for k in range(len(entries)):
        if k % 64 == 63 and not _alive(state):
            return k
        if k + AHEAD < len(entries):
            prefetch(splats, entries[k + AHEAD] * 12)
            prefetch(splats, entries[k + AHEAD] * 12 + 11)
            prefetch(boxes, entries[k + AHEAD] * 4)
        splat, box = splats[entries[k]], boxes[entries[k]]
        xx, xy, yy = splat[2] * f32(1 / 32), splat[3] * f32(1 / 16), splat[4] * f32(1 / 32)
        opacity, red, green, blue, depth = splat[5], splat[6], splat[7], splat[8], splat[9]
        left, right = max(box[0] - tile_x, 0), min(box[2] - tile_x, TILE_WIDTH - 1)
        for x in range(left, right + 1, WIDTH):
            top, bottom = _rows(splat, box, tile_x + x, tile_y)
            dx = ramp(f32(tile_x + x) + f32(0.5) - splat[0])
            across, mixed = dx * dx * xx, dx * xy
            for y in range(top, bottom + 1, 2):
                dy = f32(tile_y + y) + f32(0.5) - splat[1]
                below = dy + f32(1)
                p = y * ROW + x
                _add(
                    state,
                    p,
                    _falloff(across + (mixed * dy + yy * dy * dy)) * opacity,
                    red,
                    green,
                    blue,
                    depth,
                )
                _add(
                    state,
                    p + ROW,
                    _falloff(across + (mixed * below + yy * below * below)) * opacity,
                    red,
                    green,
                    blue,
                    depth,
                )
    return len(entries)


@compiled(parallel=PARALLEL)
def composite(splats, boxes, starts, entries, width, height):
    """rgb, alpha, depth sums, and how many entries each tile looked at."""
    views = len(splats)
    across = (width + TILE_WIDTH - 1) // TILE_WIDTH
    tiles = (len(starts) - 1) // max(views, 1)
    rgb = np.empty((views, height, width, 3), np.float32)
    alpha = np.empty((views, height, width), np.float32)
    depth = np.empty((views, height, width), np.float32)
    seen = np.zeros(views * tiles, np.int64)
    for job in prange(views * tiles):
        tile = _spread(job, views * tiles)
        view, tile_y, tile_x = (
            tile // tiles,
            tile % tiles // across * TILE_HEIGHT,
            tile % tiles % across * TILE_WIDTH,
        )
        rows, columns = min(TILE_HEIGHT, height - tile_y), min(TILE_WIDTH, width - tile_x)
        state = np.zeros((TILE_HEIGHT + 1) * ROW, np.float32)
        for p in range(0, len(state), ROW):
            state[p : p + LINE] = -1
        for y in range(rows):
            state[y * ROW : y * ROW + columns] = 1
        own = entries[starts[tile] : starts[tile + 1]]
        seen[tile] = _composite_tile(state, splats[view], boxes[view], own, tile_x, tile_y)
        for y in range(rows):
            for x in range(columns):
                p = y * ROW + x
                alpha[view, tile_y + y, tile_x + x] = f32(1) - abs(state[p])
                rgb[view, tile_y + y, tile_x + x, 0] = state[p + LINE]
                rgb[view, tile_y + y, tile_x + x, 1] = state[p + 2 * LINE]
                rgb[view, tile_y + y, tile_x + x, 2] = state[p + 3 * LINE]
                depth[view, tile_y + y, tile_x + x] = state[p + 4 * LINE]
    return rgb, alpha, depth, seen


@compiled(parallel=PARALLEL)
def finish(rgb, alpha, depth_sum, background):
    """Rgb over one background a view, depth_sum over alpha."""
    views, height, width = alpha.shape
    over, depth = np.empty(rgb.shape, np.float32), np.empty(alpha.shape, np.float32)
    for job in prange(views * height):
        view, y = job // height, job % height
        red, green, blue = background[view, 0], background[view, 1], background[view, 2]
        for x in range(width):
            left = f32(1) - alpha[view, y, x]
            over[view, y, x, 0] = rgb[view, y, x, 0] + left * red
            over[view, y, x, 1] = rgb[view, y, x, 1] + left * green
            over[view, y, x, 2] = rgb[view, y, x, 2] + left * blue
            depth[view, y, x] = depth_sum[view, y, x] / max(alpha[view, y, x], f32(MIN_COVERAGE))
    return over, depth
