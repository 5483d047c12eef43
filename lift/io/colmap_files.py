"""Parse the files of COLMAP models, text and binary.

Counts in binary files are compared with the size of the file before anything is read.
"""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from lift.io.files import check_regular, read_text
from lift.io.parsing import MAX_SIDE, shorten, to_number
from lift.io.views import MODELS, PINHOLES

_BY_NAME = {name: (count, shared) for name, count, shared in MODELS.values()}
_OTHER_MODELS = {
    5: "OPENCV_FISHEYE",
    7: "FOV",
    8: "SIMPLE_RADIAL_FISHEYE",
    9: "RADIAL_FISHEYE",
    10: "THIN_PRISM_FISHEYE",
    11: "RAD_TAN_THIN_PRISM_FISHEYE",
    12: "SIMPLE_DIVISION",
    13: "DIVISION",
    14: "SIMPLE_FISHEYE",
    15: "FISHEYE",
    16: "EUCM",
    17: "EQUIRECTANGULAR",
}
"""COLMAP's models that are no pinholes, by number."""

_MAX_BYTES = 2**36
"""Largest binary file in bytes. It is not read as a whole."""
_MAX_NAME = 4096
"""Largest length of a picture's name in bytes."""
_MIN_RECORD = {"camera": 24, "image": 73, "point": 51}
"""Smallest size in bytes of a record in a binary file."""

ModelCamera = tuple[
    tuple[float, float], tuple[float, float], tuple[int, int], tuple[float, ...], str
]
"""Focal lengths, principal point, size, lens coefficients and model."""
ModelImage = tuple[int, int, str, Sequence[float]]
"""Number of the image, number of its camera, name, quaternion and translation."""


def cameras_text(file: Path) -> Iterator[tuple[int, ModelCamera]]:
    """Parse cameras.txt.

    Args:
        file: The file.

    Yields:
        Number and camera.

    Raises:
        ValueError: A line is invalid, or a camera is no pinhole.
    """
    for line in _content_lines(file):
        words = line.split()
        if len(words) < 5:
            raise ValueError(
                f"the line {shorten(line)} has not number, model, width, height and parameters"
            )
        number = int(words[0])
        width, height = (
            int(to_number(word, f"the size of camera {number}", 1, MAX_SIDE)) for word in words[2:4]
        )
        parameters = [float(word) for word in words[4:]]
        yield number, _to_camera(number, words[1], width, height, parameters)


def images_text(file: Path) -> Iterator[ModelImage]:
    """Parse images.txt as COLMAP does, with blank lines and without lines of points.

    Args:
        file: The file.

    Yields:
        The images.

    Raises:
        ValueError: A line is invalid.
    """
    after_image = False
    for line in _content_lines(file, keep_blank=True):
        if after_image and (not line or _is_points_line(line)):
            after_image = False
            continue
        if not line:
            continue
        words = line.split(maxsplit=9)
        if len(words) < 10:
            raise ValueError(
                f"the line {shorten(line)} has not number, pose, camera and name of a picture"
            )
        number, *pose, camera, name = words
        yield int(number), int(camera), name, [float(value) for value in pose]
        after_image = True


def _is_points_line(line: str) -> bool:
    """Whether a line lists x, y and number of points, and not an image."""
    words = line.split()
    if len(words) % 3:
        return False
    try:
        for word in words:
            float(word)
    except ValueError:
        return False
    return True


def _content_lines(file: Path, keep_blank: bool = False) -> Iterator[str]:
    """Yield the lines of a text file without comments, stripped."""
    for line in read_text(file).splitlines():
        line = line.strip()
        if not line.startswith("#") and (line or keep_blank):
            yield line


def points_text(file: Path) -> list[list[float]]:
    """Parse positions and colours of points3D.txt.

    Args:
        file: The file.

    Returns:
        x, y, z and red, green, blue in [0, 255] of each point.

    Raises:
        ValueError: A line has too few numbers.
    """
    points = []
    for line in _content_lines(file):
        words = line.split(maxsplit=7)
        if len(words) < 7:
            raise ValueError(f"the line {shorten(line)} has not number, position and colour")
        points.append([float(word) for word in words[1:7]])
    return points


def cameras_binary(file: Path) -> Iterator[tuple[int, ModelCamera]]:
    """Parse cameras.bin.

    Args:
        file: The file.

    Yields:
        Number and camera.

    Raises:
        ValueError: The file is damaged, or a camera is no pinhole.
    """
    check_regular(file, _MAX_BYTES)
    with file.open("rb") as stream:
        for _ in range(_read_count(file, stream, "camera")):
            number, model, width, height = _unpack(stream, "<IiQQ")
            name = MODELS[model][0] if model in MODELS else _OTHER_MODELS.get(model, str(model))
            parameter_count, _ = _model_layout(number, name)
            parameters = _unpack(stream, f"<{parameter_count}d")
            yield number, _to_camera(number, name, width, height, parameters)


def images_binary(file: Path) -> Iterator[ModelImage]:
    """Parse images.bin.

    Args:
        file: The file.

    Yields:
        The images.

    Raises:
        ValueError: The file is damaged.
    """
    size = check_regular(file, _MAX_BYTES)
    with file.open("rb") as stream:
        for _ in range(_read_count(file, stream, "image")):
            number, *pose, camera = _unpack(stream, "<I7dI")
            name = _read_name(stream)
            (points,) = _unpack(stream, "<Q")
            _skip(stream, 24 * points, size)  # x, y, number of the point
            yield number, camera, name, pose


def points_binary(file: Path) -> list[tuple[int | float, ...]]:
    """Parse positions and colours of points3D.bin.

    Args:
        file: The file.

    Returns:
        x, y, z and red, green, blue in [0, 255] of each point.

    Raises:
        ValueError: The file is damaged.
    """
    size = check_regular(file, _MAX_BYTES)
    points = []
    with file.open("rb") as stream:
        for _ in range(_read_count(file, stream, "point")):
            # number, position, colour, error, length of the track
            _, *values, _, track_length = _unpack(stream, "<Q3d3BdQ")
            _skip(stream, 8 * track_length, size)
            points.append(tuple(values))
    return points


def _to_camera(
    number: int, model: str, width: int, height: int, parameters: Sequence[float]
) -> ModelCamera:
    """Split parameters. Coefficients are in OpenCV's order, after focal length and centre."""
    count, shared = _model_layout(number, model)
    if len(parameters) != count:
        raise ValueError(f"camera {number} ({model}) has {len(parameters)} parameters, not {count}")
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise ValueError(
            f"the size of camera {number} is {shorten(width)} x {shorten(height)} pixels; expected "
            f"1 to {MAX_SIDE}"
        )
    values = [to_number(value, f"a parameter of camera {number}") for value in parameters]
    if shared:
        values = [values[0], *values]
    return (values[0], values[1]), (values[2], values[3]), (width, height), tuple(values[4:]), model


def _model_layout(number: int, model: str) -> tuple[int, bool]:
    """Return the number of parameters, and whether x and y share one focal length."""
    if model not in _BY_NAME:
        raise ValueError(
            f"camera {number} is of the model {model[:60]}; known are {', '.join(PINHOLES)}"
        )
    return _BY_NAME[model]


def _read_count(file: Path, stream: BinaryIO, kind: str) -> int:
    """Read the number of records, and check that the file can hold them."""
    size = check_regular(file, _MAX_BYTES)
    (count,) = _unpack(stream, "<Q")
    if count * _MIN_RECORD[kind] > size - 8:
        raise ValueError(f"it states {count} {kind}s, but has {size} bytes only")
    return count


def _read_name(stream: BinaryIO) -> str:
    """Read a name that ends with a zero byte."""
    name = bytearray()
    while (byte := _read(stream, 1)) != b"\0":
        name += byte
        if len(name) > _MAX_NAME:
            raise ValueError(f"a picture's name has more than {_MAX_NAME} bytes")
    return name.decode("utf-8")


def _skip(stream: BinaryIO, count: int, size: int) -> None:
    """Skip bytes of a file of the size."""
    if stream.tell() + count > size:
        raise ValueError("the file ends too early")
    stream.seek(count, 1)


def _unpack(stream: BinaryIO, layout: str) -> tuple:
    return struct.unpack(layout, _read(stream, struct.calcsize(layout)))


def _read(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise ValueError("the file ends too early")
    return data
