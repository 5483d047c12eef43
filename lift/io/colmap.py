"""Read and write COLMAP models, text and binary."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from lift.geometry import quat_to_rotation, rotation_to_quat
from lift.io import colmap_files
from lift.io.number_text import format_table
from lift.io.parsing import PARSE_ERRORS, describe_error, shorten
from lift.io.views import View, natural_key, to_double
from lift.types import Cameras, PointCloud

MODEL_FILES = tuple(f"{part}.{form}" for part in ("cameras", "images") for form in ("txt", "bin"))
"""Files of a COLMAP model. One of each pair of forms is enough."""

MODEL_FOLDERS = (
    *("", "sparse/0", "sparse", "0", "colmap/sparse/0", "colmap/sparse", "colmap"),
    *("dense/sparse", "dense/0/sparse", "text", "model"),
)
"""Where a COLMAP project keeps its model, relative to a folder at any level of it."""


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
    subset = None if points is None else points[:: max(1, math.ceil(len(points) / max_points))]
    _write_points(folder / "points3D.txt", subset)


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


def _write_points(path: Path, points: PointCloud | None) -> None:
    """Write points3D.txt."""
    table = b""
    if points is not None and len(points):
        colors = (points.colors.detach().cpu().clamp(0, 1) * 255).round().int().numpy()
        numbers = np.arange(1, len(points) + 1)
        errors = np.zeros(len(points), int)
        table = format_table([numbers, *points.points.detach().cpu().numpy().T, *colors.T, errors])
    path.write_bytes(b"# POINT3D_ID X Y Z R G B ERROR TRACK[]\n" + table)


def _write_lines(path: Path, header: str, lines: list[str]) -> None:
    path.write_text("\n".join([f"# {header}", *lines]) + "\n", encoding="utf-8")


def model_folder(folder: Path) -> Path | None:
    """Find the model of a COLMAP project.

    Args:
        folder: A folder of any level: the project, its folder `sparse`, or the model itself.

    Returns:
        The folder with cameras and images in one form, or None. It is the first of MODEL_FOLDERS,
        else the only model at most two levels below.

    Raises:
        ValueError: Several models could be meant.
    """
    for name in MODEL_FOLDERS:
        if _model_form(folder / name) is not None:
            return folder / name
    models = [
        path.parent
        for pattern in ("*/cameras.*", "*/*/cameras.*")
        for path in sorted(folder.glob(pattern))
        if path.name in MODEL_FILES and _model_form(path.parent) is not None
    ]
    models = list(dict.fromkeys(models))
    if len(models) > 1:
        raise ValueError(
            f"folder {str(folder)!r} holds {len(models)} COLMAP models; choose one of "
            f"{', '.join(str(model) for model in models[:5])}"
        )
    return models[0] if models else None


def _model_form(folder: Path) -> str | None:
    """Return the form of a model's files, txt or bin. None if the folder is no model."""
    for form in ("txt", "bin"):
        if all((folder / f"{part}.{form}").is_file() for part in ("cameras", "images")):
            return form
    return None


def read_colmap(folder: Path) -> list[View]:
    """Read the cameras of a COLMAP model.

    Args:
        folder: Folder with cameras and images, as .txt or .bin, or a folder of the project around
            it (MODEL_FOLDERS). Text is preferred.

    Returns:
        The views, in natural order of the pictures' names.

    Raises:
        ValueError: The files do not exist or are invalid, or a camera is no pinhole.
    """
    model = model_folder(folder)
    if model is None:
        raise ValueError(
            f"folder {str(folder)!r} holds neither cameras.txt and images.txt nor cameras.bin and "
            "images.bin, and neither do sparse and sparse/0 in it"
        )
    form = _model_form(model)
    files = model / f"cameras.{form}", model / f"images.{form}"
    file = files[0]
    try:
        if form == "txt":
            cameras = _unique_cameras(colmap_files.cameras_text(file))
            file = files[1]
            images = list(colmap_files.images_text(file))
        else:
            cameras = _unique_cameras(colmap_files.cameras_binary(file))
            file = files[1]
            images = list(colmap_files.images_binary(file))
        _check_unique([image[2] for image in images])
        images.sort(key=lambda image: (natural_key(image[2]), image[0]))
        return [_to_view(image, cameras) for image in images]
    except PARSE_ERRORS as error:
        raise ValueError(
            f"{str(model)!r} holds no COLMAP model of pinhole cameras: {file.name}: "
            f"{describe_error(error)}"
        ) from None


def _unique_cameras(
    cameras: Iterable[tuple[int, colmap_files.ModelCamera]],
) -> dict[int, colmap_files.ModelCamera]:
    """Return the cameras by number. Raise ValueError if two have one number."""
    by_number = {}
    for number, camera in cameras:
        if number in by_number:
            raise ValueError(f"camera {number} is there more than once")
        by_number[number] = camera
    return by_number


def _check_unique(names: Sequence[str]) -> None:
    """Raise ValueError if two pictures have one name."""
    known: set[str] = set()
    for name in names:
        if name in known:
            raise ValueError(f"the picture {shorten(name)} is there more than once")
        known.add(name)


def _to_view(image: colmap_files.ModelImage, cameras: dict[int, colmap_files.ModelCamera]) -> View:
    """Join an image and its camera."""
    _, number, name, pose = image
    if number not in cameras:
        raise ValueError(f"the picture {name!r} was taken by camera {number}, which is not there")
    quat = torch.tensor(pose[:4], dtype=torch.float64)
    if not (quat.isfinite().all() and 1e-6 < float(quat.norm()) < 1e6):
        raise ValueError(f"the quaternion of the picture {name!r} is {quat.tolist()}")
    matrix = np.eye(4)
    matrix[:3, :3] = quat_to_rotation(quat).numpy()
    matrix[:3, 3] = pose[4:]
    focal, center, size, lens, model = cameras[number]
    return View(matrix, focal, center, size, name, lens, model)
