"""Write Gaussians to a file of any format, read it back and compare."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import normalize

from lift.io.files import read_file
from lift.io.splats.checks import check_physical, scene_extent
from lift.io.splats.formats import FORMATS, find_format
from lift.io.splats.ply import keep_finite, read_ply
from lift.runtime.atomic_io import publish
from lift.spherical_harmonics import C0
from lift.types import Gaussians

SPLAT_FORMATS = tuple(FORMATS)
"""Names of the file formats of Gaussians, which are the endings of their files."""
READABLE_FORMATS = tuple(name for name, format in FORMATS.items() if format.readable)
"""Names of the formats of which files can be read."""

_EXACT = {"means": 0.0, "quats": 0.01, "scales": 1e-5, "opacities": 1e-6, "colors": 1e-6}
_SPZ = {
    # Positions have 2^13 steps in the size of a scene, or fewer if Gaussians are far away. Scales
    # have steps of 1/16, colours 8 bits over +-3.3 harmonics, harmonics 5 bits and then 4 bits.
    "means": 2.1e-3,
    "quats": 0.3,
    "scales": 0.035,
    "opacities": 0.005,
    "colors": 0.005,
    "sh_rest": 0.07,
}
TOLERANCES = {
    "ply": {**_EXACT, "sh_rest": 0.0},
    # Blocks of 256 Gaussians share bounds, and a far one makes the steps of its block wide.
    "compressed.ply": {
        "means": 0.02,
        "quats": 0.3,
        "scales": 0.01,
        "opacities": 0.003,
        "colors": 0.01,
        "sh_rest": 0.02,
    },
    # Colours, opacities and quaternion components have 8 bits. There is no view dependence.
    "splat": {"means": 0.0, "quats": 2.0, "scales": 1e-5, "opacities": 0.005, "colors": 0.005},
    "ksplat": {**_EXACT, "opacities": 0.005, "colors": 0.005, "sh_rest": 1e-6},
    "spz": _SPZ,
    "v4.spz": _SPZ,
    # Scales and colours are entries of codebooks, harmonics entries of a palette of vectors.
    "sog": {"means": 1e-3, "quats": 1.0, "scales": 0.15, "opacities": 0.003, "colors": 0.01},
    "glb": dict.fromkeys(_EXACT, 0.0) | {"quats": 0.01, "sh_rest": 0.0},
}
"""Largest deviation of a file that is read back, for each format and field.

`means` are relative to the size of the scene or to the distance from its middle, whichever is
larger. `quats` are in degrees, `scales` relative. `opacities` and `colors` (the mean over
directions) are in [0, 1]. `sh_rest` are the other spherical harmonics. The palette of `sog` bounds
none of them.
"""


def export(
    source: Gaussians | Path,
    path: Path,
    format: str | None = None,
    check: Callable[[Gaussians], object] | None = None,
) -> dict[str, float]:
    """Write Gaussians to a file, read it back and measure the deviations.

    Values that a lossy format cannot hold are clamped first: `splat` drops view dependence and
    clamps colours to [0, 1], `spz` clamps harmonics to [-1, 1] and scales to e^-10 or more. Files
    of `spz` and `glb` have the axes x right, y up, z back of their specifications. `sog` and
    `compressed.ply` sort the Gaussians.

    Args:
        source: Gaussians, or a file that `read_splats` reads.
        path: The file to write.
        format: One of SPLAT_FORMATS. None uses the ending of `path`.
        check: Gets the Gaussians that were read back, before the file gets its name. It raises
            ValueError to refuse them.

    Returns:
        Largest deviation of each field, in the units of TOLERANCES.

    Raises:
        ValueError: The format is unknown, it cannot hold the scene, or a deviation exceeds its
            tolerance. In this case no file is written.
    """
    path = Path(path)
    format = find_format(path) if format is None else _check_name(format)
    gaussians = source if isinstance(source, Gaussians) else read_splats(source)
    prepared = FORMATS[format].prepare(gaussians)
    data = FORMATS[format].encode(prepared)
    decoded = decode(data, format)
    deviations = compare(prepared, decoded)
    excess = [
        f"{key} by {value:.3g}"
        for key, value in deviations.items()
        if not value <= TOLERANCES[format].get(key, np.inf)
    ]
    if excess:
        raise ValueError(f"{format} does not give back what was written: {', '.join(excess)}")
    if check is not None:
        check(decoded)
    publish(path, lambda draft: draft.write_bytes(data))
    return deviations


def read_splats(path: Path) -> Gaussians:
    """Read Gaussians from a file of any format that can be read, by the ending of its name.

    Gaussians with a value that is not finite are left out, with a warning.

    Args:
        path: The file.

    Returns:
        The Gaussians, with the axes of `lift`.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The format is unknown or cannot be read, the file is damaged, or it holds no
            Gaussians with finite values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}")
    format = find_format(path)
    if format == "ply":
        return read_ply(path)
    if not FORMATS[format].readable:
        raise ValueError(
            f"{str(path)!r}: {format} is only written; files of {', '.join(READABLE_FORMATS)} can "
            "be read"
        )
    try:
        gaussians = FORMATS[format].decode(read_file(path))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no readable {format} file: {error}") from None
    if len(gaussians) == 0:
        raise ValueError(f"{str(path)!r}: there are no Gaussians")
    return keep_finite(gaussians, str(path))


def encode(gaussians: Gaussians, format: str) -> bytes:
    """Encode Gaussians as the content of a file.

    Args:
        gaussians: Gaussians without a view axis.
        format: One of SPLAT_FORMATS.

    Returns:
        The content of the file.

    Raises:
        ValueError: The format is unknown, a value is invalid, or the format cannot hold the scene.
    """
    chosen = FORMATS[_check_name(format)]
    return chosen.encode(chosen.prepare(gaussians))


def decode(data: bytes, format: str) -> Gaussians:
    """Decode Gaussians from the content of a file.

    Args:
        data: The content. That of ksplat must be what `encode` returned.
        format: One of SPLAT_FORMATS.

    Returns:
        The Gaussians, with the axes of `lift`.

    Raises:
        ValueError: The content is not of that format, or a value is not finite or not physical.
    """
    gaussians = FORMATS[_check_name(format)].decode(data)
    check_physical(gaussians, f"this {format} file: ")
    return gaussians


def compare(expected: Gaussians, decoded: Gaussians) -> dict[str, float]:
    """Measure the largest deviation of each field.

    Args:
        expected: The Gaussians that were written.
        decoded: Those that were read back, in the same order.

    Returns:
        The deviations, in the units of TOLERANCES.

    Raises:
        ValueError: The number of Gaussians or the degree of the harmonics differs.
    """
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
    distances = (a.means - a.means.median(0).values).norm(dim=-1, keepdim=True)
    sizes = distances.clamp(min=scene_extent(a) or float(a.means.abs().max()) or 1.0)
    deviations = {
        "means": (a.means - b.means).abs() / sizes,
        "quats": torch.rad2deg(4 * torch.asin((chord / 2).clamp(max=1))),
        "scales": (b.scales - scales_a).abs() / scales_a,
        "opacities": (a.opacities - b.opacities).abs(),
        "colors": C0 * (a.sh_coeffs[:, 0] - b.sh_coeffs[:, 0]).abs(),
    }
    if a.sh_degree > 0:
        deviations["sh_rest"] = (a.sh_coeffs[:, 1:] - b.sh_coeffs[:, 1:]).abs()
    return {key: float(value.max()) for key, value in deviations.items()}


def _check_name(format: str) -> str:
    """Return the name of a format. Raise ValueError if it is unknown."""
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; choose one of {', '.join(FORMATS)}")
    return format
