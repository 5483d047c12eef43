"""Sort Gaussians so that neighbours in a file are neighbours in space."""

import numpy as np
import torch

from lift.io.splats.arrays import Array
from lift.io.splats.checks import scene_extent
from lift.types import Gaussians

_BITS = 21
"""Bits of each coordinate in a Morton code of 63 bits."""


def sort_in_space(gaussians: Gaussians) -> Gaussians:
    """Sort Gaussians along a Morton curve.

    The curve runs through contracted space, where far Gaussians are close to one another. So a few
    of them do not share a block of a file with near ones.

    Args:
        gaussians: Gaussians without a view axis.

    Returns:
        The same Gaussians in another order, which is the same for any order of the input up to
        equal positions.
    """
    means = gaussians.means.detach().cpu().double()
    offsets = (means - means.median(0).values).numpy()
    contracted = np.sign(offsets) * np.log1p(np.abs(offsets) / (scene_extent(gaussians) or 1.0))
    order = torch.from_numpy(np.argsort(_morton_codes(contracted), kind="stable"))
    return gaussians.map(lambda value: value[order.to(value.device)])


def _morton_codes(points: Array) -> np.ndarray:
    """Interleave the bits of the coordinates of points [n 3], within their bounds."""
    low = points.min(axis=0)
    span = float((points.max(axis=0) - low).max()) or 1.0
    cells = ((points - low) / span * (2**_BITS - 1)).astype(np.uint64)
    codes = np.zeros(len(points), np.uint64)
    for axis in range(3):
        codes |= _spread_bits(cells[:, axis]) << np.uint64(axis)
    return codes


def _spread_bits(values: np.ndarray) -> np.ndarray:
    """Move bit k of numbers of 21 bits to bit 3 k."""
    for shift, mask in (
        (32, 0x1F00000000FFFF),
        (16, 0x1F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        values = (values | (values << np.uint64(shift))) & np.uint64(mask)
    return values
