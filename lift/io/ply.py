"""Read the vertices of PLY files."""

from dataclasses import dataclass
from io import BytesIO

import numpy as np

from lift.io.parsing import PARSE_ERRORS, shorten

_MAX_HEADER_BYTES = 2**17
"""Largest header in bytes."""
_CODES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
"""NumPy's code for each type of a property."""
_BYTES = {kind: int(code[1]) for kind, code in _CODES.items()}
"""Size in bytes of each type of a property."""


@dataclass
class _Element:
    """An element as the header declares it."""

    name: str
    count: int
    properties: list[tuple[str, str]]
    """Name and type of each property. The type of a list is the word list."""
    row_bytes: int = 0
    """Least size of a row in bytes."""


def read_vertices(data: bytes) -> np.ndarray:
    """Parse the vertices of a PLY file.

    The header's counts are compared with the size of the content before memory is reserved.

    Args:
        data: Content of the file.

    Returns:
        A structured array with a field for each property.

    Raises:
        ValueError: The content is no PLY file with vertices.
    """
    return _check_scalars(read_elements(data, "vertex")["vertex"], "vertex")


def read_elements(data: bytes, required: str) -> dict[str, np.ndarray]:
    """Parse all elements of a PLY file.

    The header's counts are compared with the size of the content before memory is reserved.

    Args:
        data: Content of the file.
        required: Name of an element that the file must have.

    Returns:
        A structured array for each element. A property that is a list is an array of objects.

    Raises:
        ValueError: The content is no PLY file with that element.
    """
    from plyfile import PlyData, PlyParseError

    declared = _check_counts(data)
    try:
        elements = _read_binary(data, declared)
        if elements is None:
            elements = {element.name: element.data for element in PlyData.read(BytesIO(data))}
    except (PlyParseError, *PARSE_ERRORS) as error:
        raise ValueError(" ".join(str(error).split())[:300] or type(error).__name__) from None
    if required not in elements:
        raise ValueError(f"it has no element {required}")
    return elements


def read_comments(data: bytes) -> list[str]:
    """List the comments in the header of a PLY file.

    Args:
        data: Content of the file.

    Returns:
        The comments without the word that begins them.
    """
    head = data[:_MAX_HEADER_BYTES].partition(b"end_header")[0].decode("latin-1")
    lines = (line.strip() for line in head.splitlines())
    return [line.removeprefix("comment ") for line in lines if line.startswith("comment ")]


def _check_scalars(rows: np.ndarray, name: str) -> np.ndarray:
    """Return the rows of an element. Raise ValueError if a property of it is a list."""
    columns = rows.dtype.names or ()
    shapes = {np.shape(rows[column]) for column in columns}
    if len(shapes) > 1 or any(rows.dtype[column].hasobject for column in columns):
        raise ValueError(f"a property of its element {name} is a list")
    return rows


def _read_binary(data: bytes, declared: list[_Element]) -> dict[str, np.ndarray] | None:
    """Parse binary elements whose properties are numbers. None for all other content.

    plyfile reads them value by value if they are no file on a disk.
    """
    end = data.index(b"end_header")
    form = [line for line in data[:end].splitlines() if line.startswith(b"format ")]
    order = {b"format binary_little_endian 1.0": "<", b"format binary_big_endian 1.0": ">"}.get(
        form[0].strip() if len(form) == 1 else b""
    )
    newline = data.find(b"\n", end)
    names = [[name for name, _ in element.properties] for element in declared]
    if (
        order is None
        or newline - end > len(b"end_header\r")
        or newline < 0
        or len({element.name for element in declared}) < len(declared)
        or any(len(set(group)) < len(group) for group in names)
        or any(kind not in _CODES for element in declared for _, kind in element.properties)
    ):
        return None
    elements = {}
    offset = newline + 1
    for element in declared:
        dtype = np.dtype([(name, order + _CODES[kind]) for name, kind in element.properties])
        elements[element.name] = np.frombuffer(data, dtype, element.count, offset)
        offset += element.count * dtype.itemsize
    return elements


def _check_counts(data: bytes) -> list[_Element]:
    """Return what the header declares. Raise ValueError if the content cannot hold it."""
    head = data[:_MAX_HEADER_BYTES]
    end = head.find(b"end_header")
    if not head.startswith(b"ply") or end < 0:
        raise ValueError("it has no PLY header")
    available = len(data) - end
    is_text = b"format ascii" in head[:end]
    elements: list[_Element] = []
    for line in head[:end].decode("latin-1").splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "element":
            if not words[2].isdecimal() or len(words[2]) > 18:
                raise ValueError(f"the element {words[1][:60]!r} has the count {shorten(words[2])}")
            elements.append(_Element(words[1], int(words[2]), []))
        elif len(words) >= 3 and words[0] == "property" and elements:
            elements[-1].properties.append((words[-1], words[1]))
            # Text needs a digit and a space. A list has at least its length.
            kind = words[1] if words[1] != "list" else words[2]
            elements[-1].row_bytes += 2 if is_text else _BYTES.get(kind, 1)
    required = sum(element.count * max(element.row_bytes, 1) for element in elements)
    if required > available:
        largest = max(elements, key=lambda element: element.count)
        raise ValueError(
            f"its header states {largest.count} elements {largest.name[:60]!r}, which need "
            f"{required} bytes, but only {available} follow"
        )
    return elements
