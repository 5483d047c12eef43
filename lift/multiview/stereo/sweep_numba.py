"""The plane sweep as compiled loops for the CPU. See `lift.multiview.stereo.sweep`."""

import numpy as np
from numba import prange

from lift.runtime.jit import PARALLEL, njit_cached

FLAT = np.float32((2.0 / 255) ** 2)
"""Added to variances. It makes windows with little contrast match everything equally."""


@njit_cached(fastmath=True, parallel=PARALLEL)
def sweep(images, homographies, offsets, planes, radius, small_step, large_step, edge):
    """Estimate inverse depth and matching cost of every view.

    Args:
        images: [view, height, width], brightness in [0, 1].
        homographies: [view, neighbour, 3, 3], from pixels of the view to pixels of the neighbour.
        offsets: [view, neighbour, 4]: the offset per inverse depth, and the neighbour's index.
        planes: [view, plane], inverse depths that rise in equal steps.
        radius: Half width of the window in pixels.
        small_step: Penalty of a change by one plane.
        large_step: Penalty of a larger change.
        edge: Change of brightness that halves the larger penalty.

    Returns:
        Inverse depth and cost, both [view, height, width].
    """
    views, height, width = images.shape
    inverse = np.empty((views, height, width), np.float32)
    costs = np.empty((views, height, width), np.float32)
    for view in prange(views):
        volume = _volume(images, homographies[view], offsets[view], planes[view], radius, view)
        total = _aggregate(volume, images[view], small_step, large_step, edge)
        _choose(total, volume, planes[view], inverse[view], costs[view])
    return inverse, costs


@njit_cached(fastmath=True)
def _volume(images, homographies, offsets, planes, radius, view):
    """Compute costs [height, width, plane]: the mean of the better half of the neighbours."""
    _, height, width = images.shape
    count = len(planes)
    num_neighbours = len(homographies)
    volume = np.empty((height, width, count), np.float32)
    image = images[view]
    mean = np.empty_like(image)
    square = np.empty_like(image)
    _box(image, radius, mean)
    _box(image * image, radius, square)
    warped = np.empty((height, width), np.float32)
    blurred = np.empty((height, width), np.float32)
    squares = np.empty((height, width), np.float32)
    products = np.empty((height, width), np.float32)
    neighbour_costs = np.empty((num_neighbours, height, width), np.float32)
    best = np.empty(num_neighbours, np.float32)
    for plane in range(count):
        for k in range(num_neighbours):
            other = images[np.int64(offsets[k, 3])]
            _warp(other, homographies[k], offsets[k], planes[plane], warped)
            _correlate(
                image, mean, square, warped, radius, blurred, squares, products, neighbour_costs[k]
            )
        for i in range(height):
            for j in range(width):
                valid_count = 0
                for k in range(num_neighbours):
                    value = neighbour_costs[k, i, j]
                    if value < 2.0:
                        slot = valid_count
                        while slot > 0 and best[slot - 1] > value:
                            best[slot] = best[slot - 1]
                            slot -= 1
                        best[slot] = value
                        valid_count += 1
                if valid_count == 0:
                    volume[i, j, plane] = 1.0
                    continue
                half = (valid_count + 1) // 2
                total = np.float32(0.0)
                for k in range(half):
                    total += best[k]
                volume[i, j, plane] = total / np.float32(half)
    return volume


@njit_cached(fastmath=True)
def _warp(other, homography, offset, inverse, warped):
    """Warp the neighbour to the view by a plane. -1 outside of the neighbour's picture."""
    height, width = warped.shape
    other_height, other_width = other.shape
    for i in range(height):
        for j in range(width):
            x = np.float32(j + 0.5)
            y = np.float32(i + 0.5)
            w = homography[2, 0] * x + homography[2, 1] * y + homography[2, 2] + inverse * offset[2]
            u = homography[0, 0] * x + homography[0, 1] * y + homography[0, 2] + inverse * offset[0]
            v = homography[1, 0] * x + homography[1, 1] * y + homography[1, 2] + inverse * offset[1]
            if w <= np.float32(1e-6):
                warped[i, j] = -1.0
                continue
            u = u / w - np.float32(0.5)
            v = v / w - np.float32(0.5)
            if not (u >= 0 and v >= 0 and u < other_width - 1 and v < other_height - 1):
                warped[i, j] = -1.0
                continue
            a = np.int64(v)
            b = np.int64(u)
            s = v - np.float32(a)
            t = u - np.float32(b)
            top = other[a, b] + t * (other[a, b + 1] - other[a, b])
            bottom = other[a + 1, b] + t * (other[a + 1, b + 1] - other[a + 1, b])
            warped[i, j] = top + s * (bottom - top)


@njit_cached(fastmath=True)
def _correlate(image, mean, square, warped, radius, blurred, squares, products, cost):
    """Compute 1 - normalised cross-correlation. 2 outside of the neighbour's picture."""
    height, width = image.shape
    for i in range(height):
        for j in range(width):
            value = warped[i, j]
            if value < 0:
                value = image[i, j]
            blurred[i, j] = value
            squares[i, j] = value * value
            products[i, j] = value * image[i, j]
    _box(blurred, radius, cost)
    _box(squares, radius, blurred)
    _box(products, radius, squares)
    for i in range(height):
        for j in range(width):
            if warped[i, j] < 0:
                cost[i, j] = 2.0
                continue
            a = mean[i, j]
            b = cost[i, j]
            variance = max(square[i, j] - a * a, np.float32(0)) + FLAT
            warped_variance = max(blurred[i, j] - b * b, np.float32(0)) + FLAT
            cost[i, j] = min(
                np.float32(1.9), 1 - (squares[i, j] - a * b) / np.sqrt(variance * warped_variance)
            )


@njit_cached(fastmath=True)
def _box(values, radius, out):
    """Compute means over windows that are cut at the border."""
    height, width = values.shape
    columns = np.zeros(width, np.float32)
    for i in range(min(radius, height)):
        for j in range(width):
            columns[j] += values[i, j]
    for i in range(height):
        if i + radius < height:
            for j in range(width):
                columns[j] += values[i + radius, j]
        if i - radius - 1 >= 0:
            for j in range(width):
                columns[j] -= values[i - radius - 1, j]
        rows = min(height - 1, i + radius) - max(0, i - radius) + 1
        total = np.float32(0.0)
        for j in range(min(radius, width)):
            total += columns[j]
        for j in range(width):
            if j + radius < width:
                total += columns[j + radius]
            if j - radius - 1 >= 0:
                total -= columns[j - radius - 1]
            columns_count = min(width - 1, j + radius) - max(0, j - radius) + 1
            out[i, j] = total / np.float32(rows * columns_count)


@njit_cached(fastmath=True)
def _aggregate(volume, image, small_step, large_step, edge):
    """Sum the costs of the best paths from the four sides."""
    height, width, count = volume.shape
    total = np.zeros((height, width, count), np.float32)
    path = np.empty((max(height, width), count), np.float32)
    next_path = np.empty(count, np.float32)
    for i in range(height):
        for direction in range(2):
            for step in range(width):
                j = step if direction == 0 else width - 1 - step
                before = j - 1 if direction == 0 else j + 1
                change = abs(image[i, j] - image[i, before]) if step else np.float32(0)
                _extend(
                    volume[i, j],
                    path[0],
                    next_path,
                    step == 0,
                    small_step,
                    large_step / (1 + change / edge),
                )
                for d in range(count):
                    path[0, d] = next_path[d]
                    total[i, j, d] += next_path[d]
    for direction in range(2):
        for step in range(height):
            i = step if direction == 0 else height - 1 - step
            before = i - 1 if direction == 0 else i + 1
            for j in range(width):
                change = abs(image[i, j] - image[before, j]) if step else np.float32(0)
                _extend(
                    volume[i, j],
                    path[j],
                    next_path,
                    step == 0,
                    small_step,
                    large_step / (1 + change / edge),
                )
                for d in range(count):
                    path[j, d] = next_path[d]
                    total[i, j, d] += next_path[d]
    return total


@njit_cached(fastmath=True)
def _extend(costs, path, next_path, is_start, small_step, large_step):
    """Extend a path by one step with Hirschmueller's recursion."""
    count = len(costs)
    if is_start:
        for d in range(count):
            next_path[d] = costs[d]
        return
    lowest = path[0]
    for d in range(1, count):
        lowest = min(lowest, path[d])
    for d in range(count):
        best = min(path[d], lowest + large_step)
        if d > 0:
            best = min(best, path[d - 1] + small_step)
        if d < count - 1:
            best = min(best, path[d + 1] + small_step)
        next_path[d] = costs[d] + best - lowest


@njit_cached(fastmath=True)
def _choose(total, volume, planes, inverse, costs):
    """Choose the plane of lowest total cost, refined by a parabola, and its matching cost."""
    height, width, count = total.shape
    step = planes[1] - planes[0]
    for i in range(height):
        for j in range(width):
            best = 0
            for d in range(1, count):
                if total[i, j, d] < total[i, j, best]:
                    best = d
            shift = np.float32(0.0)
            if 0 < best < count - 1:
                low = total[i, j, best - 1]
                mid = total[i, j, best]
                high = total[i, j, best + 1]
                bend = low - 2 * mid + high
                if bend > np.float32(1e-6):
                    shift = np.float32(0.5) * (low - high) / bend
            inverse[i, j] = planes[best] + shift * step
            costs[i, j] = volume[i, j, best]
