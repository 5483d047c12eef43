"""Sort the Gaussians of every view into tiles and by depth."""

import numpy as np
from numba import prange

from lift.renderers.cpu.compile import compile_kernel
from lift.renderers.cpu.lanes import WIDTH
from lift.runtime.jit import PARALLEL

TILE_WIDTH = 64
"""Pixels of a tile across."""

TILE_HEIGHT = 16
"""Pixels of a tile down."""

LINE = TILE_WIDTH + WIDTH
"""Length of what a tile stores of one quantity for a row of pixels.

Lanes may start at any pixel and run over the tile's right edge.
"""

NUM_PARTS = 8
"""Number of parts in which the Gaussians of a view are sorted into tiles."""


@compile_kernel()
def _tiles_of(box):
    """Return the first and last row, and the first and last column, of a box's tiles."""
    return box[1] // TILE_HEIGHT, box[3] // TILE_HEIGHT, box[0] // TILE_WIDTH, box[2] // TILE_WIDTH


@compile_kernel()
def _count_tiles(boxes, radii, across, counts):
    """Count the Gaussians that touch each tile."""
    for i in range(len(radii)):
        if radii[i] > 0:
            top, bottom, left, right = _tiles_of(boxes[i])
            for row in range(top, bottom + 1):
                for column in range(left, right + 1):
                    counts[row * across + column] += 1


@compile_kernel()
def _fill_tiles(boxes, radii, splats, start, across, cursor, entries, depths):
    """Write each Gaussian and its depth where the cursors of its tiles point.

    `start` is the index of the first Gaussian.
    """
    for i in range(len(radii)):
        if radii[i] > 0:
            top, bottom, left, right = _tiles_of(boxes[i])
            depth = splats[i, 9]
            for row in range(top, bottom + 1):
                for column in range(left, right + 1):
                    k = cursor[row * across + column]
                    entries[k] = start + i
                    depths[k] = depth
                    cursor[row * across + column] = k + 1


@compile_kernel()
def _sort(entries, keys, spare_entries, spare_keys):
    """Sort entries by keys, stably, with a radix sort.

    Keys are the bits of positive floats, which rise with the floats. After four passes the
    result is in `entries` again.
    """
    offsets = np.empty(257, np.int64)
    for shift in (0, 8, 16, 24):
        offsets[:] = 0
        for k in range(len(keys)):
            offsets[((keys[k] >> np.uint32(shift)) & np.uint32(255)) + np.uint32(1)] += 1
        for digit in range(256):
            offsets[digit + 1] += offsets[digit]
        for k in range(len(keys)):
            digit = (keys[k] >> np.uint32(shift)) & np.uint32(255)
            spare_entries[offsets[digit]] = entries[k]
            spare_keys[offsets[digit]] = keys[k]
            offsets[digit] += 1
        entries, spare_entries = spare_entries, entries
        keys, spare_keys = spare_keys, keys


@compile_kernel(parallel=PARALLEL)
def bin_by_tile(splats, boxes, radii, num_entries, width, height):
    """Return tile_starts and entries.

    Parts of the Gaussians are counted and written side by side, in their order. Each tile then
    sorts its entries by depth.

    Args:
        splats: Splats, of which only the depth is read, float32 [view gaussian 12].
        boxes: Pixels left, top, right, bottom, inclusive, int32 [view gaussian 4].
        radii: Radii in pixels, 0 where culled, float32 [view gaussian].
        num_entries: Number of (tile, Gaussian) pairs: the sum of `num_tiles` from `project`.
        width: Width of the pictures in pixels.
        height: Height of the pictures in pixels.
    """
    views, count = radii.shape
    across = (width + TILE_WIDTH - 1) // TILE_WIDTH
    down = (height + TILE_HEIGHT - 1) // TILE_HEIGHT
    tiles = across * down
    size = (count + NUM_PARTS - 1) // NUM_PARTS
    cursors = np.zeros((views, NUM_PARTS, tiles), np.int64)
    for job in prange(views * NUM_PARTS):
        view = job // NUM_PARTS
        part = job % NUM_PARTS
        members = slice(part * size, min((part + 1) * size, count))
        _count_tiles(boxes[view, members], radii[view, members], across, cursors[view, part])
    tile_starts = np.zeros(views * tiles + 1, np.int64)
    k = 0
    for view in range(views):
        for tile in range(tiles):
            for part in range(NUM_PARTS):
                part_length = cursors[view, part, tile]
                cursors[view, part, tile] = k
                k += part_length
            tile_starts[view * tiles + tile + 1] = k
    entries = np.empty(num_entries, np.int32)
    depths = np.empty(num_entries, np.float32)
    for job in prange(views * NUM_PARTS):
        view = job // NUM_PARTS
        part = job % NUM_PARTS
        start = part * size
        members = slice(start, min((part + 1) * size, count))
        _fill_tiles(
            boxes[view, members],
            radii[view, members],
            splats[view, members],
            start,
            across,
            cursors[view, part],
            entries,
            depths,
        )
    keys = depths.view(np.uint32)
    for tile in prange(views * tiles):
        members = slice(tile_starts[tile], tile_starts[tile + 1])
        length = tile_starts[tile + 1] - tile_starts[tile]
        _sort(
            entries[members],
            keys[members],
            np.empty(length, np.int32),
            np.empty(length, np.uint32),
        )
    return tile_starts, entries


@compile_kernel()
def scatter_job(job, jobs):
    """Permute job numbers so that neighbours are far apart.

    Threads take runs of jobs, and busy tiles lie side by side.

    Args:
        job: Number of the job, from 0 to `jobs` - 1.
        jobs: Number of all jobs, at least 1.
    """
    step = max(int(jobs * 0.618), 1)
    while np.gcd(step, jobs) != 1:
        step += 1
    return job * step % jobs
