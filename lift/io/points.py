"""Read point clouds of structure from motion."""

from pathlib import Path

import numpy as np
import torch

from lift.io.colmap_files import points_binary, points_text
from lift.io.files import read_file
from lift.io.parsing import MAX_NUMBER, PARSE_ERRORS, describe_error
from lift.io.ply import read_vertices
from lift.types import PointCloud


def read_points(path: Path) -> PointCloud | None:
    """Read points with colours from a PLY file, or from the points3D file of a COLMAP folder.

    Args:
        path: A .ply file, or a folder with points3D.txt or points3D.bin.

    Returns:
        The points with colours in [0, 1]. None if there is no such file.

    Raises:
        ValueError: The file is invalid. The message names it and the defect.
    """
    path = Path(path)
    if path.suffix.lower() == ".ply":
        file = path
        read = _points_ply
    else:
        file = path / "points3D.txt"
        read = points_text
        if not file.is_file():
            file = path / "points3D.bin"
            read = points_binary
    if not file.is_file():
        return None
    try:
        values = np.array(read(file), dtype=np.float64).reshape(-1, 6)
        if not (np.abs(values) <= MAX_NUMBER).all():  # false for NaN, too
            raise ValueError("a point is not finite")
    except PARSE_ERRORS as error:
        raise ValueError(
            f"{str(file)!r} holds no points with colours: {describe_error(error)}"
        ) from None
    colors = values[:, 3:].clip(0, 255) / 255
    return PointCloud(torch.from_numpy(values[:, :3]).float(), torch.from_numpy(colors).float())


def _points_ply(file: Path) -> np.ndarray:
    """Read position and colour of the vertices."""
    vertices = read_vertices(read_file(file))
    names = ("x", "y", "z", "red", "green", "blue")
    if missing := [name for name in names if name not in (vertices.dtype.names or ())]:
        raise ValueError(f"its vertices lack {', '.join(missing)}")
    return np.stack([np.asarray(vertices[name], dtype=np.float64) for name in names], axis=-1)
