"""Rasterise the cells of a textured surface on a CUDA device. Twin of `surface_kernels.rasterize`.

Every lattice sample that a triangle may cover becomes a candidate. Each sample keeps the nearest.
Where Triton is installed, its kernels draw all triangles but the largest.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from lift.runtime.jit import can_use_triton
from lift.warping.surface_kernels import FIRST_VIEW_MARGIN

MAX_CANDIDATES = 1 << 23
"""Samples that are tested at once. It bounds the memory: each takes about 150 bytes."""

TOLERANCE = 1e-3
"""Width in samples, and in barycentric coordinates, by which triangles overlap their neighbours."""

INDEX_BITS = 32
"""Bits of a sample's key that say which triangle it shows. Those above are its inverse depth."""

INDEX_MASK = (1 << INDEX_BITS) - 1


def rasterize(
    corners: Float[Tensor, "cell 4 3"],
    cells: Int[Tensor, "cell 3"],
    flags: UInt8[Tensor, "cell"],
    matrix: Float[Tensor, "3 4"],
    min_depth: float,
    shape: tuple[int, int],
) -> tuple[Float[Tensor, "row column"], Int[Tensor, "row column"], Float[Tensor, "row column 2"]]:
    """Project all cells, and find the nearest at each sample of the lattice.

    Args:
        corners: World positions of the cells' corners.
        cells: Layer, row and column of the cells.
        flags: Flags of the cells.
        matrix: Projection to the lattice.
        min_depth: Near plane in scene units.
        shape: Rows and columns of the lattice.

    Returns:
        Inverse depth, 0 in holes; cell, -1 in holes; and position in the cell.
    """
    keys = draw(corners, cells, flags, matrix, min_depth, shape)
    if can_use_triton(corners, matrix):
        from lift.warping.gpu import surface_triton

        return surface_triton.resolve(keys, corners, cells, matrix, min_depth, shape)
    return _samples(keys, _project(corners, matrix, min_depth), shape)


def draw(
    corners: Float[Tensor, "cell 4 3"],
    cells: Int[Tensor, "cell 3"],
    flags: UInt8[Tensor, "cell"],
    matrix: Float[Tensor, "3 4"],
    min_depth: float,
    shape: tuple[int, int],
) -> Int[Tensor, "sample"]:
    """Find the nearest triangle at each sample of the lattice.

    Args:
        corners: World positions of the cells' corners.
        cells: Layer, row and column of the cells.
        flags: Flags of the cells.
        matrix: Projection to the lattice.
        min_depth: Near plane in scene units.
        shape: Rows and columns of the lattice.

    Returns:
        A key for each sample, row by row: 0 in holes, else inverse depth and triangle.
    """
    if not can_use_triton(corners, matrix):
        keys = torch.zeros(shape[0] * shape[1], dtype=torch.int64, device=corners.device)
        cells_to_draw = torch.arange(len(corners), device=corners.device)
    else:
        from lift.warping.gpu import surface_triton

        keys, large = surface_triton.draw(corners, cells, flags, matrix, min_depth, shape)
        cells_to_draw = large.view(-1, 2).any(1).nonzero()[:, 0]
    if len(cells_to_draw):
        corner_samples = _project(corners[cells_to_draw], matrix, min_depth)
        _draw_all(
            keys,
            corner_samples,
            cells[cells_to_draw, 0] > 0,
            flags[cells_to_draw],
            cells_to_draw,
            shape,
        )
    return keys


def _project(
    corners: Float[Tensor, "cell 4 3"], matrix: Float[Tensor, "3 4"], min_depth: float
) -> Float[Tensor, "cell 4 3"]:
    """Return column, row and inverse depth of corners. The latter is 0 behind the near plane."""
    projected = corners @ matrix[:, :3].T + matrix[:, 3]
    w = 1 / projected[..., 2]
    w = w.where(projected[..., 2] >= min_depth, torch.zeros_like(w))
    return torch.stack([projected[..., 0] * w, projected[..., 1] * w, w], -1)


def _draw_all(
    keys: Int[Tensor, "sample"],
    corners: Float[Tensor, "cell 4 3"],
    is_later: Bool[Tensor, "cell"],
    flags: UInt8[Tensor, "cell"],
    numbers: Int[Tensor, "cell"],
    shape: tuple[int, int],
) -> None:
    """Draw all triangles of cells.

    Args:
        keys: Key of each sample. Changed in place.
        corners: Column, row and inverse depth of the cells' corners.
        is_later: Whether a cell is of a layer after the first.
        flags: Flags of the cells.
        numbers: Numbers of the cells in the surface.
        shape: Rows and columns of the lattice.
    """
    triangles, low, size = _triangles(corners, shape)
    bias = torch.where(is_later, 1 - FIRST_VIEW_MARGIN, 1.0).to(corners)
    for part in _parts(size):
        index = triangles[part]
        which, row, column = _candidates(low[part], size[part])
        index = index[which]
        value, u, v = _position(corners, index, row, column)
        cell = index // 2
        value = value * bias[cell]
        value = value.where(_covers(flags[cell], u, v), torch.zeros_like(value))
        number = 2 * numbers[cell] + index % 2
        key = (value.view(torch.int32).long() << INDEX_BITS) | (INDEX_MASK - number)
        key = key.where(value > 0, torch.zeros_like(key))
        keys.scatter_reduce_(0, row * shape[1] + column, key, "amax")


def _triangles(
    corners: Float[Tensor, "cell 4 3"], shape: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Select the triangles that face the camera, and the samples around each.

    Args:
        corners: Column, row and inverse depth of the cells' corners. The latter is 0 behind the
            near plane.
        shape: Rows and columns of the lattice.

    Returns:
        Index of each triangle, twice that of its cell and one more for the second half; first row
        and column; and number of rows and columns.
    """
    a, b, c = _halves(corners)
    area = _cross(b - a, c - a)
    points = torch.stack([a, b, c])[..., :2]
    limits = torch.tensor([shape[1], shape[0]], device=corners.device).to(corners)
    low = (points.amin(0) - TOLERANCE).ceil().clamp(min=0).minimum(limits)
    high = (points.amax(0) + TOLERANCE).floor().clamp(min=-1).minimum(limits - 1)
    size = (high - low + 1).clamp(min=0)
    in_front = (corners[..., 2].amin(1) > 0)[:, None]
    chosen = (in_front & (area >= 1e-7) & (size.prod(-1) > 0)).flatten().nonzero()[:, 0]
    low = low.flatten(0, 1)[chosen].flip(1).long()
    size = size.flatten(0, 1)[chosen].flip(1).long()
    return chosen, low, size


def _halves(corners: Float[Tensor, "cell 4 3"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the corners of both triangles of cells [cell 2 3], the right angle first."""
    a = corners[:, [0, 3]]
    b = corners[:, [1, 2]]
    c = corners[:, [2, 1]]
    return a, b, c


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _parts(size: Int[Tensor, "triangle 2"]) -> Iterator[slice]:
    """Split triangles into parts of at most `MAX_CANDIDATES` samples, or of one triangle."""
    total = size.prod(1).cumsum(0)
    count = len(total)
    start = 0
    done = 0
    while start < count:
        if int(total[-1]) - done <= MAX_CANDIDATES:
            stop = count
        else:
            stop = int(torch.searchsorted(total, done + MAX_CANDIDATES, right=True))
            stop = max(stop, start + 1)
        yield slice(start, stop)
        done = int(total[stop - 1])
        start = stop


def _candidates(
    low: Int[Tensor, "triangle 2"], size: Int[Tensor, "triangle 2"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return each sample in the boxes of triangles: the triangle's number, row and column."""
    count = size.prod(1)
    numbers = torch.arange(len(count), device=count.device)
    which = torch.repeat_interleave(numbers, count)
    first = count.cumsum(0) - count
    place = torch.arange(len(which), device=count.device) - first[which]
    columns = size[which, 1]
    row = low[which, 0] + place // columns
    column = low[which, 1] + place % columns
    return which, row, column


def _position(
    corners: Float[Tensor, "cell 4 3"],
    triangle: Int[Tensor, "sample"],
    row: Int[Tensor, "sample"],
    column: Int[Tensor, "sample"],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the inverse depth of samples of triangles, 0 outside, and their place in the cell."""
    cell = triangle // 2
    second = triangle % 2
    a = corners[cell, 3 * second]
    ab = corners[cell, 1 + second] - a
    ac = corners[cell, 2 - second] - a
    scale = 1 / _cross(ab, ac)
    dx = column - a[:, 0]
    dy = row - a[:, 1]
    s = (dx * ac[:, 1] - dy * ac[:, 0]) * scale
    t = (ab[:, 0] * dy - ab[:, 1] * dx) * scale
    inside = (s >= -TOLERANCE) & (t >= -TOLERANCE) & (s + t <= 1 + TOLERANCE)
    value = a[:, 2] + s * ab[:, 2] + t * ac[:, 2]
    is_first = second == 0
    # The second triangle has its right angle at the cell's lower right.
    u = s.where(is_first, 1 - s)
    v = t.where(is_first, 1 - t)
    return value.where(inside, torch.zeros_like(value)), u, v


def _covers(flags: UInt8[Tensor, "sample"], u: Tensor, v: Tensor) -> Bool[Tensor, "sample"]:
    """Return whether samples lie in the quarters that belong to their cell's piece.

    A sample halfway between two corners belongs to both. So there is no crack between the pieces of
    a cut cell.
    """
    left = u < 0.501
    right = u > 0.499
    above = v < 0.501
    below = v > 0.499
    quarters = (above & left, above & right, below & left, below & right)
    member = torch.zeros_like(left)
    for number, quarter in enumerate(quarters):
        member |= quarter & ((flags & (1 << number)) > 0)
    return member


def _samples(
    keys: Int[Tensor, "sample"], corners: Float[Tensor, "cell 4 3"], shape: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return inverse depth, cell and position in the cell of the samples with these keys."""
    known = keys > 0
    triangle = (INDEX_MASK - (keys & INDEX_MASK)).where(known, torch.zeros_like(keys))
    index = torch.arange(len(keys), device=keys.device)
    if len(corners):
        value, u, v = _position(corners, triangle, index // shape[1], index % shape[1])
    else:
        value = u = v = torch.zeros(len(keys), device=keys.device)
    zero = torch.zeros_like(value)
    cell = (triangle // 2).where(known, torch.full_like(keys, -1))
    uv = torch.stack([u.where(known, zero), v.where(known, zero)], -1).clamp(0, 1)
    return (
        value.where(known, zero).view(shape),
        cell.view(shape),
        uv.view(*shape, 2),
    )
