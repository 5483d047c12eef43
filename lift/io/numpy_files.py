"""Parse npy and npz files of users. What they state is checked before memory is reserved."""

import math
import zipfile
from collections.abc import Iterable
from io import BytesIO

import numpy as np

from lift.io.files import MAX_FILE_BYTES
from lift.io.parsing import PARSE_ERRORS, describe_error, shorten


def load_npy(data: bytes) -> np.ndarray:
    """Parse the content of an npy file. The header is checked before memory is reserved.

    Args:
        data: Content of the file.

    Returns:
        An array of booleans, numbers or text.

    Raises:
        ValueError: The content is invalid, holds Python objects, or disagrees with its header.
    """
    stream = BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"its npy version is {version}; expected (1, 0) or (2, 0)")
    if dtype.kind not in "biufSU":
        raise ValueError(f"its type is {dtype}; expected numbers or text")
    if any(length < 0 for length in shape):
        raise ValueError(f"its shape is {shorten(shape)}")
    expected = math.prod(shape) * dtype.itemsize
    available = len(data) - stream.tell()
    if expected > available:
        raise ValueError(
            f"its shape {shorten(shape)} needs {shorten(expected)} bytes, but {available} follow"
        )
    stream.seek(0)
    return np.load(stream, allow_pickle=False)


def load_npz(
    data: bytes, keys: Iterable[str] | None = None, max_bytes: int = MAX_FILE_BYTES
) -> dict[str, np.ndarray]:
    """Parse the content of an npz file. Only the requested arrays are decompressed.

    Args:
        data: Content of the file.
        keys: Names of the arrays. None loads all. Names that do not exist are left out.
        max_bytes: Largest size of all arrays in bytes.

    Returns:
        The arrays by name.

    Raises:
        ValueError: An array is invalid, or the arrays are too large.
        zipfile.BadZipFile: The content is no zip archive.
    """
    arrays = {}
    total = 0
    with zipfile.ZipFile(BytesIO(data)) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        for key in members if keys is None else keys:
            if key not in members:
                continue
            total += members[key].file_size
            if total > max_bytes:
                raise ValueError(
                    f"its arrays have more than the limit of {max_bytes / 2**20:.0f} MiB"
                )
            try:
                arrays[key] = load_npy(archive.read(members[key]))
            except PARSE_ERRORS as error:
                raise ValueError(f"the array {shorten(key)}: {describe_error(error)}") from None
    return arrays


def npz_names(data: bytes) -> list[str]:
    """List the arrays of an npz file.

    Args:
        data: Content of the file.

    Returns:
        Their names in the order of the file.

    Raises:
        zipfile.BadZipFile: The content is no zip archive.
    """
    with zipfile.ZipFile(BytesIO(data)) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]
