"""Read point clouds of structure from motion."""

import struct
from pathlib import Path

import numpy as np
import torch

from lift.io.colmap import points_binary, points_text
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
    except (ValueError, KeyError, IndexError, EOFError, struct.error) as error:
        raise ValueError(
            f"{str(file)!r} holds no points with colours: {type(error).__name__} {error}"
        ) from None
    if not np.isfinite(values).all():
        raise ValueError(f"{str(file)!r} has a point that is not finite")
    return PointCloud(
        torch.from_numpy(values[:, :3]).float(), torch.from_numpy(values[:, 3:] / 255).float()
    )


def _points_ply(file: Path) -> np.ndarray:
    """Read position and colour of the vertices."""
    from plyfile import PlyData, PlyElementParseError, PlyHeaderParseError

    try:
        vertices = PlyData.read(str(file), mmap=False)["vertex"]  # pyright: ignore[reportArgumentType]
    except (PlyHeaderParseError, PlyElementParseError) as error:
        raise ValueError(str(error)) from None
    names = ("x", "y", "z", "red", "green", "blue")
    return np.stack([np.asarray(vertices[name], dtype=np.float64) for name in names], axis=-1)
