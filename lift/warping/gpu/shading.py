"""Colours of a textured surface on a CUDA device. Twin of `lift.warping.surface_kernels`."""

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import pad

from lift.runtime.jit import can_use_triton
from lift.warping.surface_kernels import FRONT, SHARP

SAME_SURFACE = 0.8
"""Largest distance in texture pixels between neighbouring samples of one surface."""

MAX_SAMPLES = 1 << 20
"""Samples whose colours are looked up at once. Each takes about 600 bytes of memory."""

EPSILON = 1e-6
"""Weight of a corner at least, so that weights add up to more than 0."""


def shade(
    cells: Int[Tensor, "cell 3"],
    flags: UInt8[Tensor, "cell"],
    textures: UInt8[Tensor, "layer texture_height texture_width 3"],
    cell: Int[Tensor, "row column"],
    uv: Float[Tensor, "row column 2"],
) -> tuple[Float[Tensor, "height width 3"], Bool[Tensor, "height width"]]:
    """Look up the colour of every pixel.

    Args:
        cells: Layer, row and column of the cells.
        flags: Flags of the cells.
        textures: Colours of the layers.
        cell: Cells of the lattice, -1 in holes.
        uv: Positions in the cells.

    Returns:
        Colours in 0..255, 0 in holes, and a mask of pixels on the near side of a cut.
    """
    if can_use_triton(uv):
        from lift.warping.gpu import surface_triton

        return surface_triton.shade(cells, flags, textures, cell, uv)
    cell = cell[1::2, 1::2]
    uv = uv[1::2, 1::2]
    known = cell >= 0
    index = known.flatten().nonzero()[:, 0]
    seen = cell.flatten()[index]
    rgb = torch.zeros((known.numel(), 3), device=uv.device)
    rgb[index] = _colors(cells[seen], flags[seen], textures, uv.flatten(0, 1)[index])
    front = torch.zeros(known.numel(), dtype=torch.bool, device=uv.device)
    front[index] = (flags[seen] & FRONT) > 0
    return rgb.view(*cell.shape, 3), front.view(cell.shape)


def antialias(
    cells: Int[Tensor, "cell 3"],
    flags: UInt8[Tensor, "cell"],
    textures: UInt8[Tensor, "layer texture_height texture_width 3"],
    cell: Int[Tensor, "row column"],
    uv: Float[Tensor, "row column 2"],
    rgb: Float[Tensor, "height width 3"],
) -> Float[Tensor, "height width 3"]:
    """Antialias pixels whose samples come from different surfaces.

    Such a pixel is the tent-weighted mean of its samples. A missing sample takes the colour that
    fills a neighbouring hole.

    Args:
        cells: Layer, row and column of the cells.
        flags: Flags of the cells.
        textures: Colours of the layers.
        cell: Cells of the lattice, -1 in holes.
        uv: Positions in the cells.
        rgb: Colours in 0..255 with holes filled.

    Returns:
        Antialiased colours.
    """
    if can_use_triton(uv, rgb):
        from lift.warping.gpu import surface_triton

        return surface_triton.antialias(cells, flags, textures, cell, uv, rgb)
    width = rgb.shape[1]
    hole = pad(cell[1::2, 1::2] < 0, (1, 1, 1, 1))
    fillings, exist = _holes_beside(hole)
    mixed = _mixed_pixels(cells, cell, uv, exist)
    row, column = mixed.nonzero(as_tuple=True)
    out = rgb.clone()
    if not len(row):
        return out
    down, across = torch.meshgrid(*2 * [torch.arange(3, device=rgb.device)], indexing="ij")
    sample_row = 2 * row[:, None] + down.flatten()
    sample_column = 2 * column[:, None] + across.flatten()
    sample = cell[sample_row, sample_column]
    seen = sample.clamp(min=0).flatten()
    place = uv[sample_row, sample_column].flatten(0, 1)
    color = _colors(cells[seen], flags[seen], textures, place).view(*sample.shape, 3)
    filling = fillings[:, row, column].T
    known = sample >= 0
    color = color.where(known[..., None], rgb[filling // width, filling % width])
    counts = known | exist[:, row, column].T
    weight = ((2 - (down - 1).abs()) * (2 - (across - 1).abs())).flatten() * counts
    out[row, column] = (weight[..., None] * color).sum(1) / weight.sum(1, keepdim=True)
    return out


def _mixed_pixels(
    cells: Int[Tensor, "cell 3"],
    cell: Int[Tensor, "row column"],
    uv: Float[Tensor, "row column 2"],
    beside_hole: Bool[Tensor, "9 height width"],
) -> Bool[Tensor, "height width"]:
    """Find pixels whose samples come from different surfaces.

    Args:
        cells: Layer, row and column of the cells.
        cell: Cells of the lattice.
        uv: Positions in the cells.
        beside_hole: Whether each sample of a pixel has a hole beside it.
    """
    seen = cells[cell.clamp(min=0)]
    place = seen[..., [2, 1]] + uv
    # A step between surfaces is larger than any step within one.
    place = torch.cat([place, seen[..., :1] * 4.0 * SAME_SURFACE], -1)
    center = place[1::2, 1::2]
    mixed = torch.zeros(center.shape[:2], dtype=torch.bool, device=uv.device)
    for number in range(9):
        part = _sample(number)
        differs = (place[part] - center).abs().amax(-1) > SAME_SURFACE
        mixed |= differs.where(cell[part] >= 0, beside_hole[number])
    return mixed & (cell[1::2, 1::2] >= 0)


def _sample(number: int) -> tuple[slice, slice]:
    """Return where the lattice has one of the nine samples of every pixel, row by row."""
    row, column = divmod(number, 3)
    return slice(row, row - 2 or None, 2), slice(column, column - 2 or None, 2)


def _holes_beside(
    hole: Bool[Tensor, "height_2 width_2"],
) -> tuple[Int[Tensor, "9 height width"], Bool[Tensor, "9 height width"]]:
    """Find a hole pixel beside each of the nine samples of every pixel.

    Args:
        hole: Pixels without a surface, with a border of one pixel.

    Returns:
        Index of the hole pixel, and whether there is one.
    """
    height, width = hole.shape[0] - 2, hole.shape[1] - 2
    index = torch.arange(height * width, device=hole.device).view(height, width)
    places = [
        (
            (index + row * width + column),
            hole[1 + row : 1 + row + height, 1 + column : 1 + column + width],
        )
        for row in (-1, 0, 1)
        for column in (-1, 0, 1)
    ]
    found = []
    exists = []
    for number in range(9):
        chosen = torch.zeros_like(index)
        any_hole = torch.zeros_like(places[0][1])
        for row in reversed(((0, 1), (1,), (1, 2))[number // 3]):
            for column in reversed(((0, 1), (1,), (1, 2))[number % 3]):
                place, is_hole = places[3 * row + column]
                chosen = place.where(is_hole, chosen)
                any_hole = any_hole | is_hole
        found.append(chosen)
        exists.append(any_hole)
    return torch.stack(found), torch.stack(exists)


def _colors(
    seen: Int[Tensor, "sample 3"],
    flags: UInt8[Tensor, "sample"],
    textures: UInt8[Tensor, "layer height width 3"],
    uv: Float[Tensor, "sample 2"],
) -> Float[Tensor, "sample 3"]:
    """Look up the colours of samples, in parts of at most `MAX_SAMPLES`. See `_part_colors`."""
    parts = zip(*(value.split(MAX_SAMPLES) for value in (seen, flags, uv)), strict=True)
    return torch.cat([_part_colors(a, b, textures, c) for a, b, c in parts])


def _part_colors(
    seen: Int[Tensor, "sample 3"],
    flags: UInt8[Tensor, "sample"],
    textures: UInt8[Tensor, "layer height width 3"],
    uv: Float[Tensor, "sample 2"],
) -> Float[Tensor, "sample 3"]:
    """Look up the colours of samples.

    They are Catmull-Rom away from cuts. Otherwise they are bilinear among the corners of the cell's
    own piece.

    Args:
        seen: Layer, row and column of the samples' cells.
        flags: Flags of the cells.
        textures: Colours of the layers.
        uv: Positions in the cells.
    """
    height, width = textures.shape[1:3]
    row, column = seen[:, 1] - 1, seen[:, 2] - 1
    inner = (row >= 1) & (row < height - 2) & (column >= 1) & (column < width - 2)
    sharp = (flags & SHARP > 0) & inner
    # The four corners, with weights only for those of the cell's own piece.
    corners = torch.arange(4, device=uv.device)
    down, right = corners // 2, corners % 2
    near = torch.stack([1 - uv, uv], 1)  # [sample, corner, axis]
    linear = near[:, right, 0] * near[:, down, 1] + EPSILON
    linear = linear * (flags[:, None] & (1 << corners) > 0)
    linear = linear / linear.sum(1, keepdim=True).clamp(min=EPSILON)
    smooth = (_cubic(uv[:, 1])[:, :, None] * _cubic(uv[:, 0])[:, None]).flatten(1)
    # Both are weights of the same 4 x 4 pixels, whose second row and column are the corners.
    weights = torch.zeros_like(smooth)
    weights[:, 5 + 4 * down + right] = linear
    weights = smooth.where(sharp[:, None], weights)
    steps = torch.arange(-1, 3, device=uv.device)
    rows = (row[:, None] + steps).clamp(0, height - 1) + seen[:, :1] * height
    columns = (column[:, None] + steps).clamp(0, width - 1)
    pixels = textures.view(-1, 3)[rows[:, :, None] * width + columns[:, None]]
    # A product of matrices would be a tiny one for each sample, which is slow.
    return (weights[:, :, None] * pixels.flatten(1, 2)).sum(1)


def _cubic(t: Float[Tensor, "sample"]) -> Float[Tensor, "sample 4"]:
    """Compute Catmull-Rom weights, which interpolate and stay sharper than bilinear weights."""
    return torch.stack(
        [
            ((-t + 2) * t - 1) * t / 2,
            ((3 * t - 5) * t * t + 2) / 2,
            ((-3 * t + 4) * t + 1) * t / 2,
            (t - 1) * t * t / 2,
        ],
        1,
    )
