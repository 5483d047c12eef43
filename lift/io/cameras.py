"""Read camera paths from the files of other programs.

All formats put the centre of pixel (0, 0) at (0.5, 0.5), as `lift` does. They differ in the
direction of the matrix, in the axes, and in the form of the intrinsics. `read_cameras` ignores lens
distortion. `read_views` returns its coefficients.
"""

from pathlib import Path

import numpy as np

from lift.io.colmap import MODEL_FILES, model_folder, read_colmap
from lift.io.files import IsAllowed, decode_text, read_file
from lift.io.formats import camera_formats
from lift.io.json_files import MAX_JSON_BYTES, parse_json
from lift.io.nerfstudio import read_camera_path, read_transforms
from lift.io.numpy_files import load_npz
from lift.io.parsing import MAX_SIDE, PARSE_ERRORS, describe_error, to_number
from lift.io.views import CameraFileError, View, stack_views, to_square
from lift.types import Cameras

DEFAULT_SIZE = (640, 360)
"""Width and height in pixels for files with relative intrinsics, if no size is known."""

TRANSFORMS = "transforms.json"
"""File of cameras in a folder of nerfstudio."""

_ARRAYS = (
    *("w2c", "world_to_camera", "c2w", "camera_to_world", "K", "intrinsics"),
    *("width", "height", "names", "k1_simple_radial"),
)
"""Arrays of an npz file that are read."""
_MAX_VIEWS = 1_000_000
"""Largest number of cameras in a file."""


def read_cameras(path: Path, size: tuple[int, int] | None = None) -> Cameras:
    """Read a camera path. Its format is one of `lift.io.formats.CAMERA_FORMATS`.

    An npz file holds `w2c` [n 4 4] or [n 3 4] (or `world_to_camera`, `c2w`, `camera_to_world`) with
    OpenCV axes, `K` (or `intrinsics`) [n 3 3] or [3 3], and optionally `width` and `height`. A
    transforms.json without `w` and `h` has the size of its pictures, else `size`.

    Args:
        path: A file, or a folder with a COLMAP model.
        size: Width and height in pixels for files without a size, such as RealEstate10K's. The
            default is DEFAULT_SIZE, except for transforms.json, which then is an error.

    Returns:
        The cameras in the file's order, COLMAP's in natural order of the pictures' names.
        Rotations are exactly orthonormal.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is invalid. Its matrices may mirror or scale, or its pictures may
            differ in size. The message names the file and the defect.
    """
    return stack_views(read_views(path, size), str(path))


def read_views(
    path: Path, size: tuple[int, int] | None = None, is_allowed: IsAllowed | None = None
) -> list[View]:
    """Read the cameras of a file with the names and lenses of their pictures.

    Pictures are opened only if a transforms.json lacks their size.

    Args:
        path: A file or folder, as for `read_cameras`.
        size: Width and height in pixels, as for `read_cameras`.
        is_allowed: Whether such a picture may be opened. By default it must lie in the folder of
            the file.

    Returns:
        The views in the order of `read_cameras`. `stack_views` checks their values.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file has no supported format. The message names the file and the defect.
    """
    path = Path(path)
    if path.is_dir() or path.name in MODEL_FILES:
        folder = path if path.is_dir() else path.parent
        if model_folder(folder) is None and (folder / TRANSFORMS).is_file():
            return read_views(folder / TRANSFORMS, size, is_allowed)
        return read_colmap(folder)
    if not path.is_file():
        raise FileNotFoundError(f"no camera file {str(path)!r}")
    try:
        return _read_file(path, size, is_allowed)
    except CameraFileError as error:
        raise ValueError(f"{str(path)!r}: {error}") from None
    except PARSE_ERRORS as error:
        raise ValueError(
            f"{str(path)!r} is no camera path that is known here ({camera_formats()}): "
            f"{describe_error(error)}"
        ) from None


def _read_file(
    path: Path, size: tuple[int, int] | None, is_allowed: IsAllowed | None
) -> list[View]:
    data = read_file(path)
    if data[:2] == b"PK":  # npz is a zip archive
        return _read_npz(load_npz(data, _ARRAYS), size or DEFAULT_SIZE)
    text = decode_text(data)
    if text.lstrip().startswith("{"):
        if len(data) > MAX_JSON_BYTES:
            raise ValueError(f"JSON is read up to {MAX_JSON_BYTES / 2**20:.0f} MiB")
        content = parse_json(text)
        try:
            if "camera_path" in content and "frames" not in content:
                return read_camera_path(content)
            return read_transforms(content, path.parent, size, is_allowed)
        except ValueError as error:
            raise CameraFileError(str(error)) from None
    return _read_realestate(text, size or DEFAULT_SIZE)


def _read_npz(arrays: dict[str, np.ndarray], size: tuple[int, int]) -> list[View]:
    def get(*keys: str) -> np.ndarray | None:
        return next((arrays[key] for key in keys if key in arrays), None)

    matrices = get("w2c", "world_to_camera")
    inverse = get("c2w", "camera_to_world")
    intrinsics = get("K", "intrinsics")
    if intrinsics is None or (matrices is None and inverse is None):
        raise ValueError(
            f"it holds {', '.join(arrays) or 'none of its arrays'}, but a path needs w2c and K"
        )
    if matrices is not None:
        matrices = to_square(matrices, "w2c")
    else:
        assert inverse is not None
        matrices = np.linalg.inv(to_square(inverse, "c2w"))
    intrinsics = np.broadcast_to(intrinsics, (len(matrices), 3, 3))
    sizes = []
    for key, default in zip(("width", "height"), size, strict=True):
        sizes.append(np.broadcast_to(arrays.get(key, default), len(matrices)))
    if len(matrices) > _MAX_VIEWS:
        raise ValueError(f"it has {len(matrices)} cameras; at most {_MAX_VIEWS} are read")
    names = [str(name) for name in np.broadcast_to(arrays.get("names", ""), len(matrices))]
    lenses = np.broadcast_to(arrays.get("k1_simple_radial", 0.0), len(matrices))
    return [
        View(
            matrix,
            focal=(float(k[0, 0]), float(k[1, 1])),
            center=(float(k[0, 2]), float(k[1, 2])),
            size=(
                int(to_number(width, "width", 1, MAX_SIDE)),
                int(to_number(height, "height", 1, MAX_SIDE)),
            ),
            name=name,
            lens=(float(k1),),
        )
        for matrix, k, width, height, name, k1 in zip(
            matrices, intrinsics, *sizes, names, lenses, strict=True
        )
    ]


def _read_realestate(text: str, size: tuple[int, int]) -> list[View]:
    """Read RealEstate10K text (Zhou et al., "Stereo magnification", SIGGRAPH 2018).

    The first line is the video's address. Every other line has a time, fx fy cx cy as fractions of
    width and height, two zeros, and world to camera in three rows of four.
    """
    views = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or (number == 1 and len(line.split()) == 1):
            continue
        try:
            values = [float(word) for word in line.split()]
        except ValueError:
            values = []
        if len(values) != 19:
            raise ValueError(f"line {number} has not RealEstate10K's 19 numbers")
        fx, fy, cx, cy = values[1:5]
        matrix = to_square(np.array(values[7:]).reshape(1, 3, 4))[0]
        focal = (fx * size[0], fy * size[1])
        center = (cx * size[0], cy * size[1])
        views.append(View(matrix, focal, center, size, line.split()[0]))
    return views
