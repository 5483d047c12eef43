"""Subpixel positions of matched keypoints.

Networks find keypoints to about half a pixel. So each track is aligned to the patch around one of
its observations, by translation. Brightness and contrast of the patches may differ.

Reference:
    Lucas and Kanade, "An iterative image registration technique", IJCAI 1981, in the inverse
    compositional form of Baker and Matthews, "Lucas-Kanade 20 years on", IJCV 2004.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import UInt8
from numba import prange
from torch import Tensor

from lift.poses.sfm.state import Observations
from lift.runtime.jit import PARALLEL, njit_cached, parallel_lock, to_numpy
from lift.runtime.parallel import parallel_map

RADIUS = 4
"""Half width of a patch, in pixels."""
MAX_STEPS = 15
"""Largest number of steps of one alignment."""
MAX_SHIFT = 2.0
"""Largest correction in pixels; a larger one is discarded."""
MIN_CORRELATION = 0.85
"""Smallest normalized cross-correlation of aligned patches."""
UNREFINED_WEIGHT = 0.25
"""Weight of an observation that could not be aligned."""


def refine_observations(
    observations: Observations, images: UInt8[Tensor, "frame height width 3"]
) -> Observations:
    """Correct the positions of observations by their images.

    Args:
        observations: Observed points, to about a pixel.
        images: The frames.

    Returns:
        The observations with new positions. An observation that could not be aligned keeps its
        position and is weighted by UNREFINED_WEIGHT.
    """
    if not len(observations):
        return observations
    grey = torch.stack(parallel_map(lambda image: image.float().mean(-1).cpu(), images))
    order = (observations.point * len(images) + observations.frame).argsort().cpu()
    point = observations.point.cpu()[order]
    start = torch.cat([point.new_zeros(1), torch.bincount(point).cumsum(0)])
    frame = observations.frame.cpu()[order]
    pixel = observations.pixel.cpu()[order].double()
    arrays = (to_numpy(grey), to_numpy(start), to_numpy(frame), to_numpy(pixel))
    with parallel_lock:
        moved, good = _align_tracks(*arrays)
    new = torch.empty_like(pixel)
    new[order] = torch.from_numpy(moved)
    weight = torch.empty(len(pixel), dtype=torch.float64)
    weight[order] = torch.where(torch.from_numpy(good), 1.0, UNREFINED_WEIGHT).double()
    return replace(
        observations,
        pixel=new.to(observations.pixel),
        weight=observations.weight * weight.to(observations.weight),
    )


@njit_cached(parallel=PARALLEL)
def _align_tracks(images, start, frame, pixel):
    """Align each track to its middle observation."""
    positions = pixel.copy()
    good = np.zeros(len(pixel), np.bool_)
    for track in prange(len(start) - 1):
        first = start[track]
        last = start[track + 1]
        if last - first < 2:
            continue
        middle = (first + last) // 2
        good[middle] = True
        template = images[frame[middle]]
        for other in range(first, last):
            if other != middle:
                aligned, x, y = _align(template, pixel[middle], images[frame[other]], pixel[other])
                if aligned:
                    positions[other, 0] = x
                    positions[other, 1] = y
                    good[other] = True
    return positions, good


@njit_cached()
def _sample(image, x, y):
    """Sample brightness bilinearly; pixel centers are at +0.5."""
    u = x - 0.5
    v = y - 0.5
    j = int(np.floor(u))
    i = int(np.floor(v))
    s = v - i
    t = u - j
    top = image[i, j] + t * (image[i, j + 1] - image[i, j])
    bottom = image[i + 1, j] + t * (image[i + 1, j + 1] - image[i + 1, j])
    return top + s * (bottom - top)


@njit_cached()
def _inside(image, x, y):
    """Tell whether a patch and its gradients are inside the image."""
    height, width = image.shape
    border = RADIUS + 2
    return border < x < width - border and border < y < height - border


@njit_cached()
def _align(template, center, image, start):
    """Align one patch; return whether it succeeded, and the position."""
    size = 2 * RADIUS + 1
    count = size * size
    if not _inside(template, center[0], center[1]):
        return False, 0.0, 0.0
    patch = np.empty(count)
    slope_x = np.empty(count)
    slope_y = np.empty(count)
    k = 0
    for i in range(size):
        for j in range(size):
            x = center[0] + j - RADIUS
            y = center[1] + i - RADIUS
            patch[k] = _sample(template, x, y)
            slope_x[k] = (_sample(template, x + 1, y) - _sample(template, x - 1, y)) / 2
            slope_y[k] = (_sample(template, x, y + 1) - _sample(template, x, y - 1)) / 2
            k += 1
    patch -= patch.mean()
    slope_x -= slope_x.mean()
    slope_y -= slope_y.mean()
    norm = np.sqrt((patch * patch).sum())
    xx = (slope_x * slope_x).sum()
    xy = (slope_x * slope_y).sum()
    yy = (slope_y * slope_y).sum()
    determinant = xx * yy - xy * xy
    if norm < 1e-6 or determinant < 1e-3 * (xx + yy) ** 2 / 4 + 1e-9:
        return False, 0.0, 0.0
    x = start[0]
    y = start[1]
    values = np.empty(count)
    correlation = 0.0
    for _ in range(MAX_STEPS):
        if not _inside(image, x, y) or (x - start[0]) ** 2 + (y - start[1]) ** 2 > MAX_SHIFT**2:
            return False, 0.0, 0.0
        k = 0
        for i in range(size):
            for j in range(size):
                values[k] = _sample(image, x + j - RADIUS, y + i - RADIUS)
                k += 1
        values -= values.mean()
        other_norm = np.sqrt((values * values).sum())
        if other_norm < 1e-6:
            return False, 0.0, 0.0
        correlation = (values * patch).sum() / (norm * other_norm)
        error = values * (norm / other_norm) - patch
        bx = (slope_x * error).sum()
        by = (slope_y * error).sum()
        dx = (yy * bx - xy * by) / determinant
        dy = (xx * by - xy * bx) / determinant
        x -= dx
        y -= dy
        if dx * dx + dy * dy < 1e-4:
            break
    if correlation < MIN_CORRELATION or not _inside(image, x, y):
        return False, 0.0, 0.0
    return True, x, y
