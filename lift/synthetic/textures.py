"""Procedural textures for ray-cast scenes: colours as functions of surface coordinates, in scene units, the same on every machine.

They are smooth at the scale of a pixel in a picture of 256 pixels a few units away, so that they do not alias.
"""

import torch
from torch import Tensor

from lift.synthetic.raycast import Texture

Color = tuple[float | int, float | int, float | int]

_CELLS = 256


def _random(indices: Tensor, seed: int) -> Tensor:
    """Integers scrambled into [0, 1): integer arithmetic, hence the same everywhere."""
    x = (indices + seed * 7919) & 0xFFFFFFFF
    for multiplier in (0x45D9F3B, 0x45D9F3B):
        x = (((x >> 16) ^ x) * multiplier) & 0xFFFFFFFF
    x = (x >> 16) ^ x
    return (x & 0xFFFFFF).float() / 0x1000000


_TABLE = _random(torch.arange(_CELLS * _CELLS), 1).view(_CELLS, _CELLS)
_CORNERS = torch.stack(
    [_TABLE.roll((-a, -b), (0, 1)) for a in (0, 1) for b in (0, 1)], dim=-1
).reshape(-1, 4)
"""The values at a cell's corners, side by side: one look-up instead of four."""


def _index(i: Tensor, j: Tensor) -> Tensor:
    return (i.int() & (_CELLS - 1)) * _CELLS + (j.int() & (_CELLS - 1))


def cell(i: Tensor, j: Tensor) -> Tensor:
    """A random number in [0, 1) for each cell of the integer grid (whole-numbered floats)."""
    return _TABLE.view(-1)[_index(i, j)]


def noise(u: Tensor, v: Tensor) -> Tensor:
    """Smooth noise in [0, 1] with one random value at each integer point."""
    i, j = u.floor(), v.floor()
    a, b = u - i, v - j
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    corners = _CORNERS.index_select(0, _index(i, j)).T
    return torch.lerp(
        torch.lerp(corners[0], corners[1], b), torch.lerp(corners[2], corners[3], b), a
    )


def fractal(u: Tensor, v: Tensor, octaves: int = 4) -> Tensor:
    """Noise in [0, 1] whose detail halves in strength as it doubles in frequency."""
    total, weight = torch.zeros_like(u), 0.5
    for octave in range(octaves):
        total = total + weight * noise(u + 17.3 * octave, v + 9.7 * octave)
        u, v, weight = 2 * u, 2 * v, weight / 2
    return total / (1 - 0.5**octaves)


def rise(x: Tensor, edge: float, soft: float) -> Tensor:
    """From 0 to 1 about `edge`, smoothly over `soft`."""
    t = ((x - edge) / soft + 0.5).clamp(0, 1)
    return t * t * (3 - 2 * t)


def mix(a: Tensor | Color, b: Tensor | Color, share: Tensor) -> Tensor:
    """Colours [point 3] between a and b."""
    first, second = (torch.as_tensor(color, dtype=share.dtype) for color in (a, b))
    return first + share[:, None] * (second - first)


def _groove(x: Tensor, width: float, soft: float) -> Tensor:
    """1 in the grooves of `width` about every integer, 0 between; all in parts of a cell."""
    off = (x - x.round()).abs()
    return 1 - rise(off, width / 2, soft)


def plaster(color: Color, contrast: float = 0.25, scale: float = 3.0) -> Texture:
    """A painted wall with faint stains."""
    return lambda u, v: (
        torch.tensor(color) * (1 - contrast * (1 - fractal(scale * u, scale * v)))[:, None]
    )


def planks(light: Color, dark: Color, width: float = 0.3, length: float = 1.6) -> Texture:
    """Floor boards along v, each with its tone and grain."""

    def color(u: Tensor, v: Tensor) -> Tensor:
        board = (u / width).floor()
        along = v / length + 0.37 * board
        tone = cell(board, along.floor())
        grain = fractal(14 * u + 31 * tone, 1.2 * v + 57 * tone, 3)
        seam = torch.maximum(_groove(u / width, 0.03, 0.06), _groove(along, 0.006, 0.012))
        share = (0.65 * tone + 0.9 * (grain - 0.35)).clamp(0, 1)
        return mix(light, dark, share) * (1 - 0.65 * seam)[:, None]

    return color


def wood(light: Color, dark: Color, scale: float = 1.0) -> Texture:
    """Grain along u, with rings."""

    def color(u: Tensor, v: Tensor) -> Tensor:
        u, v = scale * u, scale * v
        bent = v + 0.25 * noise(0.9 * u, 2 * v)
        rings = 0.5 + 0.5 * torch.sin(26 * bent + 3 * noise(u, 3 * v))
        return mix(light, dark, 0.55 * rings + 0.45 * fractal(2 * u, 18 * v, 2))

    return color


def bricks(
    first: Color, second: Color, mortar: Color, width: float = 0.5, height: float = 0.2
) -> Texture:
    def color(u: Tensor, v: Tensor) -> Tensor:
        row = (v / height).floor()
        along = u / width + 0.5 * (row.long() & 1)
        joint = torch.maximum(_groove(along, 0.05, 0.06), _groove(v / height, 0.12, 0.14))
        tone = 0.75 * cell(along.floor(), row) + 0.5 * (fractal(9 * u, 9 * v, 3) - 0.25)
        return mix(mix(first, second, tone.clamp(0, 1)), mortar, joint)

    return color


def tiles(first: Color, second: Color, grout: Color, size: float = 0.6) -> Texture:
    """A chequered floor of worn tiles."""

    def color(u: Tensor, v: Tensor) -> Tensor:
        i, j = (u / size).floor(), (v / size).floor()
        joint = torch.maximum(_groove(u / size, 0.03, 0.05), _groove(v / size, 0.03, 0.05))
        odd = ((i + j).long() & 1).float()
        worn = 0.72 + 0.2 * cell(i, j) + 0.35 * (fractal(5 * u, 5 * v) - 0.5)
        return mix(mix(first, second, odd) * worn[:, None], grout, joint)

    return color


def stripes(colors: tuple[Color, ...], width: float) -> Texture:
    """Woven bands along v."""

    def color(u: Tensor, v: Tensor) -> Tensor:
        position = u / width
        band = position.floor()
        palette = torch.tensor(colors)
        mine, last = palette[band.long() % len(colors)], palette[(band.long() - 1) % len(colors)]
        blend = (
            rise(position - band, 0.0, 0.16) * 2 - 1
        )  # the half of the ramp that lies in this band
        weave = 0.85 + 0.3 * (noise(30 * u, 12 * v) - 0.5)
        return mix(0.5 * (mine + last), mine, blend.clamp(0, 1)) * weave[:, None]

    return color


def marble(light: Color, dark: Color, scale: float = 2.0) -> Texture:
    def color(u: Tensor, v: Tensor) -> Tensor:
        veins = (
            torch.sin(scale * (2 * u + 3 * v) + 9 * fractal(scale * u, scale * v)) * 0.5 + 0.5
        ) ** 2
        return mix(light, dark, veins)

    return color


def leaves(light: Color, dark: Color, scale: float = 5.0) -> Texture:
    """Foliage: clumps with depth between them."""

    def color(u: Tensor, v: Tensor) -> Tensor:
        clumps = fractal(scale * u, scale * v, 4)
        return (
            mix(dark, light, rise(clumps, 0.5, 0.5))
            * (0.75 + 0.5 * noise(0.7 * scale * u + 40, 0.7 * scale * v))[:, None]
        )

    return color


def books(width: float = 0.07) -> Texture:
    """The backs of a shelf of books."""

    def color(u: Tensor, v: Tensor) -> Tensor:
        bent = u / width + 0.8 * noise(u / width * 0.35, torch.zeros_like(u))
        book = bent.floor()
        zero = torch.zeros_like(book)
        hue = torch.stack([cell(book, zero + k) for k in (3, 5, 7)], dim=-1)
        shade = 0.08 + 0.55 * hue * hue
        label = (
            rise(v, -0.09 + 0.0, 0.02) * (1 - rise(v, -0.03, 0.02)) * (cell(book, zero + 9) > 0.4)
        )
        shade = shade + label[:, None] * (torch.tensor([0.75, 0.68, 0.5]) - shade)
        return shade * (1 - 0.8 * _groove(bent, 0.1, 0.2))[:, None]

    return color


def landscape(width: float, height: float) -> Texture:
    """A painting: sky, sun, two ranges of hills, a lake."""

    def color(u: Tensor, v: Tensor) -> Tensor:
        x, y = u / width, v / height
        sky = mix((0.16, 0.34, 0.66), (0.95, 0.72, 0.45), (y + 0.5).clamp(0, 1) * 1.4)
        cloud = rise(fractal(5 * x + 3, 14 * y), 0.62, 0.3) * 0.7
        out = mix(sky, (0.98, 0.93, 0.86), cloud)
        sun = 1 - rise(((x - 0.2) ** 2 + ((y + 0.16) * height / width) ** 2).sqrt(), 0.09, 0.03)
        out = mix(out, (1.0, 0.9, 0.55), sun)
        for level, shade, seed in ((0.02, (0.22, 0.3, 0.42), 5.0), (0.14, (0.1, 0.2, 0.12), 11.0)):
            ridge = level - 0.22 * (fractal(4 * x + seed, torch.full_like(x, seed)) - 0.4)
            tone = torch.tensor(shade) * (0.7 + 0.7 * fractal(12 * x, 12 * y))[:, None]
            out = mix(out, tone, rise(y, 0.0, 0.02).new_zeros(len(y)) + rise(y - ridge, 0.0, 0.025))
        lake = mix((0.16, 0.3, 0.42), (0.75, 0.66, 0.5), 0.6 * noise(4 * x, 40 * y))
        return mix(out, lake, rise(y, 0.29, 0.02))

    return color


def framed(
    inner: Texture, width: float, height: float, frame: Color, border: float, bars: bool = False
) -> Texture:
    """`inner` within a border; with bars it is a window of four panes."""

    def color(u: Tensor, v: Tensor) -> Tensor:
        edge = torch.minimum(width / 2 - u.abs(), height / 2 - v.abs())
        if bars:
            edge = torch.minimum(edge, torch.minimum(u.abs(), v.abs()) + border * 0.45)
        return mix(inner(u, v), frame, 1 - rise(edge, border, 0.02))

    return color


def outdoors(horizon: float, clouds: bool = True) -> Texture:
    """A bright sky over far trees, by azimuth and elevation or in scene units."""

    def color(u: Tensor, v: Tensor) -> Tensor:
        out = mix((0.75, 0.86, 0.95), (0.24, 0.47, 0.82), ((horizon - v) * 1.5).clamp(0, 1))
        if clouds:
            out = mix(
                out, (1.0, 0.99, 0.97), 0.9 * rise(fractal(2.5 * u + 7, 6 * v + 3, 5), 0.55, 0.35)
            )
        crowns = horizon - 0.09 - 0.16 * (fractal(7 * u, torch.full_like(u, 3.0), 4) - 0.3)
        trees = mix((0.05, 0.12, 0.04), (0.24, 0.36, 0.13), rise(fractal(16 * u, 18 * v), 0.5, 0.6))
        return mix(out, trees, rise(v - crowns, 0.0, 0.012))

    return color


def letters(size: float, ink: Color, paper: Color) -> Texture:
    """Marks in a grid: crates, posters."""

    def color(u: Tensor, v: Tensor) -> Tensor:
        i, j = (u / size).floor(), (v / size).floor()
        a, b = u / size - i - 0.5, v / size - j - 0.5
        kind = cell(i, j)
        disc = 1 - rise((a * a + b * b).sqrt(), 0.33, 0.1)
        ring = disc * rise((a * a + b * b).sqrt(), 0.18, 0.1)
        bar = (1 - rise(a.abs(), 0.12, 0.1)) * (1 - rise(b.abs(), 0.36, 0.1))
        mark = torch.where(kind < 0.33, disc, torch.where(kind < 0.66, ring, bar))
        return mix(mix(paper, ink, mark), (0.0, 0.0, 0.0), 0.3 * fractal(6 * u, 6 * v, 3))

    return color
