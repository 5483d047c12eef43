"""Gaussians in files: PLY, the layout every viewer reads, and the smaller formats made from it.

The only place where opacities are logits and scales are logarithms.
"""

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

from lift.spherical_harmonics import C0
from lift.types import Gaussians

FORMATS = ("ply", "splat", "spz")

TOLERANCES = {
    "ply": {
        "means": 0.0,
        "quats": 0.01,
        "scales": 1e-5,
        "opacities": 1e-6,
        "colors": 1e-6,
        "sh_rest": 0.0,
    },
    # 8 bits a colour, an opacity and a quaternion component; no view dependence
    "splat": {"means": 0.0, "quats": 2.0, "scales": 1e-5, "opacities": 0.005, "colors": 0.005},
    # positions in 1/4096 of a unit, log-scales in 1/16, colours in 8 bits over +-3.3 harmonics, 5 then 4 bits of harmonics
    "spz": {
        "means": 3e-4,
        "quats": 0.3,
        "scales": 0.035,
        "opacities": 0.005,
        "colors": 0.005,
        "sh_rest": 0.07,
    },
}
"""Largest deviation that reading back may show: `means` in units of the scene, `quats` in degrees, `scales` relative, `opacities`
and `colors` (the mean over directions) in [0, 1], `sh_rest` the remaining harmonics."""

_SPZ_REACH = 2.0**11  # 24 bits signed, 12 of them behind the point
_SPZ_SCALES = (float(np.exp(-10.0)), float(np.exp(-10 + 255 / 16)))


def write_ply(path: Path, gaussians: Gaussians) -> None:
    """Writes one set of Gaussians, without a view axis, as binary little-endian PLY with float32 properties: x y z nx ny nz f_dc_*
    f_rest_* (all of one channel, then the next) opacity (logit) scale_* (log) rot_* (w x y z).

    Raises ValueError if there is nothing to write, or anything that is not finite or not a physical value.
    """
    Path(path).write_bytes(_to_ply(gaussians))


def read_ply(path: Path) -> Gaussians:
    """Reads what `write_ply` and the usual trainers write; degree 0 to 3. Raises FileNotFoundError, or ValueError if the file is not
    such a PLY.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}")
    return _from_ply(path.read_bytes(), str(path))


def export(source: Gaussians | Path, path: Path, format: str | None = None) -> dict[str, float]:
    """Writes Gaussians, or those of a PLY file, to `path` as ply, splat or spz (None: by the path's suffix), reads them back, and
    returns the largest deviation of each field, in the units of TOLERANCES. `splat` and `spz` are lossy; what they cannot hold is
    clamped first (splat: view dependence left out, colours to [0, 1]; spz: harmonics to +-1, scales to e^-10 ... e^5.9).

    An SPZ file holds x right, y up, z back, as its specification says, whatever our axes are: viewers turn it upright.
    Raises ValueError for an unknown format, Gaussians too far away for spz, or a read-back beyond the tolerance; then no file is left.
    """
    path = Path(path)
    format = path.suffix.removeprefix(".").lower() if format is None else format
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; choose one of {', '.join(FORMATS)}")
    gaussians = source if isinstance(source, Gaussians) else read_ply(source)
    data = encode(gaussians, format)
    deviations = _compare(_clamped(gaussians, format), decode(data, format))
    worse = [
        f"{key} by {value:.3g}"
        for key, value in deviations.items()
        if not value <= TOLERANCES[format][key]
    ]
    if worse:
        raise ValueError(f"{format} does not give back what was written: {', '.join(worse)}")
    path.write_bytes(data)
    return deviations


def encode(gaussians: Gaussians, format: str) -> bytes:
    """The content of a file of one of FORMATS."""
    if format == "ply":
        return _to_ply(gaussians)
    if format == "spz":
        if (far := float(gaussians.means.abs().max())) >= _SPZ_REACH:
            raise ValueError(
                f"spz holds positions up to {_SPZ_REACH:.0f}, and one is {far:.4g}; choose ply or splat, or scale the scene"
            )
        gaussians = turned(
            gaussians
        )  # gaussforge writes the numbers as they are: x right, y up, z back is for us to see to
    return _convert(_to_ply(gaussians), "ply", format)


def decode(data: bytes, format: str) -> Gaussians:
    """Gaussians from the content of a file of one of FORMATS."""
    gaussians = _from_ply(
        data if format == "ply" else _convert(data, format, "ply"), f"this {format} file"
    )
    return turned(gaussians) if format == "spz" else gaussians


def turned(gaussians: Gaussians) -> Gaussians:
    """The Gaussians half a turn about x: between y down, z forward and y up, z back. Twice gives the same again."""
    signs = gaussians.means.new_tensor([1.0, -1.0, -1.0])
    # Each harmonic is odd or even in y z together, so that a half turn about x changes signs only; order as in lift.spherical_harmonics.
    harmonics = gaussians.means.new_tensor([1, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1])
    return replace(
        gaussians,
        means=gaussians.means * signs,
        quats=gaussians.quats * torch.cat([signs[:1], signs]),
        sh_coeffs=gaussians.sh_coeffs * harmonics[: gaussians.sh_coeffs.shape[-2], None],
    )


def _to_ply(gaussians: Gaussians) -> bytes:
    from plyfile import PlyData, PlyElement

    _check(gaussians)
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
    from plyfile import PlyData, PlyElementParseError, PlyHeaderParseError

    try:
        vertices = PlyData.read(BytesIO(data))["vertex"].data
    except (
        PlyHeaderParseError,
        PlyElementParseError,
        KeyError,
        UnicodeDecodeError,
        ValueError,
    ) as error:
        raise ValueError(f"{name} is not a readable PLY file with vertices: {error}") from None
    names = set(vertices.dtype.names)
    num_rest = sum(key.startswith("f_rest_") for key in names)
    if num_rest not in (0, 9, 24, 45):
        raise ValueError(
            f"{name} has {num_rest} f_rest properties; degree 0, 1, 2 or 3 has 0, 9, 24 or 45"
        )
    wanted = [key for key in _properties(num_rest) if key not in ("nx", "ny", "nz")]
    if missing := [key for key in wanted if key not in names]:
        raise ValueError(f"{name} holds no Gaussians: it lacks {', '.join(missing[:5])}")
    table = torch.from_numpy(np.stack([vertices[key].astype(np.float32) for key in wanted], axis=1))
    means, first, rest, opacity, scales, quats = table.split([3, 3, num_rest, 1, 3, 4], dim=1)
    harmonics = (
        torch.cat([first[:, None], rest.unflatten(1, (3, -1)).mT], dim=1)
        if num_rest
        else first[:, None]
    )
    gaussians = Gaussians(
        means, normalize(quats, dim=-1), scales.exp(), opacity[:, 0].sigmoid(), harmonics
    )
    _check(gaussians, f"{name}: ")
    return gaussians


def _properties(num_rest: int) -> list[str]:
    groups = {"f_dc_": 3, "f_rest_": num_rest, "opacity": None, "scale_": 3, "rot_": 4}
    numbered = [
        [key] if count is None else [f"{key}{i}" for i in range(count)]
        for key, count in groups.items()
    ]
    return ["x", "y", "z", "nx", "ny", "nz", *sum(numbered, [])]


def _check(gaussians: Gaussians, name: str = "") -> None:
    if gaussians.means.ndim != 2:
        raise ValueError(
            f"{name}a file holds one set of Gaussians; this one has shape {tuple(gaussians.means.shape[:-1])}"
        )
    if len(gaussians) == 0:
        raise ValueError(f"{name}there are no Gaussians")
    for key, value in gaussians.tensors().items():
        bad = ~value.flatten(1).isfinite().all(1) if value.ndim > 1 else ~value.isfinite()
        if bad.any():
            raise ValueError(
                f"{name}{key} of {int(bad.sum())} of {len(gaussians)} Gaussians are not finite"
            )
    if gaussians.scales.min() < 0 or gaussians.opacities.min() < 0 or gaussians.opacities.max() > 1:
        raise ValueError(f"{name}scales must not be negative, and opacities lie in [0, 1]")


def _clamped(gaussians: Gaussians, format: str) -> Gaussians:
    """What the format can hold of them, quantisation aside."""
    first, rest = gaussians.sh_coeffs[:, :1], gaussians.sh_coeffs[:, 1:]
    if format == "splat":
        return replace(gaussians, sh_coeffs=first.clamp(-0.5 / C0, 0.5 / C0))
    if format == "spz":
        harmonics = torch.cat([first.clamp(-0.5 / 0.15, 0.5 / 0.15), rest.clamp(-1, 1)], dim=1)
        return replace(gaussians, scales=gaussians.scales.clamp(*_SPZ_SCALES), sh_coeffs=harmonics)
    return gaussians


def _compare(expected: Gaussians, found: Gaussians) -> dict[str, float]:
    if len(expected) != len(found) or expected.sh_degree != found.sh_degree:
        raise ValueError(
            f"{len(expected)} Gaussians of degree {expected.sh_degree} were written, "
            f"{len(found)} of degree {found.sh_degree} were read back"
        )
    e, f = (g.map(lambda value: value.detach().cpu().double()) for g in (expected, found))
    qe, qf = normalize(e.quats, dim=-1), normalize(f.quats, dim=-1)
    chord = torch.minimum(
        (qe - qf).norm(dim=-1), (qe + qf).norm(dim=-1)
    )  # q and -q are one rotation
    smallest = e.scales.clamp(min=1e-30)
    deviations = {
        "means": (e.means - f.means).abs(),
        "quats": torch.rad2deg(4 * torch.asin((chord / 2).clamp(max=1))),
        "scales": (f.scales - smallest).abs() / smallest,
        "opacities": (e.opacities - f.opacities).abs(),
        "colors": C0 * (e.sh_coeffs[:, 0] - f.sh_coeffs[:, 0]).abs(),
    }
    if e.sh_degree > 0:
        deviations["sh_rest"] = (e.sh_coeffs[:, 1:] - f.sh_coeffs[:, 1:]).abs()
    return {key: float(value.max()) for key, value in deviations.items()}


def _convert(data: bytes, from_format: str, to_format: str) -> bytes:
    from gaussforge import GaussForge

    with _silent():
        result = GaussForge().convert(data, from_format, to_format)
    if not result.get("data"):
        raise ValueError(
            f"{from_format} to {to_format}: {result.get('error') or 'not a file of that format'}"
        )
    return result["data"]


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing that C++ code writes to standard output gets through: programs read ours."""
    kept = os.dup(1)
    try:
        with tempfile.TemporaryFile() as hole:
            os.dup2(hole.fileno(), 1)
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
