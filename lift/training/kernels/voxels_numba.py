"""Compiled loops that assign points to voxels on the CPU.

A voxel's key is its four integer coordinates, packed into one integer. A hash table finds the keys
in one pass over the points, without a sort.
"""

import numpy as np

from lift.runtime.jit import njit_cached

_loop = njit_cached(error_model="numpy")
_EMPTY = np.int64(-1)
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""Odd factor near 2^64 divided by the golden ratio: the high bits of products are well spread."""


@_loop
def count_voxels(angular, bounds, angle, limit):
    """Count the voxels with points, up to a limit.

    Args:
        angular: Coordinates of the points, float32 [point, 4].
        bounds: Their smallest and largest values, float32 [2, 4].
        angle: Size of a voxel, float32.
        limit: Largest number of interest.

    Returns:
        The number of voxels; `limit + 1` if there are more.
    """
    origin, span = _grid(bounds, angle)
    bits = _table_bits(limit)
    table = np.full(1 << bits, _EMPTY)
    count = 0
    for point in range(len(angular)):
        key = _key(angular[point], origin, span, angle)
        slot = _slot(table, bits, key)
        if table[slot] == _EMPTY:
            table[slot] = key
            count += 1
            if count > limit:
                break
    return count


def assign_voxels(angular, bounds, angle):
    """Find the voxel of each point. Voxels are in the order of their keys.

    Args:
        angular: Coordinates of the points, float32 [point, 4].
        bounds: Their smallest and largest values, float32 [2, 4].
        angle: Size of a voxel, float32.

    Returns:
        Index of the voxel of each point, and the number of points in each voxel.
    """
    index, keys = _number_voxels(angular, bounds, angle)
    ranks = np.empty(len(keys), np.int64)
    ranks[np.argsort(keys)] = np.arange(len(keys))
    index = ranks[index]
    return index, np.bincount(index, minlength=len(keys))


@_loop
def _number_voxels(angular, bounds, angle):
    """Number the voxels in the order of their first points. Return numbers and keys."""
    origin, span = _grid(bounds, angle)
    bits = _table_bits(len(angular))
    table = np.full(1 << bits, _EMPTY)
    numbers = np.empty(1 << bits, np.int64)
    keys = np.empty(len(angular), np.int64)
    index = np.empty(len(angular), np.int64)
    count = 0
    for point in range(len(angular)):
        key = _key(angular[point], origin, span, angle)
        slot = _slot(table, bits, key)
        if table[slot] == _EMPTY:
            table[slot] = key
            numbers[slot] = count
            keys[count] = key
            count += 1
        index[point] = numbers[slot]
    return index, keys[:count]


@_loop
def _table_bits(limit):
    """Return the binary logarithm of a table's size that is at most half full."""
    bits = 4
    while (1 << bits) < 2 * (limit + 1):
        bits += 1
    return bits


@_loop
def _grid(bounds, angle):
    """Return the smallest coordinates of voxels, and the number of voxels along each axis."""
    origin = np.empty(4, np.int64)
    span = np.empty(4, np.int64)
    for axis in range(4):
        origin[axis] = np.int64(np.floor(bounds[0, axis] / angle))
        span[axis] = np.int64(np.floor(bounds[1, axis] / angle)) - origin[axis] + 1
    return origin, span


@_loop
def _key(coordinates, origin, span, angle):
    """Pack the coordinates of a point's voxel into an integer of at least 0."""
    key = np.int64(0)
    for axis in range(4):
        cell = np.int64(np.floor(coordinates[axis] / angle)) - origin[axis]
        key = key * span[axis] + cell
    return key


@_loop
def _slot(table, bits, key):
    """Return the slot of a key, or the empty slot where it belongs."""
    slot = np.int64((np.uint64(key) * _FACTOR) >> np.uint64(64 - bits))
    while table[slot] != _EMPTY and table[slot] != key:
        slot = (slot + 1) & (len(table) - 1)
    return slot


def warm_up():
    """Compile the loops."""
    angular = np.zeros((1, 4), np.float32)
    count_voxels(angular, np.zeros((2, 4), np.float32), np.float32(1), 1)
    assign_voxels(angular, np.zeros((2, 4), np.float32), np.float32(1))
