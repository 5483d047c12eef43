"""CUDA kernels that rasterise and shade a textured surface.

They do what `raster` and `shading` do in torch, which takes hundreds of launches a view.
All tensors are contiguous.
"""

# Triton has incomplete type stubs.
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false
# pyright: reportAssignmentType=false, reportArgumentType=false

import torch
import triton.language as tl
from torch import Tensor

from lift.runtime.jit import cdiv, triton_jit
from lift.warping.gpu import raster, shading
from lift.warping.surface_kernels import FIRST_VIEW_MARGIN, FRONT, SHARP

_TRIANGLES = tl.constexpr(128)
"""Triangles in a program."""
_SAMPLES = tl.constexpr(256)
"""Samples or pixels in a program."""
_LARGE = tl.constexpr(256)
"""Samples in the box of a triangle above which it is left to `raster`.

The threads of a program wait for its largest triangle.
"""
_TOLERANCE = tl.constexpr(raster.TOLERANCE)
_INDEX_BITS = tl.constexpr(raster.INDEX_BITS)
_INDEX_MASK = tl.constexpr(raster.INDEX_MASK)
_BIAS = tl.constexpr(1 - FIRST_VIEW_MARGIN)
_SHARP = tl.constexpr(SHARP)
_FRONT = tl.constexpr(FRONT)
_SAME_SURFACE = tl.constexpr(shading.SAME_SURFACE)
_EPSILON = tl.constexpr(shading.EPSILON)


def draw(
    corners: Tensor,
    cells: Tensor,
    flags: Tensor,
    matrix: Tensor,
    min_depth: float,
    shape: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """Draw the small triangles of all cells.

    Args:
        corners: World positions of the cells' corners, float32 [cell 4 3].
        cells: Layer, row and column of the cells, int64 [cell 3].
        flags: Flags of the cells, uint8 [cell].
        matrix: Projection to the lattice, float32 [3 4].
        min_depth: Near plane in scene units.
        shape: Rows and columns of the lattice.

    Returns:
        Key of each sample, as in `raster.rasterize`, and a mask of triangles too large to be drawn.
    """
    keys = torch.zeros(shape[0] * shape[1], dtype=torch.int64, device=corners.device)
    large = torch.zeros(2 * len(corners), dtype=torch.bool, device=corners.device)
    if count := len(large):
        _draw[cdiv(count, _TRIANGLES),](
            corners, cells, flags, matrix, keys, large.view(torch.uint8), min_depth, count, *shape
        )
    return keys, large


def resolve(
    keys: Tensor,
    corners: Tensor,
    cells: Tensor,
    matrix: Tensor,
    min_depth: float,
    shape: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return inverse depth, cell and position in the cell of the samples with these keys.

    Args:
        keys: Key of each sample, int64 [row * column].
        corners: World positions of the cells' corners, float32 [cell 4 3].
        cells: Layer, row and column of the cells, int64 [cell 3].
        matrix: Projection to the lattice, float32 [3 4].
        min_depth: Near plane in scene units.
        shape: Rows and columns of the lattice.
    """
    inverse = torch.empty(shape, device=keys.device)
    cell = torch.empty(shape, dtype=torch.int64, device=keys.device)
    uv = torch.empty((*shape, 2), device=keys.device)
    count = len(keys)
    _resolve[cdiv(count, _SAMPLES),](
        keys, corners, cells, matrix, inverse, cell, uv, min_depth, count, shape[1]
    )
    return inverse, cell, uv


def shade(
    cells: Tensor, flags: Tensor, textures: Tensor, cell: Tensor, uv: Tensor
) -> tuple[Tensor, Tensor]:
    """Look up the colour of every pixel.

    Args:
        cells: Layer, row and column of the cells, int64 [cell 3].
        flags: Flags of the cells, uint8 [cell].
        textures: Colours of the layers, uint8 [layer height width 3].
        cell: Cells of the lattice, -1 in holes, int64 [row column].
        uv: Positions in the cells, float32 [row column 2].

    Returns:
        Colours in 0..255, 0 in holes, and a mask of pixels on the near side of a cut.
    """
    height, width = cell.shape[0] // 2, cell.shape[1] // 2
    rgb = torch.empty((height, width, 3), device=uv.device)
    front = torch.empty((height, width), dtype=torch.bool, device=uv.device)
    size = textures.shape[1:3]
    _shade[cdiv(height * width, _SAMPLES),](
        cells, flags, textures, cell, uv, rgb, front.view(torch.uint8), height, width, *size
    )
    return rgb, front


def antialias(
    cells: Tensor, flags: Tensor, textures: Tensor, cell: Tensor, uv: Tensor, rgb: Tensor
) -> Tensor:
    """Antialias pixels whose samples come from different surfaces. See `shading.antialias`.

    Args:
        cells: Layer, row and column of the cells, int64 [cell 3].
        flags: Flags of the cells, uint8 [cell].
        textures: Colours of the layers, uint8 [layer height width 3].
        cell: Cells of the lattice, -1 in holes, int64 [row column].
        uv: Positions in the cells, float32 [row column 2].
        rgb: Colours in 0..255 with holes filled, float32 [height width 3].

    Returns:
        Antialiased colours.
    """
    height, width = rgb.shape[:2]
    rgb = rgb.contiguous()
    out = torch.empty_like(rgb)
    size = textures.shape[1:3]
    _antialias[cdiv(height * width, _SAMPLES),](
        cells, flags, textures, cell, uv, rgb, out, height, width, *size
    )
    return out


@triton_jit
def _project(corners, matrix, index, inside, near):
    """Return column, row and inverse depth of corners. The latter is 0 behind the near plane."""
    x = tl.load(corners + 3 * index, inside, 0.0)
    y = tl.load(corners + 3 * index + 1, inside, 0.0)
    z = tl.load(corners + 3 * index + 2, inside, 0.0)
    column = tl.load(matrix) * x + tl.load(matrix + 1) * y + tl.load(matrix + 2) * z
    row = tl.load(matrix + 4) * x + tl.load(matrix + 5) * y + tl.load(matrix + 6) * z
    depth = tl.load(matrix + 8) * x + tl.load(matrix + 9) * y + tl.load(matrix + 10) * z
    depth += tl.load(matrix + 11)
    w = tl.where(depth >= near, 1.0 / tl.maximum(depth, near), 0.0)
    return (column + tl.load(matrix + 3)) * w, (row + tl.load(matrix + 7)) * w, w


@triton_jit
def _position(row, column, ax, ay, aw, bx, by, bw, cx, cy, cw, second):
    """Return inverse depth of samples of triangles, place in the cell, and whether they lie in."""
    scale = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    scale = 1.0 / tl.where(scale == 0, 1.0, scale)
    dx = column - ax
    dy = row - ay
    s = (dx * (cy - ay) - dy * (cx - ax)) * scale
    t = ((bx - ax) * dy - (by - ay) * dx) * scale
    inside = (s >= -_TOLERANCE) & (t >= -_TOLERANCE) & (s + t <= 1 + _TOLERANCE)
    value = aw + s * (bw - aw) + t * (cw - aw)
    # The second triangle has its right angle at the cell's lower right.
    return value, tl.where(second, 1 - s, s), tl.where(second, 1 - t, t), inside


@triton_jit
def _draw(corners, cells, flags, matrix, keys, large, near, count, height, width):
    """Draw small triangles, and mark those that are too large."""
    n = (tl.program_id(0) * _TRIANGLES + tl.arange(0, _TRIANGLES)).to(tl.int64)
    inside = n < count
    cell = n // 2
    half = n % 2
    second = half == 1
    ax, ay, aw = _project(corners, matrix, 4 * cell + 3 * half, inside, near)
    bx, by, bw = _project(corners, matrix, 4 * cell + 1 + half, inside, near)
    cx, cy, cw = _project(corners, matrix, 4 * cell + 2 - half, inside, near)
    _, _, dw = _project(corners, matrix, 4 * cell + 3 - 3 * half, inside, near)
    in_front = tl.minimum(tl.minimum(aw, bw), tl.minimum(cw, dw)) > 0
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    top = tl.ceil(tl.minimum(tl.minimum(ay, by), cy) - _TOLERANCE)
    left = tl.ceil(tl.minimum(tl.minimum(ax, bx), cx) - _TOLERANCE)
    bottom = tl.floor(tl.maximum(tl.maximum(ay, by), cy) + _TOLERANCE)
    right = tl.floor(tl.maximum(tl.maximum(ax, bx), cx) + _TOLERANCE)
    top = tl.minimum(tl.maximum(top, 0.0), height * 1.0).to(tl.int32)
    left = tl.minimum(tl.maximum(left, 0.0), width * 1.0).to(tl.int32)
    bottom = tl.minimum(tl.maximum(bottom, -1.0), height - 1.0).to(tl.int32)
    right = tl.minimum(tl.maximum(right, -1.0), width - 1.0).to(tl.int32)
    rows = tl.maximum(bottom - top + 1, 0)
    columns = tl.maximum(right - left + 1, 0)
    drawn = inside & in_front & (area >= 1e-7)
    samples = tl.where(drawn, rows * columns, 0)
    is_large = samples > _LARGE
    tl.store(large + n, is_large.to(tl.uint8), inside)
    samples = tl.where(is_large, 0, samples)
    columns = tl.maximum(columns, 1)
    flag = tl.load(flags + cell, inside, 0).to(tl.int32)
    layer = tl.load(cells + 3 * cell, inside, 0)
    bias = tl.where(layer > 0, _BIAS, 1.0)
    for i in range(tl.max(samples, 0)):
        row = top + i // columns
        column = left + i % columns
        value, u, v, hit = _position(row, column, ax, ay, aw, bx, by, bw, cx, cy, cw, second)
        value *= bias
        # A sample halfway between two corners belongs to both, so that there is no crack.
        upper = ((flag & 1) > 0) & (u < 0.501) | ((flag & 2) > 0) & (u > 0.499)
        lower = ((flag & 4) > 0) & (u < 0.501) | ((flag & 8) > 0) & (u > 0.499)
        covered = upper & (v < 0.501) | lower & (v > 0.499)
        hit = hit & covered & (i < samples) & (value > 0)
        bits = value.to(tl.int32, bitcast=True).to(tl.int64)
        key = (bits << _INDEX_BITS) | (_INDEX_MASK - n)
        tl.atomic_max(keys + row.to(tl.int64) * width + column, key, mask=hit)


@triton_jit
def _resolve(keys, corners, cells, matrix, inverse, cell, uv, near, count, width):
    """Write inverse depth, cell and position in the cell of samples."""
    n = (tl.program_id(0) * _SAMPLES + tl.arange(0, _SAMPLES)).to(tl.int64)
    inside = n < count
    key = tl.load(keys + n, inside, 0)
    known = key > 0
    triangle = tl.where(known, _INDEX_MASK - (key & _INDEX_MASK), 0)
    index = triangle // 2
    half = triangle % 2
    ax, ay, aw = _project(corners, matrix, 4 * index + 3 * half, known, near)
    bx, by, bw = _project(corners, matrix, 4 * index + 1 + half, known, near)
    cx, cy, cw = _project(corners, matrix, 4 * index + 2 - half, known, near)
    _, u, v, _ = _position(n // width, n % width, ax, ay, aw, bx, by, bw, cx, cy, cw, half == 1)
    # A thin triangle's depth would not be that of `_draw`, because the compiler rounds otherwise.
    value = (key >> _INDEX_BITS).to(tl.int32).to(tl.float32, bitcast=True)
    layer = tl.load(cells + 3 * index, known, 0)
    tl.store(inverse + n, value / tl.where(layer > 0, _BIAS, 1.0), inside)
    tl.store(cell + n, tl.where(known, index, -1), inside)
    u = tl.minimum(tl.maximum(u, 0.0), 1.0)
    v = tl.minimum(tl.maximum(v, 0.0), 1.0)
    tl.store(uv + 2 * n, tl.where(known, u, 0.0), inside)
    tl.store(uv + 2 * n + 1, tl.where(known, v, 0.0), inside)


@triton_jit
def _cubic(t, k):
    """Return one of the four Catmull-Rom weights, which interpolate and are sharp."""
    first = ((-t + 2) * t - 1) * t / 2
    second = ((3 * t - 5) * t * t + 2) / 2
    third = ((-3 * t + 4) * t + 1) * t / 2
    fourth = (t - 1) * t * t / 2
    return tl.where(k == 0, first, tl.where(k == 1, second, tl.where(k == 2, third, fourth)))


@triton_jit
def _linear(flag, u, v, i, j):
    """Return the bilinear weight of a corner, 0 if it is not of the cell's own piece."""
    weight = tl.where(i == 1, v, 1 - v) * tl.where(j == 1, u, 1 - u) + _EPSILON
    own = (i >= 0) & (i <= 1) & (j >= 0) & (j <= 1) & (((flag >> (2 * i + j)) & 1) > 0)
    return tl.where(own, weight, 0.0)


@triton_jit
def _color(cells, flags, textures, index, u, v, known, height, width):
    """Look up colours at places in cells. See `shading._part_colors`."""
    layer = tl.load(cells + 3 * index, known, 0)
    row = tl.load(cells + 3 * index + 1, known, 0) - 1
    column = tl.load(cells + 3 * index + 2, known, 0) - 1
    flag = tl.load(flags + index, known, 0).to(tl.int32)
    inner = (row >= 1) & (row < height - 2) & (column >= 1) & (column < width - 2)
    sharp = ((flag & _SHARP) > 0) & inner
    total = _linear(flag, u, v, 0, 0) + _linear(flag, u, v, 0, 1)
    total += _linear(flag, u, v, 1, 0) + _linear(flag, u, v, 1, 1)
    total = tl.maximum(total, _EPSILON)
    red = tl.zeros_like(u)
    green = tl.zeros_like(u)
    blue = tl.zeros_like(u)
    # Loops that are not unrolled: else the kernel that has nine samples takes minutes to compile.
    for k in range(16):
        i = tl.zeros_like(row) + k // 4
        j = tl.zeros_like(row) + k % 4
        linear = _linear(flag, u, v, i - 1, j - 1) / total
        weight = tl.where(sharp, _cubic(v, i) * _cubic(u, j), linear)
        needed = known & (sharp | (linear > 0))
        y = tl.minimum(tl.maximum(row - 1 + i, 0), height - 1)
        x = tl.minimum(tl.maximum(column - 1 + j, 0), width - 1)
        pixel = textures + 3 * ((layer * height + y) * width + x)
        red += weight * tl.load(pixel, needed, 0).to(tl.float32)
        green += weight * tl.load(pixel + 1, needed, 0).to(tl.float32)
        blue += weight * tl.load(pixel + 2, needed, 0).to(tl.float32)
    return red, green, blue


@triton_jit
def _shade(cells, flags, textures, cell, uv, rgb, front, height, width, rows, columns):
    """Write colours of pixels, and whether they are on the near side of a cut."""
    n = (tl.program_id(0) * _SAMPLES + tl.arange(0, _SAMPLES)).to(tl.int64)
    inside = n < height * width
    sample = (2 * (n // width) + 1) * (2 * width + 1) + 2 * (n % width) + 1
    index = tl.load(cell + sample, inside, -1)
    known = index >= 0
    u = tl.load(uv + 2 * sample, known, 0.0)
    v = tl.load(uv + 2 * sample + 1, known, 0.0)
    red, green, blue = _color(cells, flags, textures, index, u, v, known, rows, columns)
    tl.store(rgb + 3 * n, red, inside)
    tl.store(rgb + 3 * n + 1, green, inside)
    tl.store(rgb + 3 * n + 2, blue, inside)
    flag = tl.load(flags + index, known, 0).to(tl.int32)
    tl.store(front + n, ((flag & _FRONT) > 0).to(tl.uint8), inside)


@triton_jit
def _find_hole(cell, row, column, a, b, inside, height, width):
    """Find a hole pixel beside sample (a, b) of pixels' 3 x 3, and whether there is one."""
    place = tl.zeros_like(row)
    exists = row < 0
    for c in tl.static_range(2):
        for d in tl.static_range(2):
            y = row + tl.where(a == 1, 0, a // 2 - c)
            x = column + tl.where(b == 1, 0, b // 2 - d)
            valid = inside & (y >= 0) & (y < height) & (x >= 0) & (x < width)
            center = cell + (2 * y + 1) * (2 * width + 1) + 2 * x + 1
            is_hole = tl.load(center, valid, 0) < 0
            place = tl.where(is_hole, y * width + x, place)
            exists = exists | is_hole
    return place, exists


@triton_jit
def _antialias(cells, flags, textures, cell, uv, rgb, out, height, width, rows, columns):
    """Write colours of pixels, which are means of nine samples where these differ."""
    n = (tl.program_id(0) * _SAMPLES + tl.arange(0, _SAMPLES)).to(tl.int64)
    inside = n < height * width
    row = n // width
    column = n % width
    stride = 2 * width + 1
    corner = 2 * row * stride + 2 * column
    center = tl.load(cell + corner + stride + 1, inside, -1)
    known = center >= 0
    layer = tl.load(cells + 3 * center, known, 0)
    y = tl.load(cells + 3 * center + 1, known, 0)
    y = y + tl.load(uv + 2 * (corner + stride + 1) + 1, known, 0.0)
    x = tl.load(cells + 3 * center + 2, known, 0)
    x = x + tl.load(uv + 2 * (corner + stride + 1), known, 0.0)
    mixed = center < -1
    for k in range(9):
        a = tl.zeros_like(row) + k // 3
        b = tl.zeros_like(row) + k % 3
        sample = corner + a * stride + b
        index = tl.load(cell + sample, known, -1)
        covered = index >= 0
        differs = tl.load(cells + 3 * index, covered, 0) != layer
        down = tl.load(cells + 3 * index + 1, covered, 0)
        down = down + tl.load(uv + 2 * sample + 1, covered, 0.0) - y
        across = tl.load(cells + 3 * index + 2, covered, 0)
        across = across + tl.load(uv + 2 * sample, covered, 0.0) - x
        differs = differs | (tl.abs(down) > _SAME_SURFACE) | (tl.abs(across) > _SAME_SURFACE)
        _, exists = _find_hole(cell, row, column, a, b, known & (index < 0), height, width)
        mixed = mixed | (covered & differs) | exists
    mixed = mixed & known
    red = tl.load(rgb + 3 * n, inside, 0.0)
    green = tl.load(rgb + 3 * n + 1, inside, 0.0)
    blue = tl.load(rgb + 3 * n + 2, inside, 0.0)
    if tl.max(mixed.to(tl.int32), 0) > 0:
        red = tl.where(mixed, 0.0, red)
        green = tl.where(mixed, 0.0, green)
        blue = tl.where(mixed, 0.0, blue)
        total = tl.where(mixed, 0.0, 1.0)
        for k in range(9):
            a = tl.zeros_like(row) + k // 3
            b = tl.zeros_like(row) + k % 3
            sample = corner + a * stride + b
            index = tl.load(cell + sample, mixed, -1)
            covered = index >= 0
            u = tl.load(uv + 2 * sample, covered, 0.0)
            v = tl.load(uv + 2 * sample + 1, covered, 0.0)
            r, g, b_ = _color(cells, flags, textures, index, u, v, covered, rows, columns)
            missing = mixed & (index < 0)
            place, exists = _find_hole(cell, row, column, a, b, missing, height, width)
            r += tl.load(rgb + 3 * place, exists, 0.0)
            g += tl.load(rgb + 3 * place + 1, exists, 0.0)
            b_ += tl.load(rgb + 3 * place + 2, exists, 0.0)
            weight = (2 - tl.abs(a - 1)) * (2 - tl.abs(b - 1))
            weight = tl.where(covered | exists, weight, 0).to(tl.float32)
            red += weight * r
            green += weight * g
            blue += weight * b_
            total += weight
        red /= total
        green /= total
        blue /= total
    tl.store(out + 3 * n, red, inside)
    tl.store(out + 3 * n + 1, green, inside)
    tl.store(out + 3 * n + 2, blue, inside)
