"""Read and write COLMAP models, text and binary."""

import math
import struct
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from lift.geometry import quat_to_rotation, rotation_to_quat
from lift.io.views import MODELS, PINHOLES, View, natural_key, to_double
from lift.types import Cameras, PointCloud

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

_Camera = tuple[tuple[float, float], tuple[float, float], tuple[int, int], tuple[float, ...], str]
"""Focal lengths, principal point, size, lens coefficients and model."""
_Image = tuple[int, int, str, Sequence[float]]
"""Number of the image, number of its camera, name, quaternion and translation."""


def write_colmap(
    folder: Path,
    cameras: Cameras,
    names: Sequence[str],
    points: PointCloud | None = None,
    max_points: int = 200_000,
) -> None:
    """Write cameras.txt, images.txt and points3D.txt without tracks.

    One PINHOLE camera is written if all views share it, otherwise one for each view. Reading the
    files restores the cameras to 1e-6 of their distance from the world's origin.

    Args:
        folder: Folder of the files. It is created if necessary.
        cameras: The views.
        names: File name of each view's picture. An empty name becomes the view's number.
        points: Points of the scene.
        max_points: Largest number of points. Of a larger cloud, an even subset is written.

    Raises:
        ValueError: A name has a space, which COLMAP cannot read.
    """
    if spaced := [name for name in names if any(map(str.isspace, name))]:
        raise ValueError(
            f"COLMAP's text files cannot name a picture {spaced[0]!r}: there is a space in it"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shared = _write_cameras(folder / "cameras.txt", cameras)
    _write_images(folder / "images.txt", cameras, names, shared)
    lines = []
    if points is not None and len(points):
        subset = points[:: max(1, math.ceil(len(points) / max_points))]
        colors = (subset.colors.detach().cpu().clamp(0, 1) * 255).round().int().tolist()
        positions = subset.points.detach().cpu().tolist()
        lines = [
            f"{i} {x:.7g} {y:.7g} {z:.7g} {r} {g} {b} 0"
            for i, ((x, y, z), (r, g, b)) in enumerate(zip(positions, colors, strict=True), 1)
        ]
    _write_lines(folder / "points3D.txt", "POINT3D_ID X Y Z R G B ERROR TRACK[]", lines)


def _write_cameras(path: Path, cameras: Cameras) -> bool:
    """Write cameras.txt, and return whether all views share one camera."""
    intrinsics = to_double(cameras.intrinsics)
    shared = bool((intrinsics == intrinsics[0]).all())
    lines = []
    for i, k in enumerate(intrinsics[:1] if shared else intrinsics):
        parameters = " ".join(repr(float(v)) for v in (k[0, 0], k[1, 1], k[0, 2], k[1, 2]))
        lines.append(f"{i + 1} PINHOLE {cameras.width} {cameras.height} {parameters}")
    _write_lines(path, "CAMERA_ID MODEL WIDTH HEIGHT fx fy cx cy", lines)
    return shared


def _write_images(path: Path, cameras: Cameras, names: Sequence[str], shared: bool) -> None:
    """Write images.txt."""
    matrices = cameras.world_to_camera.detach().cpu().double()
    quats = rotation_to_quat(matrices[:, :3, :3]).tolist()
    translations = matrices[:, :3, 3].tolist()
    lines = []
    for i, (name, quat, translation) in enumerate(zip(names, quats, translations, strict=True)):
        pose = " ".join(repr(v) for v in (*quat, *translation))
        lines.append(f"{i + 1} {pose} {1 if shared else i + 1} {name or f'{i:06d}.png'}")
        lines.append("")  # the second line would list 2D points
    header = "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of POINTS2D"
    _write_lines(path, header, lines)


def _write_lines(path: Path, header: str, lines: list[str]) -> None:
    path.write_text("\n".join([f"# {header}", *lines]) + "\n", encoding="utf-8")


def read_colmap(folder: Path) -> list[View]:
    """Read the cameras of a COLMAP model.

    Args:
        folder: Folder with cameras and images, as .txt or .bin. Text is preferred.

    Returns:
        The views, in natural order of the pictures' names.

    Raises:
        ValueError: The files do not exist or are invalid, or a camera is no pinhole.
    """
    readers = {"txt": (_cameras_text, _images_text), "bin": (_cameras_binary, _images_binary)}
    for suffix in readers:
        files = folder / f"cameras.{suffix}", folder / f"images.{suffix}"
        if all(file.is_file() for file in files):
            break
    else:
        raise ValueError(
            f"folder {str(folder)!r} holds neither cameras.txt and images.txt nor cameras.bin and "
            "images.bin"
        )
    try:
        read_cameras, read_images = readers[suffix]
        cameras = dict(read_cameras(files[0]))
        images = sorted(read_images(files[1]), key=lambda image: (natural_key(image[2]), image[0]))
    except (IndexError, KeyError, ValueError, UnicodeDecodeError, struct.error) as error:
        raise ValueError(
            f"{str(folder)!r} holds no COLMAP model of pinhole cameras: "
            f"{type(error).__name__} {error}"
        ) from None
    views = []
    for _, number, name, pose in images:
        if number not in cameras:
            raise ValueError(
                f"{str(folder)!r}: a picture was taken by camera {number}, which is not there"
            )
        matrix = np.eye(4)
        matrix[:3, :3] = quat_to_rotation(torch.tensor(pose[:4], dtype=torch.float64)).numpy()
        matrix[:3, 3] = pose[4:]
        focal, center, size, lens, model = cameras[number]
        views.append(View(matrix, focal, center, size, name, lens, model))
    return views


def points_text(file: Path) -> list[list[float]]:
    """Read positions and colours of points3D.txt.

    Args:
        file: The file.

    Returns:
        x, y, z and red, green, blue in [0, 255] of each point.

    Raises:
        ValueError: A line has too few numbers.
    """
    lines = [
        line.split()
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    if short := next((words for words in lines if len(words) < 7), None):
        raise ValueError(f"the line {' '.join(short)!r} has not number, position and colour")
    return [[float(word) for word in words[1:7]] for words in lines]


def points_binary(file: Path) -> list[tuple[int | float, ...]]:
    """Read positions and colours of points3D.bin.

    Args:
        file: The file.

    Returns:
        x, y, z and red, green, blue in [0, 255] of each point.

    Raises:
        struct.error: The file ends too early.
    """
    stream = BytesIO(file.read_bytes())
    points = []
    (count,) = _unpack(stream, "<Q")
    for _ in range(count):
        # number, position, colour, error, length of the track
        _, *values, _, track_length = _unpack(stream, "<Q3d3BdQ")
        _skip(stream, 8 * track_length)
        points.append(tuple(values))
    return points


def _to_camera(
    number: int, model: str, width: int, height: int, parameters: Sequence[float]
) -> _Camera:
    """Split parameters. Coefficients are in OpenCV's order, after focal length and centre."""
    count, shared = _model_layout(number, model)
    if len(parameters) != count:
        raise ValueError(f"camera {number} ({model}) has {len(parameters)} parameters, not {count}")
    values = [parameters[0], *parameters] if shared else list(parameters)
    return (values[0], values[1]), (values[2], values[3]), (width, height), tuple(values[4:]), model


def _model_layout(number: int, model: str) -> tuple[int, bool]:
    """Return the number of parameters, and whether x and y share one focal length."""
    if model not in _BY_NAME:
        raise ValueError(
            f"camera {number} is of the model {model}; known are {', '.join(PINHOLES)}"
        )
    return _BY_NAME[model]


def _cameras_text(file: Path) -> Iterator[tuple[int, _Camera]]:
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            number, model, width, height, *words = line.split()
            parameters = [float(word) for word in words]
            camera = _to_camera(int(number), model, int(width), int(height), parameters)
            yield int(number), camera


def _images_text(file: Path) -> Iterator[_Image]:
    """Read images as COLMAP does: skip blank lines before an image, and the line after it."""
    lines = iter(file.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.strip() and not line.lstrip().startswith("#"):
            number, *pose, camera, name = line.split(maxsplit=9)
            yield int(number), int(camera), name.strip(), [float(value) for value in pose]
            next(lines, None)


def _cameras_binary(file: Path) -> Iterator[tuple[int, _Camera]]:
    stream = BytesIO(file.read_bytes())
    (count,) = _unpack(stream, "<Q")
    for _ in range(count):
        number, model, width, height = _unpack(stream, "<IiQQ")
        name = MODELS[model][0] if model in MODELS else _OTHER_MODELS.get(model, str(model))
        parameter_count, _ = _model_layout(number, name)
        parameters = _unpack(stream, f"<{parameter_count}d")
        yield number, _to_camera(number, name, width, height, parameters)


def _images_binary(file: Path) -> Iterator[_Image]:
    stream = BytesIO(file.read_bytes())
    (count,) = _unpack(stream, "<Q")
    for _ in range(count):
        number, *pose, camera = _unpack(stream, "<I7dI")
        name = b"".join(iter(lambda: _unpack(stream, "<c")[0], b"\0")).decode("utf-8")
        (points,) = _unpack(stream, "<Q")
        _skip(stream, 24 * points)  # x, y, number of the point
        yield number, camera, name, pose


def _skip(stream: BytesIO, count: int) -> None:
    if stream.seek(count, 1) > stream.getbuffer().nbytes:
        raise struct.error("the file ends too early")


def _unpack(stream: BytesIO, layout: str) -> tuple:
    return struct.unpack(layout, stream.read(struct.calcsize(layout)))
