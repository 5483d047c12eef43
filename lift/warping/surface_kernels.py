"""Compiled loops that rasterise and shade a textured surface. See `lift.warping.surface`.

Arrays of the surface:

- corners: [cell, 4, 3], world positions of the cells' corners.
- cells: [cell, 3], layer, row and column.
- flags: [cell], the bits of the corners, SHARP and FRONT.
- textures: [layer, height, width, 3], colours in 0..255.

Arrays of the lattice of samples, [2 height + 1, 2 width + 1]:

- inverse: inverse depth, 0 where there is no cell.
- cell: index of the cell, -1 where there is none.
- uv: position in the cell, in [0, 1].
"""

import numpy as np
from numba import prange

from lift.runtime.jit import PARALLEL, njit_cached

PARTS = 64
"""Number of parts in which cells are projected in parallel."""
FIRST_VIEW_MARGIN = 0.01
"""The first layer hides later layers that are nearer by less than this fraction of the depth."""
SHARP = 16
"""Flag of a cell without cuts around it."""
FRONT = 32
"""Flag of a cell on the near side of a cut."""


@njit_cached(fastmath=True)
def _rasterize_rows(x, y, w, rows, cells, flags, top, bottom, inverse, cell, uv):
    """Rasterise all cells into the lattice rows from `top` to `bottom`."""
    width = inverse.shape[1]
    for q in range(len(rows)):
        if rows[q, 1] < top or rows[q, 0] >= bottom:
            continue
        bias = np.float32(1 - FIRST_VIEW_MARGIN) if cells[q, 0] > 0 else np.float32(1)
        mask = flags[q]
        for half in range(2):
            a = 0 if half == 0 else 3  # right angle at the upper left, then at the lower right
            b, c = (1, 2) if half == 0 else (2, 1)
            abx = x[q, b] - x[q, a]
            aby = y[q, b] - y[q, a]
            acx = x[q, c] - x[q, a]
            acy = y[q, c] - y[q, a]
            area = abx * acy - aby * acx
            if area < 1e-7:  # a back face, or edge-on
                continue
            scale = 1 / area
            first_i = max(top, int(np.ceil(min(y[q, a], y[q, b], y[q, c]) - 1e-3)))
            last_i = min(bottom - 1, int(np.floor(max(y[q, a], y[q, b], y[q, c]) + 1e-3)))
            first_j = max(0, int(np.ceil(min(x[q, a], x[q, b], x[q, c]) - 1e-3)))
            last_j = min(width - 1, int(np.floor(max(x[q, a], x[q, b], x[q, c]) + 1e-3)))
            for i in range(first_i, last_i + 1):
                for j in range(first_j, last_j + 1):
                    dx = j - x[q, a]
                    dy = i - y[q, a]
                    s = (dx * acy - dy * acx) * scale
                    t = (abx * dy - aby * dx) * scale
                    if s < -1e-3 or t < -1e-3 or s + t > 1.001:
                        continue
                    value = (w[q, a] + s * (w[q, b] - w[q, a]) + t * (w[q, c] - w[q, a])) * bias
                    if value <= inverse[i, j]:
                        continue
                    u, v = (s, t) if half == 0 else (1 - s, 1 - t)
                    # A sample halfway between two corners belongs to both. So there is no crack
                    # between the pieces of a cut cell.
                    bits = (
                        (1 if u < 0.501 else 0)
                        | (2 if u > 0.499 else 0)
                        | (4 if u < 0.501 else 0)
                        | (8 if u > 0.499 else 0)
                    )
                    bits &= (3 if v < 0.501 else 0) | (12 if v > 0.499 else 0)
                    if mask & bits:
                        inverse[i, j] = value
                        cell[i, j] = q
                        uv[i, j, 0] = u
                        uv[i, j, 1] = v
    for i in range(top, bottom):
        for j in range(width):
            if cell[i, j] >= 0 and cells[cell[i, j], 0] > 0:
                inverse[i, j] /= np.float32(1 - FIRST_VIEW_MARGIN)


@njit_cached(fastmath=True, parallel=PARALLEL)
def rasterize(corners, cells, flags, matrix, min_depth, bands, inverse, cell, uv):
    """Project all cells and rasterise them in parallel bands of rows.

    Args:
        corners: World positions of the cells' corners.
        cells: Layer, row and column of the cells.
        flags: Flags of the cells.
        matrix: Projection to the lattice, [3, 4].
        min_depth: Near plane in scene units.
        bands: Number of bands of rows.
        inverse: Output, zeros: inverse depth of the lattice.
        cell: Output, -1: cells of the lattice.
        uv: Output: positions in the cells.
    """
    height, width = inverse.shape
    x = np.empty((len(corners), 4), np.float32)
    y = np.empty((len(corners), 4), np.float32)
    w = np.empty((len(corners), 4), np.float32)
    # First and last row of the lattice that a cell may touch.
    rows = np.empty((len(corners), 2), np.int32)
    for part in prange(PARTS):
        for q in range(part * len(corners) // PARTS, (part + 1) * len(corners) // PARTS):
            rows[q, 0] = height
            rows[q, 1] = -1
            for k in range(4):
                p = corners[q, k]
                z = matrix[2, 0] * p[0] + matrix[2, 1] * p[1] + matrix[2, 2] * p[2] + matrix[2, 3]
                w[q, k] = 1 / z if z >= min_depth else np.float32(0)
                x[q, k] = (
                    matrix[0, 0] * p[0] + matrix[0, 1] * p[1] + matrix[0, 2] * p[2] + matrix[0, 3]
                ) * w[q, k]
                y[q, k] = (
                    matrix[1, 0] * p[0] + matrix[1, 1] * p[1] + matrix[1, 2] * p[2] + matrix[1, 3]
                ) * w[q, k]
            low = max(min(y[q]), np.float32(-1))
            high = min(max(y[q]), np.float32(height))
            if min(w[q]) > 0 and max(x[q]) >= 0 and min(x[q]) <= width - 1:
                rows[q, 0] = int(np.ceil(low - np.float32(1e-3)))
                rows[q, 1] = int(np.floor(high + np.float32(1e-3)))
    for band in prange(bands):
        top = band * height // bands
        bottom = (band + 1) * height // bands
        _rasterize_rows(x, y, w, rows, cells, flags, top, bottom, inverse, cell, uv)


@njit_cached(fastmath=True)
def _cubic(t, weights):
    """Compute Catmull-Rom weights, which interpolate and stay sharper than bilinear weights."""
    weights[0] = ((-t + 2) * t - 1) * t / 2
    weights[1] = ((3 * t - 5) * t * t + 2) / 2
    weights[2] = ((-3 * t + 4) * t + 1) * t / 2
    weights[3] = (t - 1) * t * t / 2


@njit_cached(fastmath=True)
def _color(cells, flags, textures, q, u, v, out, wu, wv):
    """Look up the colour of cell q at (u, v).

    It is Catmull-Rom away from cuts. Otherwise it is bilinear among the corners of the cell's own
    piece.
    """
    layer = cells[q, 0]
    row = cells[q, 1] - 1
    column = cells[q, 2] - 1
    height = textures.shape[1]
    width = textures.shape[2]
    out[:] = 0
    if flags[q] & SHARP and 1 <= row < height - 2 and 1 <= column < width - 2:
        _cubic(u, wu)
        _cubic(v, wv)
        for i in range(4):
            for j in range(4):
                weight = wv[i] * wu[j]
                for k in range(3):
                    out[k] += weight * textures[layer, row - 1 + i, column - 1 + j, k]
        return
    total = np.float32(0)
    for corner in range(4):
        if flags[q] & (1 << corner):
            i = corner >> 1
            j = corner & 1
            weight = (v if i else 1 - v) * (u if j else 1 - u) + np.float32(1e-6)
            total += weight
            for k in range(3):
                out[k] += weight * textures[layer, row + i, column + j, k]
    for k in range(3):
        out[k] /= total


@njit_cached(fastmath=True, parallel=PARALLEL)
def shade(cells, flags, textures, cell, uv, rgb, front):
    """Look up the colour of every pixel.

    Args:
        cells: Layer, row and column of the cells.
        flags: Flags of the cells.
        textures: Colours of the layers.
        cell: Cells of the lattice.
        uv: Positions in the cells.
        rgb: Output: colours, [height, width, 3].
        front: Output: mask of pixels on the near side of a cut, [height, width].
    """
    for i in prange(rgb.shape[0]):
        wu = np.empty(4, np.float32)
        wv = np.empty(4, np.float32)
        for j in range(rgb.shape[1]):
            q = cell[2 * i + 1, 2 * j + 1]
            if q >= 0:
                u, v = uv[2 * i + 1, 2 * j + 1]
                _color(cells, flags, textures, q, u, v, rgb[i, j], wu, wv)
                front[i, j] = flags[q] & FRONT


@njit_cached()
def _beside_hole(cell, a, b):
    """Find a hole pixel beside sample (a, b), or return (-1, -1)."""
    for c in range((a - 1) // 2, a // 2 + 1):
        for d in range((b - 1) // 2, b // 2 + 1):
            if (
                0 <= 2 * c < cell.shape[0] - 1
                and 0 <= 2 * d < cell.shape[1] - 1
                and cell[2 * c + 1, 2 * d + 1] < 0
            ):
                return c, d
    return -1, -1


@njit_cached(fastmath=True, parallel=PARALLEL)
def blend(cells, flags, textures, cell, uv, rgb, out):
    """Antialias pixels whose samples come from different surfaces.

    Such a pixel is the tent-weighted mean of its samples. A missing sample takes the colour that
    fills a neighbouring hole.

    Args:
        cells: Layer, row and column of the cells.
        flags: Flags of the cells.
        textures: Colours of the layers.
        cell: Cells of the lattice.
        uv: Positions in the cells.
        rgb: Colours with holes filled, [height, width, 3].
        out: Output, a copy of `rgb`: antialiased colours.
    """
    height, width = rgb.shape[:2]
    for i in prange(height):
        wu = np.empty(4, np.float32)
        wv = np.empty(4, np.float32)
        color = np.empty(3, np.float32)
        for j in range(width):
            q = cell[2 * i + 1, 2 * j + 1]
            if q < 0:
                continue
            x = cells[q, 2] + uv[2 * i + 1, 2 * j + 1, 0]
            y = cells[q, 1] + uv[2 * i + 1, 2 * j + 1, 1]
            mixed = False
            for a in range(2 * i, 2 * i + 3):
                for b in range(2 * j, 2 * j + 3):
                    r = cell[a, b]
                    if r < 0:
                        mixed |= _beside_hole(cell, a, b)[0] >= 0
                    elif cells[r, 0] != cells[q, 0] or (
                        abs(cells[r, 2] + uv[a, b, 0] - x) > 0.8
                        or abs(cells[r, 1] + uv[a, b, 1] - y) > 0.8
                    ):
                        mixed = True
            if not mixed:
                continue
            total = np.float32(0)
            out[i, j] = 0
            for a in range(2 * i, 2 * i + 3):
                for b in range(2 * j, 2 * j + 3):
                    weight = np.float32((2 - abs(a - 2 * i - 1)) * (2 - abs(b - 2 * j - 1)))
                    r = cell[a, b]
                    if r >= 0:
                        _color(cells, flags, textures, r, uv[a, b, 0], uv[a, b, 1], color, wu, wv)
                    else:
                        c, d = _beside_hole(cell, a, b)
                        if c < 0:
                            continue
                        color[:] = rgb[c, d]
                    total += weight
                    # An array expression does not compile if only `_color` is in numba's cache.
                    for k in range(3):
                        out[i, j, k] += weight * color[k]
            out[i, j] /= total
