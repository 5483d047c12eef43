"""Codebooks of numbers, and palettes of vectors."""

import numpy as np

from lift.io.splats.arrays import Array

CODEBOOK = 256
"""Entries of a codebook of numbers."""


def make_codebook(values: Array) -> Array:
    """Choose 256 sorted numbers that represent many.

    One half of the entries is spread evenly over the range, so that no value is far from its entry.
    The other half are quantiles, so that frequent values are close to theirs.

    Args:
        values: Numbers of any shape, at least one.

    Returns:
        The entries [256], sorted. Few different values are entries themselves.
    """
    unique = np.unique(values.astype(np.float32)).astype(float)
    if len(unique) <= CODEBOOK:
        return np.pad(unique, (0, CODEBOOK - len(unique)), mode="edge")
    even = np.linspace(unique[0], unique[-1], CODEBOOK // 2)
    quantiles = np.quantile(values, (np.arange(CODEBOOK // 2) + 0.5) / (CODEBOOK // 2))
    return np.sort(np.concatenate([even, quantiles])).astype(np.float32).astype(float)


def nearest_entries(values: Array, codebook: Array) -> np.ndarray:
    """Find the entry of a codebook that is closest to each number.

    Args:
        values: Numbers of any shape.
        codebook: Sorted entries [256].

    Returns:
        Indices as uint8, of the shape of `values`.
    """
    middles = (codebook[1:] + codebook[:-1]) / 2
    return np.searchsorted(middles, values).astype(np.uint8)


def make_palette(rows: Array, size: int) -> tuple[Array, np.ndarray]:
    """Choose vectors that represent many, by halving groups along their widest axis.

    Args:
        rows: Vectors [n d].
        size: Number of entries, a power of two. If it is at least n, each vector is an entry.

    Returns:
        The entries [at most size d], and the index [n] of the entry of each vector.
    """
    count = len(rows)
    if size >= count:
        return rows, np.arange(count)
    # All groups have the same number of members: the last vector fills up the last ones.
    members = -(-count // size)
    groups = np.minimum(np.arange(size * members), count - 1)[None]
    while groups.shape[0] < size:
        values = rows[groups].astype(np.float32)
        axis = values.var(axis=1).argmax(axis=1)
        keys = np.take_along_axis(values, axis[:, None, None], axis=2)[:, :, 0]
        order = np.argsort(keys, axis=1, kind="stable")
        groups = np.take_along_axis(groups, order, axis=1).reshape(2 * len(groups), -1)
    labels = np.zeros(count, np.int64)
    labels[groups] = np.arange(size)[:, None]
    totals = np.column_stack([np.bincount(labels, column, minlength=size) for column in rows.T])
    counts = np.bincount(labels, minlength=size)
    return totals / np.maximum(counts, 1)[:, None], labels
