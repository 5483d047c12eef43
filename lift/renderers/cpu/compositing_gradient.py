"""Gradients of compositing and of composing with a background.

With v = dL/dalpha * alpha of a pixel and (dx, dy) its offset from a Gaussian's mean, the gradient
of the Gaussian's shape needs only six moments over its pixels: the sums of v (1, dx, dy, dx^2,
dx dy, dy^2). Together with the gradients of its colour and depth they are a pair's ten sums.
"""

import numpy as np
from numba import prange

from lift.renderers import MAX_ALPHA, MIN_COVERAGE
from lift.renderers.cpu.compile import compile_kernel, f32
from lift.renderers.cpu.compositing import PREFETCH_DISTANCE, attenuate, falloff, visible_rows
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
from lift.renderers.cpu.tiling import LINE, TILE_HEIGHT, TILE_WIDTH, scatter_job
from lift.runtime.jit import PARALLEL

NUM_SUMS = 10
"""Number of sums of a (tile, Gaussian) pair."""

ROW = 7 * LINE
"""Length of what a tile stores for a row of pixels, see `_tile_sums`."""


@compile_kernel()
def _pixel_gradients(state, p, raw, red, green, blue, depth):
    """Return v of eight pixels, and the gradients by the Gaussian's colour and depth.

    Updates the first two lines of `state` to what is behind the Gaussian.
    """
    weight, after = attenuate(state, p, raw)
    by_red = load(state, p + 2 * LINE)
    by_green = load(state, p + 3 * LINE)
    by_blue = load(state, p + 4 * LINE)
    by_depth = load(state, p + 5 * LINE)
    contribution = (
        by_red * red
        + by_green * green
        + by_blue * blue
        + by_depth * depth
        + load(state, p + 6 * LINE)
    ) * weight
    behind = load(state, p + LINE) - contribution
    store(state, p + LINE, behind)
    v = where_above(raw, f32(MAX_ALPHA), f32(0), contribution - weight / after * behind)
    return v, weight * by_red, weight * by_green, weight * by_blue, weight * by_depth


@compile_kernel(forceinline=True)
def _tile_sums(state, splat, box, tile_x, tile_y, sums):
    """Compute one Gaussian's ten sums over a tile.

    The lines of a row of `state` hold the transmittance in front of the Gaussian; R, the loss's
    gradient times all that is composited from it on; and the gradients of r, g, b, depth, alpha.
    Gaussians are processed front to back, as in the forward pass, so that transmittance is
    exactly the same. For each pixel, dL/dalpha = transmittance * (gradient times the Gaussian's
    colour, depth and coverage) - (R behind it) / (1 - alpha).
    """
    xx = splat[2] * f32(1 / 32)
    xy = splat[3] * f32(1 / 16)
    yy = splat[4] * f32(1 / 32)
    opacity = splat[5]
    red = splat[6]
    green = splat[7]
    blue = splat[8]
    depth = splat[9]
    left = max(box[0] - tile_x, 0)
    right = min(box[2] - tile_x, TILE_WIDTH - 1)
    zero = broadcast(f32(0))
    s_0 = zero
    s_x = zero
    s_y = zero
    s_xx = zero
    s_xy = zero
    s_yy = zero
    d_red = zero
    d_green = zero
    d_blue = zero
    d_depth = zero
    for x in range(left, right + 1, WIDTH):
        top, bottom = visible_rows(splat, box, tile_x + x, tile_y)
        dx = ramp(f32(tile_x + x) + f32(0.5) - splat[0])
        across = dx * dx * xx
        cross = dx * xy
        v_0 = zero
        v_y = zero
        v_yy = zero
        for y in range(top, bottom + 1, 2):
            dy = f32(tile_y + y) + f32(0.5) - splat[1]
            below = dy + f32(1)
            p = y * ROW + x
            raw = falloff(across + (cross * dy + yy * dy * dy)) * opacity
            v, by_red, by_green, by_blue, by_depth = _pixel_gradients(
                state, p, raw, red, green, blue, depth
            )
            raw = falloff(across + (cross * below + yy * below * below)) * opacity
            w, w_red, w_green, w_blue, w_depth = _pixel_gradients(
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
    sums[8] = total(d_blue)
    sums[9] = total(d_depth)


@compile_kernel(parallel=PARALLEL)
def composite_gradient(
    splats,
    boxes,
    pair_starts,
    tile_starts,
    entries,
    num_processed,
    rgb,
    alpha,
    depth,
    by_rgb,
    by_alpha,
    by_depth,
):
    """Return the ten sums of every pair, [entry 10], with each Gaussian's pairs side by side.

    Args:
        splats: Splats, float32 [view gaussian 12].
        boxes: Pixels left, top, right, bottom, inclusive, int32 [view gaussian 4].
        pair_starts: Where the pairs of each Gaussian start, int64 [view gaussian].
        tile_starts: Where the entries of each tile start, int64 [view * tile + 1].
        entries: Each tile's Gaussians, sorted by depth, int32 [entry].
        num_processed: Number of entries that `composite` processed, int64 [view * tile].
        rgb: Colour over black from `composite`, [view height width 3].
        alpha: Coverage from `composite`, in [0, 1], [view height width].
        depth: Depth sums from `composite`, in scene units, [view height width].
        by_rgb: Gradient of the loss by `rgb`, [view height width 3].
        by_alpha: Gradient of the loss by `alpha`, [view height width].
        by_depth: Gradient of the loss by `depth`, [view height width].
    """
    views, height, width = alpha.shape
    count = splats.shape[1]
    across = (width + TILE_WIDTH - 1) // TILE_WIDTH
    tiles = (len(tile_starts) - 1) // max(views, 1)
    sums = np.empty((len(entries), NUM_SUMS), np.float32)
    for job in prange(views * tiles):
        tile = scatter_job(job, views * tiles)
        view = tile // tiles
        tile_y = tile % tiles // across * TILE_HEIGHT
        tile_x = tile % tiles % across * TILE_WIDTH
        state = np.zeros((TILE_HEIGHT + 1) * ROW, np.float32)
        for p in range(0, len(state), ROW):
            state[p : p + LINE] = -1
        for row in range(min(TILE_HEIGHT, height - tile_y)):
            for column in range(min(TILE_WIDTH, width - tile_x)):
                p = row * ROW + column
                y = tile_y + row
                x = tile_x + column
                c = rgb[view, y, x]
                g = by_rgb[view, y, x]
                state[p] = 1
                state[p + LINE] = c[0] * g[0] + c[1] * g[1] + c[2] * g[2]
                state[p + LINE] += (
                    depth[view, y, x] * by_depth[view, y, x]
                    + alpha[view, y, x] * by_alpha[view, y, x]
                )
                state[p + 2 * LINE] = g[0]
                state[p + 3 * LINE] = g[1]
                state[p + 4 * LINE] = g[2]
                state[p + 5 * LINE] = by_depth[view, y, x]
                state[p + 6 * LINE] = by_alpha[view, y, x]
        for k in range(tile_starts[tile], tile_starts[tile + 1]):
            i = entries[k]
            if k + PREFETCH_DISTANCE < tile_starts[tile + 1]:
                ahead = view * count + entries[k + PREFETCH_DISTANCE]
                prefetch(splats, ahead * 12)
                prefetch(splats, ahead * 12 + 11)
                prefetch(boxes, ahead * 4)
                prefetch(pair_starts, ahead)
            box = boxes[view, i]
            first_column = box[0] // TILE_WIDTH
            last_column = box[2] // TILE_WIDTH
            row = tile_y // TILE_HEIGHT - box[1] // TILE_HEIGHT
            column = tile_x // TILE_WIDTH - first_column
            pair = sums[pair_starts[view, i] + row * (last_column - first_column + 1) + column]
            if k - tile_starts[tile] < num_processed[tile]:
                _tile_sums(state, splats[view, i], box, tile_x, tile_y, pair)
            else:
                pair[:] = 0
    return sums


@compile_kernel(parallel=PARALLEL)
def compose_gradient(alpha, depth, background, by_rgb, by_depth):
    """Return the gradients of alpha and of depth sums; that of rgb is `by_rgb` itself.

    Args:
        alpha: Coverage in [0, 1], [view height width].
        depth: Expected z-depth from `compose`, in scene units, [view height width].
        background: Colour behind everything, [view 3].
        by_rgb: Gradient of the loss by the composed colour, [view height width 3].
        by_depth: Gradient of the loss by `depth`, [view height width].
    """
    views, height, width = alpha.shape
    d_alpha = np.empty(alpha.shape, np.float32)
    d_depth = np.empty(alpha.shape, np.float32)
    for job in prange(views * height):
        view = job // height
        y = job % height
        red = background[view, 0]
        green = background[view, 1]
        blue = background[view, 2]
        for x in range(width):
            g = by_rgb[view, y, x]
            inverse = f32(1) / max(alpha[view, y, x], f32(MIN_COVERAGE))
            slope = by_depth[view, y, x] * inverse
            d_depth[view, y, x] = slope
            along = slope * depth[view, y, x] if alpha[view, y, x] >= f32(MIN_COVERAGE) else f32(0)
            d_alpha[view, y, x] = -(g[0] * red + g[1] * green + g[2] * blue) - along
    return d_alpha, d_depth
