"""Random numbers and smooth noise on a grid, the same on every machine."""

import torch
from torch import Tensor

_CELLS = 256


def _random(indices: Tensor, seed: int) -> Tensor:
    """Hash integers to [0, 1) by integer arithmetic, the same on every machine."""
    x = (indices + seed * 7919) & 0xFFFFFFFF
    for multiplier in (0x45D9F3B, 0x45D9F3B):
        x = (((x >> 16) ^ x) * multiplier) & 0xFFFFFFFF
    x = (x >> 16) ^ x
    return (x & 0xFFFFFF).float() / 0x1000000


_TABLE = _random(torch.arange(_CELLS * _CELLS), 1).view(_CELLS, _CELLS)
_CORNERS = torch.stack(
    [_TABLE.roll((-a, -b), (0, 1)) for a in (0, 1) for b in (0, 1)], dim=-1
).reshape(-1, 4)
"""The values at a cell's corners side by side, which needs one look-up instead of four."""


def _index(i: Tensor, j: Tensor) -> Tensor:
    """Flatten cell coordinates into an index of the table."""
    return (i.int() & (_CELLS - 1)) * _CELLS + (j.int() & (_CELLS - 1))


def cell(i: Tensor, j: Tensor) -> Tensor:
    """Return a random number in [0, 1) per cell of the integer grid.

    Args:
        i: Row of the cell, an integer as a float.
        j: Column of the cell, an integer as a float.

    Returns:
        Random numbers.
    """
    return _TABLE.view(-1)[_index(i, j)]


def noise(u: Tensor, v: Tensor) -> Tensor:
    """Evaluate smooth noise in [0, 1] with one random value at each integer point.

    Args:
        u: First coordinate.
        v: Second coordinate.

    Returns:
        Values of the noise.
    """
    i = u.floor()
    j = v.floor()
    a = u - i
    b = v - j
    a = a * a * (3 - 2 * a)
    b = b * b * (3 - 2 * b)
    corners = _CORNERS.index_select(0, _index(i, j)).T
    return torch.lerp(
        torch.lerp(corners[0], corners[1], b), torch.lerp(corners[2], corners[3], b), a
    )


def fractal(u: Tensor, v: Tensor, octaves: int = 4) -> Tensor:
    """Evaluate noise in [0, 1] whose amplitude halves as its frequency doubles.

    Args:
        u: First coordinate.
        v: Second coordinate.
        octaves: Number of frequencies.

    Returns:
        Values of the noise.
    """
    total = torch.zeros_like(u)
    weight = 0.5
    for octave in range(octaves):
        total = total + weight * noise(u + 17.3 * octave, v + 9.7 * octave)
        u = 2 * u
        v = 2 * v
        weight = weight / 2
    return total / (1 - 0.5**octaves)


def smoothstep(x: Tensor, edge: float, width: float) -> Tensor:
    """Rise smoothly from 0 to 1 about `edge`, over `width`.

    Args:
        x: Positions.
        edge: Position of the value 0.5.
        width: Length of the rise.

    Returns:
        Values in [0, 1].
    """
    t = ((x - edge) / width + 0.5).clamp(0, 1)
    return t * t * (3 - 2 * t)
