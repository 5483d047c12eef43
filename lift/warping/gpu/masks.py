"""Dilation of masks, and nearest pixels of masks, on tensors of any device."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.functional import max_pool2d

CHUNK_ELEMENTS = 2**26
"""Largest number of values that one step computes."""

Mask = Bool[Tensor, "height width"]
Pixels = Int[Tensor, "target 2"]
"""Row and column of pixels."""


def dilate(mask: Mask, radius: int) -> Mask:
    """Dilate a mask by a square of `radius` pixels to each side."""
    size = 2 * radius + 1
    tall = max_pool2d(mask[None, None].float(), (size, 1), 1, (radius, 0))
    return max_pool2d(tall, (1, size), 1, (0, radius))[0, 0] > 0


def nearest_source(source: Mask, pixels: Pixels | None = None) -> Int[Tensor, "*pixel 2"]:
    """Find row and column of the nearest source pixel. At least one pixel must be a source.

    Each column has a nearest source pixel per row. The search along rows compares all columns.

    Args:
        source: Mask of the source pixels.
        pixels: Row and column of the pixels to search for. None: all pixels.

    Returns:
        Row and column for each of `pixels`, or [height, width, 2].
    """
    height, width = source.shape
    rows, columns = (torch.arange(n, device=source.device) for n in (height, width))
    if pixels is None:
        grid = torch.cartesian_prod(rows, columns)
        return nearest_source(source, grid).reshape(height, width, 2)
    far = 4 * (height + width)
    above = torch.where(source, rows[:, None], -far).cummax(0).values
    below = torch.where(source, rows[:, None], far).flip(0).cummin(0).values.flip(0)
    is_above = rows[:, None] - above <= below - rows[:, None]
    row = torch.where(is_above, above, below)
    squared = (row - rows[:, None]).float().square()
    found = []
    for part in pixels.split(max(CHUNK_ELEMENTS // width, 1)):
        i, j = part.unbind(1)
        distance = (columns.float() - j.float()[:, None]).square_().add_(squared[i])
        column = distance.argmin(1)
        found.append(torch.stack([row[i, column], column], 1))
    return torch.cat(found)
