"""Arrange several pictures on one sheet, to inspect a video without playing it."""

from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor

GAP = 4
"""Pixels of white between pictures."""


def contact_sheet(
    pictures: Sequence[UInt8[Tensor, "height width 3"]], columns: int
) -> UInt8[Tensor, "sheet_height sheet_width 3"]:
    """Arrange pictures of one size in rows.

    Args:
        pictures: At least one picture, in reading order.
        columns: Number of pictures in a row, at least 1.

    Returns:
        The sheet. Cells without a picture are white.
    """
    height, width = pictures[0].shape[:2]
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    size = (rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3)
    sheet = torch.full(size, 255, dtype=torch.uint8)
    for number, picture in enumerate(pictures):
        top = (number // columns) * (height + GAP)
        left = (number % columns) * (width + GAP)
        sheet[top : top + height, left : left + width] = picture
    return sheet
