"""Continue a picture beyond its border, for views that look past it."""

import cv2
import numpy as np

from lift.warping.fill import push_pull
from lift.warping.patches import PATCH_RADIUS, fill_with_patches, nearest_source

RINGS = 8
"""Number of rings that are filled one after another, from the inside out."""
SWEEPS = (2, 1)
"""Sweeps of the search for patches at the coarsest level, and at each finer one.

The search starts from good matches. More sweeps cost time and measure no better.
"""
MAX_DEPTH_RATIO = 0.12
"""Largest logarithm of the ratio of two depths at which the mirrored pixel is a good match."""
MEDIAN_SIZE = 5
"""Width in pixels of the median filter of the depth along the border."""


def extend_picture(
    image: np.ndarray, depth: np.ndarray, margin: int
) -> tuple[np.ndarray, np.ndarray]:
    """Continue a picture and its depth beyond all four borders.

    Depth keeps the value that it has at the border. Colours come from patches of the picture at
    similar depth, ring by ring, so that lines continue. The search for patches starts from the
    mirrored picture where its depth is similar, so that large structures continue, too.

    Args:
        image: Colours in 0..255, [height, width, 3] uint8.
        depth: z-depth without gaps, [height, width].
        margin: Number of new pixels on each side, less than either side of the picture.

    Returns:
        Colours uint8 and z-depth, [height + 2 margin, width + 2 margin]. The picture is unchanged.
    """
    rgb = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    rgb = rgb.astype(np.float32)
    wide_depth = _extend_depth(depth, margin)
    inverse = (1 / wide_depth).astype(np.float32)
    height, width = wide_depth.shape
    mirrored, is_good = _mirrored_matches(inverse, depth.shape, margin)
    for ring in range(RINGS):
        outer = margin - margin * (ring + 1) // RINGS
        inner = margin - margin * ring // RINGS
        if inner == outer:
            continue
        part = np.s_[outer : height - outer, outer : width - outer]
        hole = np.ones((height, width), bool)
        hole[inner : height - inner, inner : width - inner] = False
        hole = hole[part]
        smooth = np.where(hole[..., None], push_pull(rgb[part], ~hole), rgb[part])
        match = np.where(is_good[part][..., None], mirrored[part] - outer, _nearest_match(hole))
        rgb[part] = fill_with_patches(
            smooth, inverse[part], hole, np.zeros_like(hole), match.astype(np.int32), SWEEPS
        )
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8), wide_depth


def _mirrored_matches(
    inverse: np.ndarray, shape: tuple[int, ...], margin: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the mirrored pixel of each pixel, and whether its depth is similar.

    Args:
        inverse: Inverse depth of the extended picture.
        shape: Height and width of the picture.
        margin: Number of new pixels on each side.

    Returns:
        Row and column, [height, width, 2], and a mask, all of the extended picture.
    """
    rows, columns = (_mirrored(side, margin) + margin for side in shape)
    match = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
    log = np.log(inverse)
    return match, np.abs(log[rows][:, columns] - log) < MAX_DEPTH_RATIO


def _nearest_match(hole: np.ndarray) -> np.ndarray:
    """Find the nearest known pixel whose patch lies within the picture."""
    source = np.zeros_like(hole)
    inside = np.s_[PATCH_RADIUS:-PATCH_RADIUS, PATCH_RADIUS:-PATCH_RADIUS]
    source[inside] = ~hole[inside]
    return nearest_source(source if source.any() else ~hole)


def _mirrored(side: int, margin: int) -> np.ndarray:
    """Return the row or column of the picture that each one of the extended picture shows."""
    index = np.abs(np.arange(-margin, side + margin))
    return np.where(index < side, index, 2 * (side - 1) - index)


def _extend_depth(depth: np.ndarray, margin: int) -> np.ndarray:
    """Continue depth at a right angle to the border. Single pixels at the border do not count."""
    line = cv2.medianBlur(np.pad(depth, 1, mode="edge").astype(np.float32), MEDIAN_SIZE)
    smooth = np.pad(line[1:-1, 1:-1], margin, mode="edge")
    smooth[margin:-margin, margin:-margin] = depth
    return smooth
