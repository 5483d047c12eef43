"""Store unit quaternions by their three smallest components."""

import numpy as np
from numpy.typing import NDArray

from lift.io.splats.arrays import Array


def drop_largest(quats: Array) -> tuple[NDArray[np.int64], Array]:
    """Split quaternions into the index of their largest component and the others.

    Args:
        quats: Unit quaternions [n 4], in any order of components.

    Returns:
        Index [n] of the component of the largest magnitude, and the other ones [n 3] in their
        order, of the quaternion's sign for which the largest one is positive. They lie within
        +-sqrt(1/2).
    """
    largest = np.abs(quats).argmax(axis=1)
    sign = np.where(np.take_along_axis(quats, largest[:, None], axis=1) < 0, -1.0, 1.0)
    others = (np.arange(3) + (np.arange(3) >= largest[:, None])).astype(np.int64)
    return largest, np.take_along_axis(quats * sign, others, axis=1)


def restore_largest(largest: NDArray[np.integer], others: Array) -> Array:
    """Invert `drop_largest`.

    Args:
        largest: Index [n] of the missing component, 0 to 3.
        others: The other components [n 3].

    Returns:
        Unit quaternions [n 4].
    """
    missing = np.sqrt(np.maximum(1 - np.square(others).sum(axis=1), 0))
    quats = np.zeros((len(others), 4))
    columns = np.arange(3) + (np.arange(3) >= largest[:, None])
    np.put_along_axis(quats, columns, others, axis=1)
    np.put_along_axis(quats, largest[:, None].astype(np.int64), missing[:, None], axis=1)
    return quats / np.maximum(np.linalg.norm(quats, axis=1, keepdims=True), 1e-30)
