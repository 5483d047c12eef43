"""Read camera paths from the files of other programs.

All formats put the centre of pixel (0, 0) at (0.5, 0.5), as `lift` does. They differ in the
direction of the matrix, in the axes, and in the form of the intrinsics. `read_cameras` ignores lens
distortion. `read_views` returns its coefficients.
"""

import json
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np

from lift.io.colmap import read_colmap
from lift.io.formats import camera_formats
from lift.io.nerfstudio import read_camera_path, read_transforms
from lift.io.views import MissingSizeError, View, stack_views, to_square
from lift.types import Cameras

DEFAULT_SIZE = (640, 360)
"""Width and height in pixels for files with relative intrinsics, if no size is known."""


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


def read_views(path: Path, size: tuple[int, int] | None = None) -> list[View]:
    """Read the cameras of a file with the names and lenses of their pictures.

    Args:
        path: A file or folder, as for `read_cameras`.
        size: Width and height in pixels, as for `read_cameras`.

    Returns:
        The views in the order of `read_cameras`. `stack_views` checks their values.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file has no supported format. The message names the file and the defect.
    """
    path = Path(path)
    if path.is_dir():
        return read_colmap(path)
    if not path.is_file():
        raise FileNotFoundError(f"no camera file {str(path)!r}")
    try:
        return _read_file(path, size)
    except MissingSizeError as error:
        raise ValueError(f"{str(path)!r}: {error}") from None
    except (KeyError, IndexError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{str(path)!r} is no camera path that is known here ({camera_formats()}): "
            f"{type(error).__name__}: {error}"
        ) from None


def _read_file(path: Path, size: tuple[int, int] | None) -> list[View]:
    data = path.read_bytes()
    if data[:2] == b"PK":  # npz is a zip archive
        with np.load(BytesIO(data), allow_pickle=False) as arrays:
            return _read_npz(dict(arrays), size or DEFAULT_SIZE)
    text = data.decode("utf-8-sig")  # some editors write a byte order mark
    if text.lstrip().startswith("{"):
        content = json.loads(text)
        if "camera_path" in content and "frames" not in content:
            return read_camera_path(content)
        return read_transforms(content, path.parent, size)
    return _read_realestate(text, size or DEFAULT_SIZE)


def _read_npz(arrays: dict[str, np.ndarray], size: tuple[int, int]) -> list[View]:
    def get(*keys: str) -> np.ndarray | None:
        return next((arrays[key] for key in keys if key in arrays), None)

    matrices = get("w2c", "world_to_camera")
    inverse = get("c2w", "camera_to_world")
    intrinsics = get("K", "intrinsics")
    if intrinsics is None or (matrices is None and inverse is None):
        raise KeyError(f"it holds {', '.join(arrays)}, but a path needs w2c and K")
    if matrices is not None:
        matrices = to_square(matrices)
    else:
        assert inverse is not None
        matrices = np.linalg.inv(to_square(inverse))
    intrinsics = np.broadcast_to(intrinsics, (len(matrices), 3, 3))
    sizes = []
    for key, default in zip(("width", "height"), size, strict=True):
        sizes.append(np.broadcast_to(arrays.get(key, default), len(matrices)))
    names = [str(name) for name in np.broadcast_to(arrays.get("names", ""), len(matrices))]
    lenses = np.broadcast_to(arrays.get("k1_simple_radial", 0.0), len(matrices))
    return [
        View(
            matrix,
            focal=(float(k[0, 0]), float(k[1, 1])),
            center=(float(k[0, 2]), float(k[1, 2])),
            size=(int(width), int(height)),
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
