"""Camera paths in the files of other programs.

All of them put the centre of pixel (0, 0) at (0.5, 0.5), as we do. What differs is the direction of the matrix, the axes, and how
intrinsics are written. A path of cameras does not look at lens distortion, which does not move a camera; `read_views` tells it.
"""

import json
import math
import re
import struct
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lift.geometry import quat_to_rotation, rotation_to_quat
from lift.io.image import picture_size
from lift.types import Cameras, PointCloud

FORMATS = (
    "npz, transforms.json, nerfstudio's camera_path.json, RealEstate10K text, or a folder with "
    "COLMAP's cameras and images, text or binary"
)

# COLMAP's camera models: name, number of parameters, whether x and y share one focal length; the fisheye ones are no pinholes.
_MODELS = {
    0: ("SIMPLE_PINHOLE", 3, True),
    1: ("PINHOLE", 4, False),
    2: ("SIMPLE_RADIAL", 4, True),
    3: ("RADIAL", 5, True),
    4: ("OPENCV", 8, False),
    6: ("FULL_OPENCV", 12, False),
}
_BY_NAME = {name: (count, shared) for name, count, shared in _MODELS.values()}
_NO_PINHOLES = {
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
PINHOLES = tuple(_BY_NAME)
"""Camera models that are a pinhole with OpenCV's lens distortion, or without."""
LENS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
"""OpenCV's coefficients of lens distortion, in its order: radial, tangential, radial again; k4 to k6 are those of a denominator."""
_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # camera axes x right, y up, z back


SIZE = (640, 360)
"""Width and height of a path in shares of the picture, if nothing tells the picture's size."""


def read_cameras(path: Path, size: tuple[int, int] | None = None) -> Cameras:
    """Reads a path in any of FORMATS, told apart by content; views in the file's order (COLMAP's: natural order of the pictures' names).

    npz: `w2c` [n 4 4] or [n 3 4] (or `world_to_camera`; `c2w`, `camera_to_world`), OpenCV axes, `K` (or `intrinsics`) [n 3 3] or
    [3 3], `width`, `height`. RealEstate10K has intrinsics as shares of the picture, and no size: then `size` is the width and
    height, or SIZE if not given. So it is for an npz file without a size. A transforms.json without `w` and `h` has the size of the
    pictures that it names, else `size`; without either it is refused. Rotations are made exactly orthonormal.
    Raises FileNotFoundError, or ValueError naming the file and what is wrong with it: among other things a matrix that mirrors or
    scales, and pictures of several sizes.
    """
    return joined(read_views(path, size), str(path))


@dataclass(frozen=True)
class View:
    """One camera of a file. world_to_camera: [4 4]; focal, center: x and y in pixels; size: width and height, as the file has it, whatever the
    picture's own is. name: of its picture, or empty. lens: OpenCV's k1 k2 p1 p2 k3 k4 k5 k6, as many as the file tells; the rest is 0. model: as the
    file names it, or empty.
    """

    world_to_camera: np.ndarray
    focal: tuple[float, float]
    center: tuple[float, float]
    size: tuple[int, int]
    name: str = ""
    lens: tuple[float, ...] = ()
    model: str = ""

    def resized(self, width: int, height: int) -> "View":
        """The same camera with a picture of another size."""
        x, y = width / self.size[0], height / self.size[1]
        return replace(
            self,
            focal=(self.focal[0] * x, self.focal[1] * y),
            center=(self.center[0] * x, self.center[1] * y),
            size=(width, height),
        )


def read_views(path: Path, size: tuple[int, int] | None = None) -> list[View]:
    """The cameras one by one, with their pictures' names and lenses. Arguments, order and errors as `read_cameras` has them; nothing is checked yet that
    `joined` checks.
    """
    path = Path(path)
    if path.is_dir():
        return _read_colmap(path)
    if not path.is_file():
        raise FileNotFoundError(f"no camera file {str(path)!r}")
    try:
        return _read_file(path, size)
    except MissingSizeError as error:
        raise ValueError(f"{str(path)!r}: {error}") from None
    except (KeyError, IndexError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{str(path)!r} is no camera path that is known here ({FORMATS}): {type(error).__name__} {error}"
        ) from None


def read_points(path: Path) -> PointCloud | None:
    """Points of structure from motion with their colours: of a PLY file, or of a folder's points3D.txt or points3D.bin (COLMAP); None if there is neither.

    Raises ValueError naming the file and what is wrong with it.
    """
    path = Path(path)
    if path.suffix.lower() == ".ply":
        file, read = path, _points_ply
    else:
        file, read = path / "points3D.txt", _points_text
        if not file.is_file():
            file, read = path / "points3D.bin", _points_binary
    if not file.is_file():
        return None
    try:
        values = np.array(read(file), dtype=np.float64).reshape(-1, 6)
    except (ValueError, KeyError, IndexError, EOFError, struct.error) as error:
        raise ValueError(
            f"{str(file)!r} holds no points with colours: {type(error).__name__} {error}"
        ) from None
    if not np.isfinite(values).all():
        raise ValueError(f"{str(file)!r} has a point that is not finite")
    return PointCloud(
        torch.from_numpy(values[:, :3]).float(), torch.from_numpy(values[:, 3:] / 255).float()
    )


def write_transforms(path: Path, cameras: Cameras, names: Sequence[str]) -> None:
    """Writes nerfstudio's transforms.json: camera_to_world with OpenGL axes, intrinsics with every frame; `names` are pictures
    relative to the file, or empty. Reading it gives back the cameras to 1e-6 of their distance from the world's origin.
    """
    to_world = np.linalg.inv(_double(cameras.world_to_camera)) @ _OPENGL
    frames = [
        {
            "file_path": name,
            "fl_x": k[0, 0],
            "fl_y": k[1, 1],
            "cx": k[0, 2],
            "cy": k[1, 2],
            "w": cameras.width,
            "h": cameras.height,
            "transform_matrix": matrix.tolist(),
        }
        for name, k, matrix in zip(names, _double(cameras.intrinsics), to_world, strict=True)
    ]
    Path(path).write_text(
        json.dumps({"camera_model": "OPENCV", "frames": frames}, indent=1) + "\n", encoding="utf-8"
    )


def write_colmap(
    folder: Path,
    cameras: Cameras,
    names: Sequence[str],
    points: PointCloud | None = None,
    most: int = 200_000,
) -> None:
    """Writes cameras.txt, images.txt and points3D.txt, without tracks; one PINHOLE camera if all views share it, else one a view.
    At most `most` points, evenly taken. Reading it gives back the cameras as exactly as `write_transforms`. Raises ValueError for a
    name with a space in it, which COLMAP would cut.
    """
    if spaced := [name for name in names if any(map(str.isspace, name))]:
        raise ValueError(
            f"COLMAP's text files cannot name a picture {spaced[0]!r}: there is a space in it"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    intrinsics = _double(cameras.intrinsics)
    shared = bool((intrinsics == intrinsics[0]).all())
    lines = [
        f"{i + 1} PINHOLE {cameras.width} {cameras.height} {' '.join(repr(float(v)) for v in (k[0, 0], k[1, 1], k[0, 2], k[1, 2]))}"
        for i, k in enumerate(intrinsics[:1] if shared else intrinsics)
    ]
    _write_lines(folder / "cameras.txt", "CAMERA_ID MODEL WIDTH HEIGHT fx fy cx cy", lines)
    matrices = cameras.world_to_camera.detach().cpu().double()
    quats = rotation_to_quat(matrices[:, :3, :3]).tolist()
    lines = []
    for i, (name, quat, moved) in enumerate(
        zip(names, quats, matrices[:, :3, 3].tolist(), strict=True)
    ):
        pose = " ".join(repr(v) for v in (*quat, *moved))
        lines += [
            f"{i + 1} {pose} {1 if shared else i + 1} {name or f'{i:06d}.png'}",
            "",
        ]  # the second line lists 2D points: none
    _write_lines(
        folder / "images.txt",
        "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of POINTS2D",
        lines,
    )
    lines = []
    if points is not None and len(points):
        chosen = points[:: max(1, math.ceil(len(points) / most))]
        colors = (chosen.colors.detach().cpu().clamp(0, 1) * 255).round().int().tolist()
        places = chosen.points.detach().cpu().tolist()
        lines = [
            f"{i} {x:.7g} {y:.7g} {z:.7g} {r} {g} {b} 0"
            for i, ((x, y, z), (r, g, b)) in enumerate(zip(places, colors, strict=True), 1)
        ]
    _write_lines(folder / "points3D.txt", "POINT3D_ID X Y Z R G B ERROR TRACK[]", lines)


def joined(views: Sequence[View], name: str) -> Cameras:
    """All cameras of a file `name`. Raises ValueError, which names it, as `read_cameras` does."""
    if not views:
        raise ValueError(f"{name!r} holds no cameras")
    if len(sizes := sorted({view.size for view in views})) > 1:
        listed = ", ".join(f"{width} x {height}" for width, height in sizes[:3])
        raise ValueError(
            f"{name!r} has cameras of several picture sizes ({listed}); a path has one"
        )
    matrices = np.stack([view.world_to_camera for view in views]).astype(np.float64)
    intrinsics = np.zeros((len(views), 3, 3))
    intrinsics[:, [0, 1], [0, 1]] = [view.focal for view in views]
    intrinsics[:, :2, 2] = [view.center for view in views]
    intrinsics[:, 2, 2] = 1
    if not (
        np.isfinite(matrices).all()
        and np.isfinite(intrinsics).all()
        and (intrinsics[:, [0, 1], [0, 1]] > 0).all()
    ):
        raise ValueError(
            f"{name!r} has a camera that is not finite, or a focal length that is not positive"
        )
    rotations = matrices[:, :3, :3]
    u, _, vt = np.linalg.svd(rotations)
    nearest = u @ vt
    wrong = (np.abs(nearest - rotations).max((1, 2)) > 1e-3) | (np.linalg.det(nearest) < 0)
    if wrong.any():
        raise ValueError(
            f"{name!r}: the matrix of camera {int(wrong.argmax())} is no rigid motion (it mirrors, scales or shears)"
        )
    matrices[:, :3, :3] = nearest
    width, height = sizes[0]
    return Cameras(
        torch.from_numpy(matrices).float(), torch.from_numpy(intrinsics).float(), width, height
    )


class MissingSizeError(ValueError):
    """A camera file does not tell the size of its pictures, and nothing else does."""


def _read_file(path: Path, size: tuple[int, int] | None) -> list[View]:
    data = path.read_bytes()
    if data[:2] == b"PK":  # npz is a zip archive
        with np.load(BytesIO(data), allow_pickle=False) as arrays:
            return _read_npz(dict(arrays), size or SIZE)
    text = data.decode("utf-8-sig")  # some editors write a byte order mark
    if text.lstrip().startswith("{"):
        content = json.loads(text)
        if "camera_path" in content and "frames" not in content:
            return _read_camera_path(content)
        return _read_transforms(content, path.parent, size)
    return _read_realestate(text, size or SIZE)


def _read_npz(arrays: dict[str, np.ndarray], size: tuple[int, int]) -> list[View]:
    def found(*keys: str) -> np.ndarray | None:
        return next((arrays[key] for key in keys if key in arrays), None)

    matrices, inverse = found("w2c", "world_to_camera"), found("c2w", "camera_to_world")
    intrinsics = found("K", "intrinsics")
    if (matrices is None and inverse is None) or intrinsics is None:
        raise KeyError(f"it holds {', '.join(arrays)}, but a path needs w2c and K")
    matrices = _square(inverse if matrices is None else matrices)
    matrices = np.linalg.inv(matrices) if found("w2c", "world_to_camera") is None else matrices
    intrinsics = np.broadcast_to(intrinsics, (len(matrices), 3, 3))
    sizes = []
    for key, default in zip(("width", "height"), size, strict=True):
        sizes.append(np.broadcast_to(arrays.get(key, default), len(matrices)))
    names = [str(name) for name in np.broadcast_to(arrays.get("names", ""), len(matrices))]
    lenses = np.broadcast_to(arrays.get("k1_simple_radial", 0.0), len(matrices))
    return [
        View(
            m,
            (float(k[0, 0]), float(k[1, 1])),
            (float(k[0, 2]), float(k[1, 2])),
            (int(w), int(h)),
            name,
            (float(k1),),
        )
        for m, k, w, h, name, k1 in zip(matrices, intrinsics, *sizes, names, lenses, strict=True)
    ]


def _square(matrices: np.ndarray) -> np.ndarray:
    """[n 3 4] or [n 4 4] as [n 4 4]."""
    if matrices.ndim != 3 or matrices.shape[1:] not in ((3, 4), (4, 4)):
        raise TypeError(f"matrices of shape {matrices.shape} are not [n 4 4]")
    out = np.tile(np.eye(4), (len(matrices), 1, 1))
    out[:, :3] = matrices[:, :3]
    return out


def _read_camera_path(content: dict[str, Any]) -> list[View]:
    """Nerfstudio's camera_path.json, as its viewer exports it; `fov` is in degrees, from top to bottom."""
    width, height = int(content["render_width"]), int(content["render_height"])
    views = []
    for camera in content["camera_path"]:
        to_world = np.array(camera["camera_to_world"], dtype=np.float64).reshape(4, 4)
        focal = height / 2 / math.tan(math.radians(float(camera["fov"])) / 2)
        matrix = np.linalg.inv(to_world @ _OPENGL)
        views.append(View(matrix, (focal, focal), (width / 2, height / 2), (width, height)))
    return views


def _size_of_frame(
    facts: dict[str, Any], folder: Path, size: tuple[int, int] | None
) -> tuple[int, int]:
    """The size of a frame's picture: as stated, else that of its file as stored, else `size`."""
    if "w" in facts and "h" in facts:
        return int(facts["w"]), int(facts["h"])
    named = folder / str(facts.get("file_path", ""))
    for file in (named, *(Path(f"{named}{suffix}") for suffix in (".png", ".jpg", ".jpeg"))):
        if file.is_file():
            return picture_size(file, upright=False)
    if size is None:
        missing = " and ".join(key for key in ("w", "h") if key not in facts)
        picture = (
            f"its picture {str(named)!r} is not there" if named != folder else "it names no picture"
        )
        raise MissingSizeError(f"it has no {missing}, and {picture} to tell the size")
    return size


def _read_transforms(
    content: dict[str, Any], folder: Path, size: tuple[int, int] | None
) -> list[View]:
    views = []
    for frame in content["frames"]:
        facts = {key: value for key, value in {**content, **frame}.items() if value is not None}
        width, height = _size_of_frame(facts, folder, size)
        if "fl_x" in facts:
            focal = float(facts["fl_x"]), float(facts.get("fl_y", facts["fl_x"]))
        else:  # NeRF's synthetic scenes
            half = width / 2 / math.tan(facts["camera_angle_x"] / 2)
            focal = half, half
        center = float(facts.get("cx", width / 2)), float(facts.get("cy", height / 2))
        to_world = np.array(facts["transform_matrix"], dtype=np.float64)[None]
        lens = tuple(float(facts.get(key, 0.0)) for key in LENS)
        model = "a fisheye" if facts.get("is_fisheye") else str(facts.get("camera_model", ""))
        matrix = np.linalg.inv(_square(to_world)[0] @ _OPENGL)
        views.append(
            View(
                matrix, focal, center, (width, height), str(facts.get("file_path", "")), lens, model
            )
        )
    return views


def _read_realestate(text: str, size: tuple[int, int]) -> list[View]:
    """Zhou et al., "Stereo magnification", SIGGRAPH 2018: a line with the video's address, then for every frame a time, fx fy cx cy as
    shares of width and height, two zeros, and world_to_camera, three rows of four.
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
        matrix = _square(np.array(values[7:]).reshape(1, 3, 4))[0]
        views.append(
            View(
                matrix,
                (fx * size[0], fy * size[1]),
                (cx * size[0], cy * size[1]),
                size,
                line.split()[0],
            )
        )
    return views


def _read_colmap(folder: Path) -> list[View]:
    readers = {"txt": (_cameras_text, _images_text), "bin": (_cameras_binary, _images_binary)}
    for parts in readers:
        files = folder / f"cameras.{parts}", folder / f"images.{parts}"
        if all(file.is_file() for file in files):
            break
    else:
        raise ValueError(
            f"folder {str(folder)!r} holds neither cameras.txt and images.txt nor cameras.bin and images.bin"
        )
    try:
        cameras_of, images_of = readers[parts]
        cameras = dict(cameras_of(files[0]))
        poses = sorted(images_of(files[1]), key=lambda pose: (natural(pose[2]), pose[0]))
    except (IndexError, KeyError, ValueError, UnicodeDecodeError, struct.error) as error:
        raise ValueError(
            f"{str(folder)!r} holds no COLMAP model of pinhole cameras: {type(error).__name__} {error}"
        ) from None
    views = []
    for _, camera, name, pose in poses:
        if camera not in cameras:
            raise ValueError(
                f"{str(folder)!r}: a picture was taken by camera {camera}, which is not there"
            )
        matrix = np.eye(4)
        matrix[:3, :3] = quat_to_rotation(torch.tensor(pose[:4], dtype=torch.float64)).numpy()
        matrix[:3, 3] = pose[4:]
        views.append(View(matrix, *cameras[camera][:3], name, *cameras[camera][3:]))
    return views


_Lens = tuple[tuple[float, float], tuple[float, float], tuple[int, int], tuple[float, ...], str]
_Pose = tuple[int, int, str, Sequence[float]]


def _lens(number: int, model: str, width: int, height: int, parameters: Sequence[float]) -> _Lens:
    """COLMAP lists coefficients in OpenCV's order, after the focal lengths and the principal point."""
    count, shared = _pinhole(number, model)
    if len(parameters) != count:
        raise ValueError(f"camera {number} ({model}) has {len(parameters)} parameters, not {count}")
    values = [parameters[0], *parameters] if shared else list(parameters)
    return (values[0], values[1]), (values[2], values[3]), (width, height), tuple(values[4:]), model


def _pinhole(number: int, model: str) -> tuple[int, bool]:
    if model not in _BY_NAME:
        raise ValueError(
            f"camera {number} is of the model {model}; known are {', '.join(PINHOLES)}"
        )
    return _BY_NAME[model]


def _cameras_text(file: Path) -> Iterator[tuple[int, _Lens]]:
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            number, model, width, height, *parameters = line.split()
            yield (
                int(number),
                _lens(
                    int(number),
                    model,
                    int(width),
                    int(height),
                    [float(value) for value in parameters],
                ),
            )


def _images_text(file: Path) -> Iterator[_Pose]:
    """As COLMAP's own reader: blank lines before a picture's line are skipped, the line after it lists its points."""
    lines = iter(file.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.strip() and not line.lstrip().startswith("#"):
            number, *pose, camera, name = line.split(maxsplit=9)
            yield int(number), int(camera), name.strip(), [float(value) for value in pose]
            next(lines, None)


def _cameras_binary(file: Path) -> Iterator[tuple[int, _Lens]]:
    stream = BytesIO(file.read_bytes())
    (count,) = _take(stream, "<Q")
    for _ in range(count):
        number, model, width, height = _take(stream, "<IiQQ")
        name = _MODELS[model][0] if model in _MODELS else _NO_PINHOLES.get(model, str(model))
        many, _ = _pinhole(number, name)
        yield number, _lens(number, name, width, height, _take(stream, f"<{many}d"))


def _images_binary(file: Path) -> Iterator[_Pose]:
    stream = BytesIO(file.read_bytes())
    (count,) = _take(stream, "<Q")
    for _ in range(count):
        number, *pose, camera = _take(stream, "<I7dI")
        name = b"".join(iter(lambda: _take(stream, "<c")[0], b"\0")).decode("utf-8")
        (points,) = _take(stream, "<Q")
        _skip(stream, 24 * points)  # x, y, point
        yield number, camera, name, pose


def _points_text(file: Path) -> list[list[float]]:
    lines = [
        line.split()
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    if short := next((words for words in lines if len(words) < 7), None):
        raise ValueError(f"the line {' '.join(short)!r} has not number, place and colour")
    return [[float(word) for word in words[1:7]] for words in lines]


def _points_binary(file: Path) -> list[tuple[int | float, ...]]:
    stream, found = BytesIO(file.read_bytes()), []
    (count,) = _take(stream, "<Q")
    for _ in range(count):
        _, *values, _, seen = _take(stream, "<Q3d3BdQ")  # number, place, colour, error, track
        _skip(stream, 8 * seen)
        found.append(tuple(values))
    return found


def _points_ply(file: Path) -> np.ndarray:
    from plyfile import PlyData, PlyElementParseError, PlyHeaderParseError

    try:
        vertices = PlyData.read(str(file), mmap=False)["vertex"]
    except (PlyHeaderParseError, PlyElementParseError) as error:
        raise ValueError(str(error)) from None
    return np.stack(
        [
            np.asarray(vertices[key], dtype=np.float64)
            for key in ("x", "y", "z", "red", "green", "blue")
        ],
        axis=-1,
    )


def _skip(stream: BytesIO, count: int) -> None:
    if stream.seek(count, 1) > stream.getbuffer().nbytes:
        raise struct.error("the file ends too early")


def _take(stream: BytesIO, layout: str) -> tuple:
    return struct.unpack(layout, stream.read(struct.calcsize(layout)))


def _write_lines(path: Path, header: str, lines: list[str]) -> None:
    path.write_text("\n".join([f"# {header}", *lines]) + "\n", encoding="utf-8")


def natural(name: str) -> list[tuple[int, str]]:
    """In which a picture 9 comes before a picture 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _double(value: torch.Tensor) -> np.ndarray:
    return value.detach().cpu().double().numpy()
