"""Procedural textures for ray-cast scenes.

A texture maps surface coordinates in scene units to colours, the same on every machine. Textures
are smooth at the scale of a pixel, in a picture of 256 pixels from a few units away. So they do not
alias.
"""

import torch
from torch import Tensor

from lift.synthetic.noise import cell, fractal, noise, smoothstep
from lift.synthetic.shapes import Texture

Color = tuple[float | int, float | int, float | int]
"""Linear red, green and blue in [0, 1]."""


def mix(a: Tensor | Color, b: Tensor | Color, fraction: Tensor) -> Tensor:
    """Blend colours linearly.

    Args:
        a: Colours at fraction 0.
        b: Colours at fraction 1.
        fraction: Fraction of `b`, [point].

    Returns:
        Colours, [point, 3].
    """
    start, end = (torch.as_tensor(color, dtype=fraction.dtype) for color in (a, b))
    return start + fraction[:, None] * (end - start)


def _groove(x: Tensor, width: float, ramp: float) -> Tensor:
    """Mark grooves of `width` about every integer with 1. All lengths are fractions of a cell."""
    distance = (x - x.round()).abs()
    return 1 - smoothstep(distance, width / 2, ramp)


def plaster(color: Color, contrast: float = 0.25, scale: float = 3.0) -> Texture:
    """A painted wall with faint stains.

    Args:
        color: Colour of the paint.
        contrast: Strength of the stains, in [0, 1].
        scale: Frequency of the stains.

    Returns:
        The texture.
    """
    return lambda u, v: (
        torch.tensor(color) * (1 - contrast * (1 - fractal(scale * u, scale * v)))[:, None]
    )


def planks(light: Color, dark: Color, width: float = 0.3, length: float = 1.6) -> Texture:
    """Floor boards along v, each with its own tone and grain.

    Args:
        light: Lightest colour.
        dark: Darkest colour.
        width: Width of a board.
        length: Length of a board.

    Returns:
        The texture.
    """

    def color(u: Tensor, v: Tensor) -> Tensor:
        board = (u / width).floor()
        along = v / length + 0.37 * board
        tone = cell(board, along.floor())
        grain = fractal(14 * u + 31 * tone, 1.2 * v + 57 * tone, 3)
        seam = torch.maximum(_groove(u / width, 0.03, 0.06), _groove(along, 0.006, 0.012))
        fraction = (0.65 * tone + 0.9 * (grain - 0.35)).clamp(0, 1)
        return mix(light, dark, fraction) * (1 - 0.65 * seam)[:, None]

    return color


def wood(light: Color, dark: Color, scale: float = 1.0) -> Texture:
    """Grain along u, with rings.

    Args:
        light: Lightest colour.
        dark: Darkest colour.
        scale: Frequency of the grain.

    Returns:
        The texture.
    """

    def color(u: Tensor, v: Tensor) -> Tensor:
        u = scale * u
        v = scale * v
        warped = v + 0.25 * noise(0.9 * u, 2 * v)
        rings = 0.5 + 0.5 * torch.sin(26 * warped + 3 * noise(u, 3 * v))
        return mix(light, dark, 0.55 * rings + 0.45 * fractal(2 * u, 18 * v, 2))

    return color


def bricks(
    light: Color, dark: Color, mortar: Color, width: float = 0.5, height: float = 0.2
) -> Texture:
    """A brick wall.

    Args:
        light: Colour of bricks of tone 0.
        dark: Colour of bricks of tone 1.
        mortar: Colour of the joints.
        width: Width of a brick.
        height: Height of a brick.

    Returns:
        The texture.
    """

    def color(u: Tensor, v: Tensor) -> Tensor:
        row = (v / height).floor()
        along = u / width + 0.5 * (row.long() & 1)
        joint = torch.maximum(_groove(along, 0.05, 0.06), _groove(v / height, 0.12, 0.14))
        tone = 0.75 * cell(along.floor(), row) + 0.5 * (fractal(9 * u, 9 * v, 3) - 0.25)
        return mix(mix(light, dark, tone.clamp(0, 1)), mortar, joint)

    return color


def tiles(even_color: Color, odd_color: Color, grout: Color, size: float = 0.6) -> Texture:
    """A chequered floor of worn tiles.

    Args:
        even_color: Colour of every other tile.
        odd_color: Colour of the remaining tiles.
        grout: Colour of the joints.
        size: Side of a tile.

    Returns:
        The texture.
    """

    def color(u: Tensor, v: Tensor) -> Tensor:
        i = (u / size).floor()
        j = (v / size).floor()
        joint = torch.maximum(_groove(u / size, 0.03, 0.05), _groove(v / size, 0.03, 0.05))
        odd = ((i + j).long() & 1).float()
        brightness = 0.72 + 0.2 * cell(i, j) + 0.35 * (fractal(5 * u, 5 * v) - 0.5)
        return mix(mix(even_color, odd_color, odd) * brightness[:, None], grout, joint)

    return color


def stripes(colors: tuple[Color, ...], width: float) -> Texture:
    """Woven bands along v.

    Args:
        colors: Colours of the bands in turn.
        width: Width of a band.

    Returns:
        The texture.
    """

    def color(u: Tensor, v: Tensor) -> Tensor:
        position = u / width
        band = position.floor()
        palette = torch.tensor(colors)
        band_color = palette[band.long() % len(colors)]
        previous = palette[(band.long() - 1) % len(colors)]
        # Only half of the ramp lies in this band.
        blend = smoothstep(position - band, 0.0, 0.16) * 2 - 1
        weave = 0.85 + 0.3 * (noise(30 * u, 12 * v) - 0.5)
        return mix(0.5 * (band_color + previous), band_color, blend.clamp(0, 1)) * weave[:, None]

    return color


def marble(light: Color, dark: Color, scale: float = 2.0) -> Texture:
    """Veined stone.

    Args:
        light: Colour of the stone.
        dark: Colour of the veins.
        scale: Frequency of the veins.

    Returns:
        The texture.
    """

    def color(u: Tensor, v: Tensor) -> Tensor:
        veins = (
            torch.sin(scale * (2 * u + 3 * v) + 9 * fractal(scale * u, scale * v)) * 0.5 + 0.5
        ) ** 2
        return mix(light, dark, veins)

    return color


def leaves(light: Color, dark: Color, scale: float = 5.0) -> Texture:
    """Foliage in clumps with dark gaps.

    Args:
        light: Colour of the clumps.
        dark: Colour of the gaps.
        scale: Frequency of the clumps.

    Returns:
        The texture.
    """

    def color(u: Tensor, v: Tensor) -> Tensor:
        clumps = fractal(scale * u, scale * v, 4)
        return (
            mix(dark, light, smoothstep(clumps, 0.5, 0.5))
            * (0.75 + 0.5 * noise(0.7 * scale * u + 40, 0.7 * scale * v))[:, None]
        )

    return color


def books(width: float = 0.07) -> Texture:
    """The backs of a row of books.

    Args:
        width: Mean width of a book.

    Returns:
        The texture.
    """

    def color(u: Tensor, v: Tensor) -> Tensor:
        warped = u / width + 0.8 * noise(u / width * 0.35, torch.zeros_like(u))
        book = warped.floor()
        zero = torch.zeros_like(book)
        hue = torch.stack([cell(book, zero + k) for k in (3, 5, 7)], dim=-1)
        shade = 0.08 + 0.55 * hue * hue
        label = (
            smoothstep(v, -0.09 + 0.0, 0.02)
            * (1 - smoothstep(v, -0.03, 0.02))
            * (cell(book, zero + 9) > 0.4)
        )
        shade = shade + label[:, None] * (torch.tensor([0.75, 0.68, 0.5]) - shade)
        return shade * (1 - 0.8 * _groove(warped, 0.1, 0.2))[:, None]

    return color


def landscape(width: float, height: float) -> Texture:
    """A painting with sky, sun, two ranges of hills and a lake.

    Args:
        width: Width of the painting.
        height: Height of the painting.

    Returns:
        The texture.
    """

    def color(u: Tensor, v: Tensor) -> Tensor:
        x = u / width
        y = v / height
        sky = mix((0.16, 0.34, 0.66), (0.95, 0.72, 0.45), (y + 0.5).clamp(0, 1) * 1.4)
        cloud = smoothstep(fractal(5 * x + 3, 14 * y), 0.62, 0.3) * 0.7
        out = mix(sky, (0.98, 0.93, 0.86), cloud)
        sun = 1 - smoothstep(
            ((x - 0.2) ** 2 + ((y + 0.16) * height / width) ** 2).sqrt(), 0.09, 0.03
        )
        out = mix(out, (1.0, 0.9, 0.55), sun)
        for level, shade, seed in ((0.02, (0.22, 0.3, 0.42), 5.0), (0.14, (0.1, 0.2, 0.12), 11.0)):
            ridge = level - 0.22 * (fractal(4 * x + seed, torch.full_like(x, seed)) - 0.4)
            tone = torch.tensor(shade) * (0.7 + 0.7 * fractal(12 * x, 12 * y))[:, None]
            out = mix(
                out,
                tone,
                smoothstep(y, 0.0, 0.02).new_zeros(len(y)) + smoothstep(y - ridge, 0.0, 0.025),
            )
        lake = mix((0.16, 0.3, 0.42), (0.75, 0.66, 0.5), 0.6 * noise(4 * x, 40 * y))
        return mix(out, lake, smoothstep(y, 0.29, 0.02))

    return color


def frame(
    inner: Texture,
    width: float,
    height: float,
    frame_color: Color,
    border: float,
    bars: bool = False,
) -> Texture:
    """Surround a texture with a frame.

    Args:
        inner: The texture inside.
        width: Outer width.
        height: Outer height.
        frame_color: Colour of the frame.
        border: Width of the frame.
        bars: Whether bars divide it into a window of four panes.

    Returns:
        The texture.
    """

    def color(u: Tensor, v: Tensor) -> Tensor:
        edge = torch.minimum(width / 2 - u.abs(), height / 2 - v.abs())
        if bars:
            edge = torch.minimum(edge, torch.minimum(u.abs(), v.abs()) + border * 0.45)
        return mix(inner(u, v), frame_color, 1 - smoothstep(edge, border, 0.02))

    return color


def outdoors(horizon: float, clouds: bool = True) -> Texture:
    """A bright sky over distant trees, by azimuth and elevation or in scene units.

    Args:
        horizon: Value of v at the horizon.
        clouds: Whether the sky has clouds.

    Returns:
        The texture.
    """

    def color(u: Tensor, v: Tensor) -> Tensor:
        out = mix((0.75, 0.86, 0.95), (0.24, 0.47, 0.82), ((horizon - v) * 1.5).clamp(0, 1))
        if clouds:
            out = mix(
                out,
                (1.0, 0.99, 0.97),
                0.9 * smoothstep(fractal(2.5 * u + 7, 6 * v + 3, 5), 0.55, 0.35),
            )
        crowns = horizon - 0.09 - 0.16 * (fractal(7 * u, torch.full_like(u, 3.0), 4) - 0.3)
        trees = mix(
            (0.05, 0.12, 0.04), (0.24, 0.36, 0.13), smoothstep(fractal(16 * u, 18 * v), 0.5, 0.6)
        )
        return mix(out, trees, smoothstep(v - crowns, 0.0, 0.012))

    return color


def letters(size: float, ink: Color, paper: Color) -> Texture:
    """Printed marks in a grid, as on crates and posters.

    Args:
        size: Side of a grid cell.
        ink: Colour of the marks.
        paper: Colour of the ground.

    Returns:
        The texture.
    """

    def color(u: Tensor, v: Tensor) -> Tensor:
        i = (u / size).floor()
        j = (v / size).floor()
        a = u / size - i - 0.5
        b = v / size - j - 0.5
        kind = cell(i, j)
        disc = 1 - smoothstep((a * a + b * b).sqrt(), 0.33, 0.1)
        ring = disc * smoothstep((a * a + b * b).sqrt(), 0.18, 0.1)
        bar = (1 - smoothstep(a.abs(), 0.12, 0.1)) * (1 - smoothstep(b.abs(), 0.36, 0.1))
        mark = torch.where(kind < 0.33, disc, torch.where(kind < 0.66, ring, bar))
        return mix(mix(paper, ink, mark), (0.0, 0.0, 0.0), 0.3 * fractal(6 * u, 6 * v, 3))

    return color
