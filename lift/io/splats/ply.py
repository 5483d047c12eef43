"""Gaussians as PLY, the layout that every viewer reads.

This module and the other formats of this package are the only places where opacities are logits
and scales are logarithms.
"""

import logging
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import normalize

from lift.io.files import read_file
from lift.io.ply import read_comments, read_vertices
from lift.io.splats.checks import check_physical, finite_mask
from lift.types import Gaussians

RENDER_MODE_COMMENT = "SplatRenderMode: default"
"""Comment in a PLY file: no Mip-Splatting, as for all renderers of `lift`.

Brush, gsplat, nerfstudio and splat-transform write or read this comment. Its other values are mip
and 2dgs.
"""

MIP_WARNING = "%s: the scene was trained for the mode %r of renderers; lift renders it as default"
"""Warning of a scene that other renderers show differently. It has two arguments."""

_LOGGER = logging.getLogger(__name__)


def write_ply(path: Path, gaussians: Gaussians) -> None:
    """Write one set of Gaussians as binary little-endian PLY.

    The float32 properties are x y z nx ny nz f_dc_* f_rest_* opacity scale_* rot_*. Opacities are
    logits, scales logarithms, quaternions w x y z. f_rest_* lists all coefficients of one channel,
    then those of the next channel.

    Args:
        path: The file.
        gaussians: Gaussians without a view axis.

    Raises:
        ValueError: There are no Gaussians, or a value is not finite or not physical.
    """
    Path(path).write_bytes(encode_ply(gaussians))


def read_ply(path: Path) -> Gaussians:
    """Read a PLY file of `write_ply` or of the usual trainers, with harmonics of degree 0 to 3.

    Gaussians with a value that is not finite are left out, with a warning.

    Args:
        path: The file.

    Returns:
        The Gaussians.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file holds no Gaussians, or none with finite values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}")
    return keep_finite(parse_ply(read_file(path), str(path)), str(path))


def keep_finite(gaussians: Gaussians, name: str) -> Gaussians:
    """Leave out Gaussians with a value that is not finite, with a warning.

    Args:
        gaussians: Gaussians of a file, with any values.
        name: Name of the file for messages.

    Returns:
        The Gaussians whose values are finite and physical.

    Raises:
        ValueError: There are no Gaussians, or none with finite values.
    """
    finite = finite_mask(gaussians)
    if not finite.all() and finite.any():
        _LOGGER.warning(
            "%s: %d of %d Gaussians are left out: a value is not finite, or a rotation is zero",
            name,
            int((~finite).sum()),
            len(gaussians),
        )
        gaussians = gaussians[finite]
    check_physical(gaussians, f"{name}: ")
    if not finite.any():
        raise ValueError(f"{name}: rot_0 to rot_3 of all {len(gaussians)} Gaussians are zero")
    return gaussians


def encode_ply(gaussians: Gaussians) -> bytes:
    """Encode Gaussians as the content of a PLY file.

    Args:
        gaussians: Gaussians without a view axis.

    Returns:
        The content of the file.

    Raises:
        ValueError: There are no Gaussians, or a value is not finite or not physical.
    """
    from plyfile import PlyData, PlyElement

    check_physical(gaussians)
    g = gaussians.map(lambda value: value.detach().cpu().float())
    rest = g.sh_coeffs[:, 1:].mT.flatten(1)
    table = torch.cat(
        [
            g.means,
            torch.zeros_like(g.means),
            g.sh_coeffs[:, 0],
            rest,
            torch.logit(g.opacities, eps=1e-7)[:, None],
            g.scales.clamp(min=1e-30).log(),
            normalize(g.quats, dim=-1),
        ],
        dim=1,
    )
    columns = np.dtype([(name, "<f4") for name in _properties(rest.shape[1])])
    vertices = np.ascontiguousarray(table.numpy()).view(columns)[:, 0]
    stream = BytesIO()
    element = PlyElement.describe(vertices, "vertex")
    PlyData([element], byte_order="<", comments=[RENDER_MODE_COMMENT]).write(stream)
    return stream.getvalue()


def decode_ply(data: bytes, name: str = "this ply file") -> Gaussians:
    """Decode a PLY file, and check its values.

    Args:
        data: Content of the file.
        name: Name of the file for messages.

    Returns:
        The Gaussians.

    Raises:
        ValueError: The content holds no Gaussians, or a value is not finite or not physical.
    """
    gaussians = parse_ply(data, name)
    check_physical(gaussians, f"{name}: ")
    return gaussians


def parse_ply(data: bytes, name: str) -> Gaussians:
    """Decode a PLY file, whatever its values.

    Args:
        data: Content of the file.
        name: Name of the file for messages.

    Returns:
        The Gaussians, whose values may be infinite or NaN.

    Raises:
        ValueError: The content holds no Gaussians.
    """
    try:
        vertices = read_vertices(data)
    except ValueError as error:
        raise ValueError(f"{name} is not a readable PLY file with vertices: {error}") from None
    warn_of_mip(read_comments(data), name)
    names = set(vertices.dtype.names or ())
    num_rest = sum(key.startswith("f_rest_") for key in names)
    if num_rest not in (0, 9, 24, 45):
        raise ValueError(
            f"{name} has {num_rest} f_rest properties; degree 0, 1, 2 or 3 has 0, 9, 24 or 45"
        )
    columns = [key for key in _properties(num_rest) if key not in ("nx", "ny", "nz")]
    if missing := [key for key in columns if key not in names]:
        raise ValueError(f"{name} holds no Gaussians: it lacks {', '.join(missing[:5])}")
    table = torch.from_numpy(
        np.stack([vertices[key].astype(np.float32) for key in columns], axis=1)
    )
    means, dc, rest, opacity, scales, quats = table.split([3, 3, num_rest, 1, 3, 4], dim=1)
    sh_coeffs = (
        torch.cat([dc[:, None], rest.unflatten(1, (3, -1)).mT], dim=1) if num_rest else dc[:, None]
    )
    return Gaussians(
        means, normalize(quats, dim=-1), scales.exp(), opacity[:, 0].sigmoid(), sh_coeffs
    )


def warn_of_mip(comments: list[str], name: str) -> None:
    """Warn of a scene that was trained with Mip-Splatting, which `lift` does not render.

    Args:
        comments: Comments of a PLY file.
        name: Name of the file for the message.
    """
    mode = ""
    for comment in comments:
        words = comment.lower().split()
        if words[:1] == ["splatrendermode:"]:
            mode = "".join(words[1:2])
        elif words[:1] == ["antialiased"]:
            mode = "mip" if words[1:2] == ["1"] else "default"
    if mode in ("mip", "2dgs"):
        _LOGGER.warning(MIP_WARNING, name, mode)


def _properties(num_rest: int) -> list[str]:
    """List the names of PLY properties."""
    groups = {"f_dc_": 3, "f_rest_": num_rest, "opacity": None, "scale_": 3, "rot_": 4}
    numbered = [
        [key] if count is None else [f"{key}{i}" for i in range(count)]
        for key, count in groups.items()
    ]
    return ["x", "y", "z", "nx", "ny", "nz", *sum(numbered, [])]
