"""Read the vertices of PLY files."""

from io import BytesIO

import numpy as np

from lift.io.parsing import PARSE_ERRORS, shorten

_MAX_HEADER_BYTES = 2**17
"""Largest header in bytes."""
_BYTES = {
    **dict.fromkeys(("char", "int8", "uchar", "uint8"), 1),
    **dict.fromkeys(("short", "int16", "ushort", "uint16"), 2),
    **dict.fromkeys(("int", "int32", "uint", "uint32", "float", "float32"), 4),
    **dict.fromkeys(("double", "float64"), 8),
}
"""Size in bytes of each type of a property."""


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
    from plyfile import PlyData, PlyParseError

    _check_counts(data)
    try:
        vertices = PlyData.read(BytesIO(data))["vertex"].data
    except KeyError:
        raise ValueError("it has no element vertex") from None
    except (PlyParseError, *PARSE_ERRORS) as error:
        raise ValueError(" ".join(str(error).split())[:300] or type(error).__name__) from None
    if len({np.shape(vertices[name]) for name in vertices.dtype.names or ()}) > 1:
        raise ValueError("a property of its vertices is a list")
    return vertices


def _check_counts(data: bytes) -> None:
    """Raise ValueError if the content cannot hold the elements that the header counts."""
    head = data[:_MAX_HEADER_BYTES]
    end = head.find(b"end_header")
    if not head.startswith(b"ply") or end < 0:
        raise ValueError("it has no PLY header")
    available = len(data) - end
    is_text = b"format ascii" in head[:end]
    elements: list[tuple[str, int, int]] = []
    for line in head[:end].decode("latin-1").splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "element":
            if not words[2].isdecimal() or len(words[2]) > 18:
                raise ValueError(f"the element {words[1][:60]!r} has the count {shorten(words[2])}")
            elements.append((words[1], int(words[2]), 0))
        elif len(words) >= 3 and words[0] == "property" and elements:
            name, count, size = elements[-1]
            # Text needs a digit and a space. A list has at least its length.
            size += 2 if is_text else _BYTES.get(words[1] if words[1] != "list" else words[2], 1)
            elements[-1] = (name, count, size)
    required = sum(count * max(size, 1) for _, count, size in elements)
    if required > available:
        name, count, _ = max(elements, key=lambda element: element[1])
        raise ValueError(
            f"its header states {count} elements {name[:60]!r}, which need {required} bytes, but "
            f"only {available} follow"
        )
