"""The splat format of antimatter15's viewer: 32 bytes a Gaussian, without view dependence.

A row holds position and scales as float32, and colour, opacity and quaternion as 8 bits each.
"""

import numpy as np

from lift.io.splats.arrays import Arrays
from lift.spherical_harmonics import C0

_ROW = np.dtype([("means", "<f4", 3), ("scales", "<f4", 3), ("rgba", "u1", 4), ("quats", "u1", 4)])


def encode_splat(arrays: Arrays) -> bytes:
    """Encode Gaussians as the content of a splat file.

    Args:
        arrays: The values. Harmonics of degree 1 and higher are ignored.

    Returns:
        The content of the file.
    """
    rows = np.zeros(len(arrays), _ROW)
    rows["means"] = arrays.means
    rows["scales"] = np.exp(arrays.log_scales)
    rgba = np.column_stack([arrays.colors, arrays.opacities])
    rows["rgba"] = np.rint(rgba.clip(0, 1) * 255)
    rows["quats"] = np.rint(arrays.quats * 128 + 128).clip(0, 255)
    return rows.tobytes()


def decode_splat(data: bytes) -> Arrays:
    """Decode a splat file.

    Args:
        data: Content of the file.

    Returns:
        The values, which may be infinite or NaN.

    Raises:
        ValueError: The content is no such file.
    """
    if len(data) % _ROW.itemsize:
        raise ValueError(f"it has {len(data)} bytes, which is no multiple of {_ROW.itemsize}")
    rows = np.frombuffer(data, _ROW)
    rgba = rows["rgba"] / 255
    quats = (rows["quats"].astype(float) - 128) / 128
    norms = np.linalg.norm(quats, axis=1, keepdims=True)
    with np.errstate(all="ignore"):  # values that are not finite are left out later
        means = rows["means"].astype(float)
        log_scales = np.log(np.maximum(rows["scales"].astype(float), 1e-30))
    return Arrays(
        means,
        quats / np.maximum(norms, 1e-30),
        log_scales,
        rgba[:, 3],
        (rgba[:, :3] - 0.5) / C0,
        np.zeros((len(rows), 0, 3)),
    )
