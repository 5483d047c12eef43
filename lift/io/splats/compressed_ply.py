"""Compressed PLY, the format of PlayCanvas and SuperSplat: 16 bytes a Gaussian and harmonics.

Blocks of 256 Gaussians share bounds of positions, log-scales and colours. Within them, values have
11, 10 and 11 bits, and colours 8. Quaternions have three components of 10 bits. Other harmonics
have 8 bits within +-4.
"""

from io import BytesIO

import numpy as np

from lift.io.ply import read_comments, read_elements
from lift.io.splats.arrays import Array, Arrays
from lift.io.splats.ply import RENDER_MODE_COMMENT, warn_of_mip
from lift.io.splats.quaternions import drop_largest, restore_largest
from lift.spherical_harmonics import C0

BLOCK = 256
"""Number of Gaussians that share bounds."""
LOG_SCALE_LIMIT = 20.0
"""Largest magnitude of a log-scale."""
SH_LIMIT = 4.0
"""Largest magnitude of a harmonic of degree 1 or higher."""

_BITS = (11, 10, 11)
_BOUNDS = {
    "means": ("x", "y", "z"),
    "log_scales": ("scale_x", "scale_y", "scale_z"),
    "colors": ("r", "g", "b"),
}
"""Names of the bounds of each field in a block, after min_ or max_."""
_PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")


def encode_compressed_ply(arrays: Arrays) -> bytes:
    """Encode Gaussians as the content of a compressed PLY file.

    Args:
        arrays: The values, in an order that keeps neighbours in space together.

    Returns:
        The content of the file.
    """
    from plyfile import PlyData, PlyElement

    bounds = {name: block_bounds(getattr(arrays, name)) for name in _BOUNDS}
    columns = {
        f"{side}_{axis}": bounds[name][index][:, column]
        for name in _BOUNDS
        for index, side in enumerate(("min", "max"))
        for column, axis in enumerate(_BOUNDS[name])
    }
    blocks = np.zeros(len(bounds["means"][0]), [(name, "<f4") for name in columns])
    for name, values in columns.items():
        blocks[name] = values
    rows = np.zeros(len(arrays), [(name, "<u4") for name in _PACKED])
    rows["packed_position"] = _pack(_relative(arrays.means, *bounds["means"]), _BITS)
    rows["packed_scale"] = _pack(_relative(arrays.log_scales, *bounds["log_scales"]), _BITS)
    rows["packed_rotation"] = _pack_quats(arrays.quats)
    rgba = np.column_stack([_relative(arrays.colors, *bounds["colors"]), arrays.opacities])
    rows["packed_color"] = _pack(rgba, (8, 8, 8, 8))
    elements = [PlyElement.describe(blocks, "chunk"), PlyElement.describe(rows, "vertex")]
    if arrays.degree:
        flat = arrays.rest.transpose(0, 2, 1).reshape(len(arrays), -1)
        harmonics = np.zeros(len(arrays), [(f"f_rest_{k}", "u1") for k in range(flat.shape[1])])
        for k, values in enumerate(flat.T):
            harmonics[f"f_rest_{k}"] = np.floor((values / (2 * SH_LIMIT) + 0.5) * 256).clip(0, 255)
        elements.append(PlyElement.describe(harmonics, "sh"))
    stream = BytesIO()
    PlyData(elements, byte_order="<", comments=[RENDER_MODE_COMMENT]).write(stream)
    return stream.getvalue()


def decode_compressed_ply(data: bytes) -> Arrays:
    """Decode a compressed PLY file.

    Args:
        data: Content of the file.

    Returns:
        The values, which may be infinite or NaN.

    Raises:
        ValueError: The content is no such file.
    """
    elements = read_elements(data, "vertex")
    warn_of_mip(read_comments(data), "this compressed.ply file")
    rows = elements["vertex"]
    packed = [_column(rows, name, "<u4").astype(np.int64) for name in _PACKED]
    count = len(rows)
    blocks = elements.get("chunk")
    if blocks is None or len(blocks) * BLOCK < count:
        found = 0 if blocks is None else len(blocks)
        raise ValueError(f"it has {found} blocks of {BLOCK} Gaussians for {count} Gaussians")
    position, rotation, scale, color = packed
    means = _absolute(_unpack(position, _BITS), blocks, "means")
    log_scales = _absolute(_unpack(scale, _BITS), blocks, "log_scales")
    rgba = _unpack(color, (8, 8, 8, 8))
    has_color_bounds = "min_r" in (blocks.dtype.names or ())
    colors = _absolute(rgba[:, :3], blocks, "colors") if has_color_bounds else rgba[:, :3]
    largest = rotation >> 30
    others = (_unpack(rotation & (2**30 - 1), (10, 10, 10)) - 0.5) * np.sqrt(2)
    rest = _decode_harmonics(elements.get("sh"), count)
    quats = restore_largest(largest, others)
    return Arrays(means, quats, log_scales, rgba[:, 3], (colors - 0.5) / C0, rest)


def block_bounds(values: Array) -> tuple[Array, Array]:
    """Measure the bounds of each block of Gaussians.

    Args:
        values: Values [n 3].

    Returns:
        Minima and maxima [block 3], rounded outwards to single precision.
    """
    starts = np.arange(0, len(values), BLOCK)
    low = np.minimum.reduceat(values, starts)
    high = np.maximum.reduceat(values, starts)
    return _round_single(low, -np.inf), _round_single(high, np.inf)


def _round_single(values: Array, towards: float) -> Array:
    """Round values to single precision, in one direction."""
    nearest = values.astype(np.float32)
    is_inside = nearest > values if towards < 0 else nearest < values
    return np.where(is_inside, np.nextafter(nearest, np.float32(towards)), nearest).astype(float)


def _relative(values: Array, low: Array, high: Array) -> Array:
    """Map values to [0, 1] within the bounds of their block."""
    block = np.arange(len(values)) // BLOCK
    span = np.where(high > low, high - low, 1.0)
    return ((values - low[block]) / span[block]).clip(0, 1)


def _absolute(values: Array, blocks: np.ndarray, name: str) -> Array:
    """Map values in [0, 1] to the bounds of their block."""
    low, high = (
        np.column_stack(
            [_column(blocks, f"{side}_{axis}", "<f4").astype(float) for axis in _BOUNDS[name]]
        )
        for side in ("min", "max")
    )
    block = np.arange(len(values)) // BLOCK
    with np.errstate(invalid="ignore", over="ignore"):
        return low[block] + values * (high - low)[block]


def _pack(values: Array, bits: tuple[int, ...]) -> np.ndarray:
    """Pack columns in [0, 1] into one number a row, the first column in the highest bits."""
    packed = np.zeros(len(values), np.int64)
    for column, size in zip(values.T, bits, strict=True):
        packed = (packed << size) | np.rint(column.clip(0, 1) * (2**size - 1)).astype(np.int64)
    return packed


def _unpack(packed: np.ndarray, bits: tuple[int, ...]) -> Array:
    """Invert `_pack`."""
    columns = []
    for size in reversed(bits):
        columns.append((packed & (2**size - 1)) / (2**size - 1))
        packed = packed >> size
    return np.column_stack(columns[::-1])


def _pack_quats(quats: Array) -> np.ndarray:
    """Pack quaternions: the index of the largest component, and the others of 10 bits each."""
    largest, others = drop_largest(quats)
    return (largest << 30) | _pack(others / np.sqrt(2) + 0.5, (10, 10, 10))


def _decode_harmonics(rows: np.ndarray | None, count: int) -> Array:
    """Decode the other harmonics [n basis-1 3]."""
    if rows is None:
        return np.zeros((count, 0, 3))
    number = sum(name.startswith("f_rest_") for name in rows.dtype.names or ())
    if number not in (9, 24, 45) or len(rows) != count:
        raise ValueError(
            f"its element sh has {len(rows)} rows of {number} harmonics for {count} Gaussians; "
            "degree 1, 2 or 3 has 9, 24 or 45"
        )
    flat = np.column_stack([_column(rows, f"f_rest_{k}", "u1") for k in range(number)])
    # The outermost steps stand for the limits, the others for their middle.
    values = np.where(flat == 0, 0, np.where(flat == 255, 256, flat + 0.5)) / 256
    return ((values - 0.5) * 2 * SH_LIMIT).reshape(count, 3, -1).transpose(0, 2, 1)


def _column(rows: np.ndarray, name: str, kind: str) -> np.ndarray:
    """Return a property of an element. Raise ValueError if it is missing or of another type."""
    if name not in (rows.dtype.names or ()):
        raise ValueError(f"it is no compressed PLY file: it lacks the property {name}")
    found = rows.dtype[name]
    if found.kind != np.dtype(kind).kind or found.itemsize != np.dtype(kind).itemsize:
        raise ValueError(f"its property {name} has the type {found}; expected {np.dtype(kind)}")
    return rows[name]
