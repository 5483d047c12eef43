"""Read and write Gaussians as PLY, splat and SPZ files.

PLY is the layout that every viewer reads. This module is the only place where opacities are logits
and scales are logarithms.
"""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import normalize

from lift.io.files import read_file
from lift.io.ply import read_vertices
from lift.io.splat_checks import check_physical, check_spz_positions, finite_mask
from lift.runtime.atomic_io import publish
from lift.spherical_harmonics import C0
from lift.types import Gaussians

SPLAT_FORMATS = ("ply", "splat", "spz")
"""File formats of Gaussians."""

TOLERANCES = {
    "ply": {
        "means": 0.0,
        "quats": 0.01,
        "scales": 1e-5,
        "opacities": 1e-6,
        "colors": 1e-6,
        "sh_rest": 0.0,
    },
    # Colours, opacities and quaternion components have 8 bits. There is no view dependence.
    "splat": {"means": 0.0, "quats": 2.0, "scales": 1e-5, "opacities": 0.005, "colors": 0.005},
    # Positions have steps of 1/4096 of a unit, log-scales of 1/16. Colours have 8 bits over +-3.3
    # harmonics. Other harmonics have 5 bits, then 4 bits.
    "spz": {
        "means": 3e-4,
        "quats": 0.3,
        "scales": 0.035,
        "opacities": 0.005,
        "colors": 0.005,
        "sh_rest": 0.07,
    },
}
"""Largest deviation of a file that is read back, for each format and field.

`means` are in units of the scene, `quats` in degrees, `scales` relative. `opacities` and `colors`
(the mean over directions) are in [0, 1]. `sh_rest` are the other spherical harmonics.
"""

_LOGGER = logging.getLogger(__name__)

_SPZ_SCALES = (float(np.exp(-10.0)), float(np.exp(-10 + 255 / 16)))
"""Smallest and largest scale in an SPZ file."""


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
    Path(path).write_bytes(_to_ply(gaussians))


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
    gaussians = _parse_ply(read_file(path), str(path))
    finite = finite_mask(gaussians)
    if not finite.all() and finite.any():
        _LOGGER.warning(
            "%s: %d of %d Gaussians are left out: a value is not finite, or a rotation is zero",
            path,
            int((~finite).sum()),
            len(gaussians),
        )
        gaussians = gaussians[finite]
    check_physical(gaussians, f"{path}: ")
    if not finite.any():
        raise ValueError(f"{path}: rot_0 to rot_3 of all {len(gaussians)} Gaussians are zero")
    return gaussians


def export(source: Gaussians | Path, path: Path, format: str | None = None) -> dict[str, float]:
    """Write Gaussians to a file, read it back and measure the deviations.

    `splat` and `spz` are lossy. Values that they cannot hold are clamped first. `splat` drops view
    dependence and clamps colours to [0, 1]. `spz` clamps harmonics to [-1, 1] and scales to
    [e^-10, e^5.9]. An SPZ file has the axes x right, y up, z back of its specification, and viewers
    convert them.

    Args:
        source: Gaussians, or the PLY file that holds them.
        path: The file to write.
        format: "ply", "splat" or "spz". None uses the suffix of `path`.

    Returns:
        Largest deviation of each field, in the units of TOLERANCES.

    Raises:
        ValueError: The format is unknown, a position is too large for spz, or a deviation exceeds
            its tolerance. In this case no file is written.
    """
    path = Path(path)
    format = path.suffix.removeprefix(".").lower() if format is None else format
    if format not in SPLAT_FORMATS:
        raise ValueError(f"format is {format!r}; choose one of {', '.join(SPLAT_FORMATS)}")
    gaussians = source if isinstance(source, Gaussians) else read_ply(source)
    data = encode(gaussians, format)
    deviations = _compare(_clamp(gaussians, format), decode(data, format))
    excess = [
        f"{key} by {value:.3g}"
        for key, value in deviations.items()
        if not value <= TOLERANCES[format][key]
    ]
    if excess:
        raise ValueError(f"{format} does not give back what was written: {', '.join(excess)}")
    publish(path, lambda draft: draft.write_bytes(data))
    return deviations


def encode(gaussians: Gaussians, format: str) -> bytes:
    """Encode Gaussians as the content of a file.

    Args:
        gaussians: Gaussians without a view axis.
        format: One of SPLAT_FORMATS.

    Returns:
        The content of the file.

    Raises:
        ValueError: A value is invalid, or a position is too large for spz.
    """
    if format == "ply":
        return _to_ply(gaussians)
    if format == "spz":
        check_spz_positions(gaussians)
        # gaussforge does not convert to the axes of the specification.
        gaussians = rotate_half_turn(gaussians)
    return _convert(_to_ply(gaussians), "ply", format)


def decode(data: bytes, format: str) -> Gaussians:
    """Decode Gaussians from the content of a file.

    Args:
        data: The content.
        format: One of SPLAT_FORMATS.

    Returns:
        The Gaussians.

    Raises:
        ValueError: The content is not of that format.
    """
    gaussians = _from_ply(
        data if format == "ply" else _convert(data, format, "ply"), f"this {format} file"
    )
    return rotate_half_turn(gaussians) if format == "spz" else gaussians


def rotate_half_turn(gaussians: Gaussians) -> Gaussians:
    """Rotate Gaussians by 180 degrees about x.

    It converts between y down, z forward and y up, z back. Applying it twice restores the input.

    Args:
        gaussians: Gaussians without a view axis.

    Returns:
        The rotated Gaussians.
    """
    signs = gaussians.means.new_tensor([1.0, -1.0, -1.0])
    # Each harmonic is odd or even in (y, z), so this rotation changes only signs. The order is that
    # of lift.spherical_harmonics.
    sh_signs = gaussians.means.new_tensor([1, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1])
    return replace(
        gaussians,
        means=gaussians.means * signs,
        quats=gaussians.quats * torch.cat([signs[:1], signs]),
        sh_coeffs=gaussians.sh_coeffs * sh_signs[: gaussians.sh_coeffs.shape[-2], None],
    )


def _to_ply(gaussians: Gaussians) -> bytes:
    """Encode Gaussians as PLY."""
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
    PlyData([PlyElement.describe(vertices, "vertex")], byte_order="<").write(stream)
    return stream.getvalue()


def _from_ply(data: bytes, name: str) -> Gaussians:
    """Decode a PLY file, and check its values."""
    gaussians = _parse_ply(data, name)
    check_physical(gaussians, f"{name}: ")
    return gaussians


def _parse_ply(data: bytes, name: str) -> Gaussians:
    """Decode a PLY file, whatever its values."""
    try:
        vertices = read_vertices(data)
    except ValueError as error:
        raise ValueError(f"{name} is not a readable PLY file with vertices: {error}") from None
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


def _properties(num_rest: int) -> list[str]:
    """List the names of PLY properties."""
    groups = {"f_dc_": 3, "f_rest_": num_rest, "opacity": None, "scale_": 3, "rot_": 4}
    numbered = [
        [key] if count is None else [f"{key}{i}" for i in range(count)]
        for key, count in groups.items()
    ]
    return ["x", "y", "z", "nx", "ny", "nz", *sum(numbered, [])]


def _clamp(gaussians: Gaussians, format: str) -> Gaussians:
    """Clamp values to what the format can hold, before quantization."""
    dc = gaussians.sh_coeffs[:, :1]
    rest = gaussians.sh_coeffs[:, 1:]
    if format == "splat":
        return replace(gaussians, sh_coeffs=dc.clamp(-0.5 / C0, 0.5 / C0))
    if format == "spz":
        sh_coeffs = torch.cat([dc.clamp(-0.5 / 0.15, 0.5 / 0.15), rest.clamp(-1, 1)], dim=1)
        return replace(gaussians, scales=gaussians.scales.clamp(*_SPZ_SCALES), sh_coeffs=sh_coeffs)
    return gaussians


def _compare(expected: Gaussians, decoded: Gaussians) -> dict[str, float]:
    """Measure the largest deviation of each field."""
    if len(expected) != len(decoded) or expected.sh_degree != decoded.sh_degree:
        raise ValueError(
            f"{len(expected)} Gaussians of degree {expected.sh_degree} were written, "
            f"{len(decoded)} of degree {decoded.sh_degree} were read back"
        )
    a, b = (g.map(lambda value: value.detach().cpu().double()) for g in (expected, decoded))
    quats_a = normalize(a.quats, dim=-1)
    quats_b = normalize(b.quats, dim=-1)
    # q and -q are the same rotation.
    chord = torch.minimum((quats_a - quats_b).norm(dim=-1), (quats_a + quats_b).norm(dim=-1))
    scales_a = a.scales.clamp(min=1e-30)
    deviations = {
        "means": (a.means - b.means).abs(),
        "quats": torch.rad2deg(4 * torch.asin((chord / 2).clamp(max=1))),
        "scales": (b.scales - scales_a).abs() / scales_a,
        "opacities": (a.opacities - b.opacities).abs(),
        "colors": C0 * (a.sh_coeffs[:, 0] - b.sh_coeffs[:, 0]).abs(),
    }
    if a.sh_degree > 0:
        deviations["sh_rest"] = (a.sh_coeffs[:, 1:] - b.sh_coeffs[:, 1:]).abs()
    return {key: float(value.max()) for key, value in deviations.items()}


def _convert(data: bytes, from_format: str, to_format: str) -> bytes:
    """Convert the content of a file with gaussforge."""
    from gaussforge import GaussForge

    with _silence_stdout():
        result = GaussForge().convert(data, from_format, to_format)
    if not result.get("data"):
        raise ValueError(
            f"{from_format} to {to_format}: {result.get('error') or 'not a file of that format'}"
        )
    return result["data"]


@contextmanager
def _silence_stdout() -> Iterator[None]:
    """Discard what C++ code prints to standard output, which other programs may parse."""
    saved_stdout = os.dup(1)
    try:
        with tempfile.TemporaryFile() as sink:
            os.dup2(sink.fileno(), 1)
            yield
    finally:
        os.dup2(saved_stdout, 1)
        os.close(saved_stdout)
