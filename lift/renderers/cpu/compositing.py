"""Composite splats front to back, tile by tile, and compose the result with a background."""

import numpy as np
from numba import prange
from numpy.polynomial import Chebyshev, Polynomial

from lift.renderers import MAX_ALPHA, MIN_ALPHA, MIN_COVERAGE, MIN_TRANSMITTANCE
from lift.renderers.cpu.compile import compile_kernel, f32
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
from lift.renderers.cpu.tiling import LINE, TILE_HEIGHT, TILE_WIDTH, scatter_job
from lift.runtime.jit import PARALLEL

ROW = 5 * LINE
"""Length of what a tile stores for a row of pixels: transmittance, r, g, b, depth.

There is a spare row below the last one, since rows are processed in pairs.
"""

PREFETCH_DISTANCE = 6
"""A Gaussian is fetched into the cache this number of entries before it is needed.

Neighbours by depth lie anywhere in memory.
"""

# exp(-d / 2) = exp(-d / 32)^16: up to d / 32 = _MAX_EXPONENT a polynomial approximates it.
# Beyond that, every alpha is below MIN_ALPHA.
_MAX_EXPONENT = 0.35
_E0, _E1, _E2, _E3, _E4 = (
    f32(c)
    for c in Chebyshev.interpolate(lambda t: np.exp(-t), 4, [0, _MAX_EXPONENT])
    .convert(kind=Polynomial)
    .coef
)


@compile_kernel()
def falloff(t):
    """Return exp(-16 t), approximated by a polynomial.

    Args:
        t: Lanes. Squared distance in standard deviations, over 32, at least 0. Values above 0.35
            count as 0.35.
    """
    t = where_above(t, f32(_MAX_EXPONENT), f32(_MAX_EXPONENT), t)
    p = (((t * _E4 + _E3) * t + _E2) * t + _E1) * t + _E0
    p = p * p
    p = p * p
    p = p * p
    return p * p


@compile_kernel(forceinline=True)
def visible_rows(splat, box, left, tile_y):
    """Return the first and last row of the tile in which alpha can reach MIN_ALPHA.

    It concerns the strip of WIDTH columns from `left` on. Within a strip, the ellipse's upper and
    lower ends are at its top or bottom, or at the strip's edge next to that.

    Args:
        splat: The Gaussian's splat, [12].
        box: The Gaussian's pixels left, top, right, bottom, inclusive, [4].
        left: First pixel column of the strip in the picture.
        tile_y: First pixel row of the tile in the picture.

    Returns:
        Two rows, inclusive, counted from the tile's top. The first is larger if no row is visible.
    """
    top = max(box[1] - tile_y, 0)
    bottom = min(box[3] - tile_y, TILE_HEIGHT - 1)
    if box[2] - box[0] < 2 * WIDTH:  # too small for the corners of its box to matter
        return top, bottom
    xx = splat[2]
    xy = splat[3]
    yy = splat[4]
    square = splat[10] * f32(1.001) + f32(0.01)
    det = xx * yy - xy * xy
    if not det > f32(1e-3) * xx * yy:  # a needle, for which the ends lose precision
        return top, bottom
    first = f32(left) + f32(0.5) - splat[0]
    last = first + f32(WIDTH - 1)
    top_x = -xy * np.sqrt(square / (det * xx))  # x of the point with the largest y
    below = min(max(top_x, first), last)
    above = min(max(-top_x, first), last)
    down = -xy * below + np.sqrt(max(square * yy - det * below * below, f32(0)))
    up = -xy * above - np.sqrt(max(square * yy - det * above * above, f32(0)))
    center = splat[1] - f32(tile_y) - f32(0.5)
    return max(top, int(np.ceil(center + up / yy - f32(0.01)))), min(
        bottom, int(np.floor(center + down / yy + f32(0.01)))
    )


@compile_kernel()
def _transmits_light(state):
    """Return whether light still passes through any of the tile's pixels."""
    highest = load(state, 0)
    for row in range(0, TILE_HEIGHT * ROW, ROW):
        for p in range(row, row + TILE_WIDTH, WIDTH):
            highest = where_above(load(state, p), highest, load(state, p), highest)
    return total(where_above(highest, f32(0), f32(1), f32(0))) > 0


@compile_kernel()
def attenuate(state, p, raw):
    """Attenuate the light of eight pixels by one Gaussian.

    Where too little light would be left, the pixel is done: it takes nothing, and its
    transmittance is negated.

    Args:
        state: What the tile stores, flat float32. The first line of each row holds transmittance
            in [0, 1], negative where the pixel is done. It is updated.
        p: Index in `state` of the first pixel's transmittance.
        raw: Lanes. The Gaussian's alpha before limits, at least 0.

    Returns:
        The light that the Gaussian takes, and the light that is left.
    """
    alpha = where_below(
        raw, f32(MIN_ALPHA), f32(0), where_above(raw, f32(MAX_ALPHA), f32(MAX_ALPHA), raw)
    )
    light = load(state, p)
    weight = alpha * light
    after = light - weight
    marked_light = where_above(light, f32(0), f32(0) - light, light)
    store(state, p, where_above(after, f32(MIN_TRANSMITTANCE), after, marked_light))
    return where_above(after, f32(MIN_TRANSMITTANCE), weight, f32(0)), after


@compile_kernel()
def _accumulate(state, p, raw, red, green, blue, depth):
    """Add one Gaussian to eight pixels."""
    weight, _ = attenuate(state, p, raw)
    store(state, p + LINE, load(state, p + LINE) + weight * red)
    store(state, p + 2 * LINE, load(state, p + 2 * LINE) + weight * green)
    store(state, p + 3 * LINE, load(state, p + 3 * LINE) + weight * blue)
    store(state, p + 4 * LINE, load(state, p + 4 * LINE) + weight * depth)


@compile_kernel()
def _composite_tile(state, splats, boxes, entries, tile_x, tile_y):
    """Composite a tile's Gaussians onto `state`.

    The lines of a row of `state` hold transmittance, r, g, b, depth. Returns the number of
    entries that were processed before all pixels were done.
    """
    for k in range(len(entries)):
        if k % 64 == 63 and not _transmits_light(state):
            return k
        if k + PREFETCH_DISTANCE < len(entries):
            prefetch(splats, entries[k + PREFETCH_DISTANCE] * 12)
            prefetch(splats, entries[k + PREFETCH_DISTANCE] * 12 + 11)
            prefetch(boxes, entries[k + PREFETCH_DISTANCE] * 4)
        splat = splats[entries[k]]
        box = boxes[entries[k]]
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
        for x in range(left, right + 1, WIDTH):
            top, bottom = visible_rows(splat, box, tile_x + x, tile_y)
            dx = ramp(f32(tile_x + x) + f32(0.5) - splat[0])
            across = dx * dx * xx
            cross = dx * xy
            for y in range(top, bottom + 1, 2):
                dy = f32(tile_y + y) + f32(0.5) - splat[1]
                below = dy + f32(1)
                p = y * ROW + x
                _accumulate(
                    state,
                    p,
                    falloff(across + (cross * dy + yy * dy * dy)) * opacity,
                    red,
                    green,
                    blue,
                    depth,
                )
                _accumulate(
                    state,
                    p + ROW,
                    falloff(across + (cross * below + yy * below * below)) * opacity,
                    red,
                    green,
                    blue,
                    depth,
                )
    return len(entries)


@compile_kernel(parallel=PARALLEL)
def composite(splats, boxes, tile_starts, entries, width, height):
    """Composite the splats of every view, front to back.

    Args:
        splats: Splats, float32 [view gaussian 12].
        boxes: Pixels left, top, right, bottom, inclusive, int32 [view gaussian 4].
        tile_starts: Where the entries of each tile start, int64 [view * tile + 1].
        entries: Each tile's Gaussians, sorted by depth, int32 [entry].
        width: Width of the pictures in pixels.
        height: Height of the pictures in pixels.

    Returns:
        Colour over black [view height width 3], alpha in [0, 1] and depth sums, both
        [view height width], and the number of entries that each tile processed [view * tile].
    """
    views = len(splats)
    across = (width + TILE_WIDTH - 1) // TILE_WIDTH
    tiles = (len(tile_starts) - 1) // max(views, 1)
    rgb = np.empty((views, height, width, 3), np.float32)
    alpha = np.empty((views, height, width), np.float32)
    depth = np.empty((views, height, width), np.float32)
    num_processed = np.zeros(views * tiles, np.int64)
    for job in prange(views * tiles):
        tile = scatter_job(job, views * tiles)
        view = tile // tiles
        tile_y = tile % tiles // across * TILE_HEIGHT
        tile_x = tile % tiles % across * TILE_WIDTH
        rows = min(TILE_HEIGHT, height - tile_y)
        columns = min(TILE_WIDTH, width - tile_x)
        state = np.zeros((TILE_HEIGHT + 1) * ROW, np.float32)
        for p in range(0, len(state), ROW):
            state[p : p + LINE] = -1
        for y in range(rows):
            state[y * ROW : y * ROW + columns] = 1
        num_processed[tile] = _composite_tile(
            state,
            splats[view],
            boxes[view],
            entries[tile_starts[tile] : tile_starts[tile + 1]],
            tile_x,
            tile_y,
        )
        for y in range(rows):
            for x in range(columns):
                p = y * ROW + x
                alpha[view, tile_y + y, tile_x + x] = f32(1) - abs(state[p])
                rgb[view, tile_y + y, tile_x + x, 0] = state[p + LINE]
                rgb[view, tile_y + y, tile_x + x, 1] = state[p + 2 * LINE]
                rgb[view, tile_y + y, tile_x + x, 2] = state[p + 3 * LINE]
                depth[view, tile_y + y, tile_x + x] = state[p + 4 * LINE]
    return rgb, alpha, depth, num_processed


@compile_kernel(parallel=PARALLEL)
def compose(rgb, alpha, depth_sum, background):
    """Return rgb over one background a view, and the expected depth: depth_sum over alpha.

    Args:
        rgb: Alpha-weighted sum of colour, over black, [view height width 3].
        alpha: Coverage in [0, 1], [view height width].
        depth_sum: Alpha-weighted sum of z-depth in scene units, [view height width].
        background: Colour behind everything, [view 3].
    """
    views, height, width = alpha.shape
    composed = np.empty(rgb.shape, np.float32)
    depth = np.empty(alpha.shape, np.float32)
    for job in prange(views * height):
        view = job // height
        y = job % height
        red = background[view, 0]
        green = background[view, 1]
        blue = background[view, 2]
        for x in range(width):
            transmittance = f32(1) - alpha[view, y, x]
            composed[view, y, x, 0] = rgb[view, y, x, 0] + transmittance * red
            composed[view, y, x, 1] = rgb[view, y, x, 1] + transmittance * green
            composed[view, y, x, 2] = rgb[view, y, x, 2] + transmittance * blue
            depth[view, y, x] = depth_sum[view, y, x] / max(alpha[view, y, x], f32(MIN_COVERAGE))
    return composed, depth
