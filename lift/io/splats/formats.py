"""The file formats of Gaussians: what each can hold, and how it is written and read."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from lift.io.splats.arrays import Arrays, to_arrays, to_gaussians
from lift.io.splats.checks import check_physical, scene_extent
from lift.io.splats.compressed_ply import (
    LOG_SCALE_LIMIT,
    SH_LIMIT,
    decode_compressed_ply,
    encode_compressed_ply,
)
from lift.io.splats.glb import decode_glb, encode_glb
from lift.io.splats.ksplat import decode_own_ksplat, encode_ksplat
from lift.io.splats.order import sort_in_space
from lift.io.splats.ply import encode_ply, parse_ply
from lift.io.splats.sog import decode_sog, encode_sog
from lift.io.splats.splat import decode_splat, encode_splat
from lift.io.splats.spz import (
    COLOR_FACTOR,
    LOG_SCALES,
    check_spz,
    decode_spz,
    encode_spz,
)
from lift.spherical_harmonics import C0
from lift.types import Gaussians


@dataclass(frozen=True)
class SplatFormat:
    """A file format. Its name is the ending of its files."""

    title: str
    """Name and version for messages and documentation."""
    prepare: Callable[[Gaussians], Gaussians]
    """Clamps values to what the format can hold, and sorts the Gaussians as it stores them."""
    encode: Callable[[Gaussians], bytes]
    """Encodes prepared Gaussians."""
    decode: Callable[[bytes], Gaussians]
    """Decodes a file that `encode` wrote, with any values."""
    readable: bool = True
    """Whether files that others made can be read."""
    lossless: bool = False
    """Whether a file gives back all values up to rounding of single precision."""
    note: str = ""
    """What a user should know when a file is written."""


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


def find_format(path: Path) -> str:
    """Find the format of a file by the longest ending that is the name of one.

    Args:
        path: The file.

    Returns:
        Its name.

    Raises:
        ValueError: No format has this ending.
    """
    name = path.name.lower()
    matches = [key for key in FORMATS if name.endswith(f".{key}")]
    if not matches:
        raise ValueError(
            f"{path.name!r} ends with none of {', '.join(f'.{key}' for key in FORMATS)}"
        )
    return max(matches, key=len)


def _without_change(gaussians: Gaussians) -> Gaussians:
    check_physical(gaussians)
    return gaussians


def _clamp_scales(gaussians: Gaussians, low: float, high: float) -> Gaussians:
    """Clamp scales to an interval of logarithms."""
    bounds = torch.tensor([low, high], dtype=torch.float64).exp().to(gaussians.scales)
    return replace(gaussians, scales=gaussians.scales.clamp(bounds[0], bounds[1]))


def _clamp_harmonics(gaussians: Gaussians, dc: float, rest: float) -> Gaussians:
    """Clamp harmonics of degree 0, and those of higher degrees."""
    sh_coeffs = torch.cat(
        [
            gaussians.sh_coeffs[:, :1].clamp(-dc, dc),
            gaussians.sh_coeffs[:, 1:].clamp(-rest, rest),
        ],
        dim=1,
    )
    return replace(gaussians, sh_coeffs=sh_coeffs)


def _prepare_splat(gaussians: Gaussians) -> Gaussians:
    check_physical(gaussians)
    flat = replace(gaussians, sh_coeffs=gaussians.sh_coeffs[:, :1])
    return _clamp_harmonics(flat, 0.5 / C0, 0.0)


def _prepare_ksplat(gaussians: Gaussians) -> Gaussians:
    check_physical(gaussians)
    return _clamp_harmonics(gaussians, 0.5 / C0, float("inf"))


def _prepare_compressed_ply(gaussians: Gaussians) -> Gaussians:
    check_physical(gaussians)
    held = _clamp_scales(gaussians, -LOG_SCALE_LIMIT, LOG_SCALE_LIMIT)
    return sort_in_space(_clamp_harmonics(held, float("inf"), SH_LIMIT))


def _prepare_spz(gaussians: Gaussians) -> Gaussians:
    check_spz(gaussians)
    return _clamp_harmonics(_clamp_scales(gaussians, *LOG_SCALES), 0.5 / COLOR_FACTOR, 1.0)


def _prepare_sog(gaussians: Gaussians) -> Gaussians:
    check_physical(gaussians)
    return sort_in_space(_clamp_scales(gaussians, -LOG_SCALE_LIMIT, LOG_SCALE_LIMIT))


def _encode_spz(gaussians: Gaussians, version: int) -> bytes:
    turned = to_arrays(rotate_half_turn(gaussians))
    return encode_spz(turned, scene_extent(gaussians), version)


def _from_arrays(decode: Callable[[bytes], Arrays], data: bytes) -> Gaussians:
    return to_gaussians(decode(data))


def _decode_spz(data: bytes) -> Gaussians:
    return rotate_half_turn(to_gaussians(decode_spz(data)))


FORMATS = {
    "ply": SplatFormat(
        "PLY of 3D Gaussian splatting",
        _without_change,
        encode_ply,
        partial(parse_ply, name="this ply file"),
        lossless=True,
    ),
    "compressed.ply": SplatFormat(
        "compressed PLY of PlayCanvas",
        _prepare_compressed_ply,
        lambda gaussians: encode_compressed_ply(to_arrays(gaussians)),
        partial(_from_arrays, decode_compressed_ply),
    ),
    "splat": SplatFormat(
        "splat of antimatter15",
        _prepare_splat,
        lambda gaussians: encode_splat(to_arrays(gaussians)),
        partial(_from_arrays, decode_splat),
    ),
    "ksplat": SplatFormat(
        "ksplat 0.1 of GaussianSplats3D",
        _prepare_ksplat,
        encode_ksplat,
        decode_own_ksplat,
        readable=False,
    ),
    "spz": SplatFormat(
        "SPZ 3 of Niantic", _prepare_spz, partial(_encode_spz, version=3), _decode_spz
    ),
    "v4.spz": SplatFormat(
        "SPZ 4 of Niantic",
        _prepare_spz,
        partial(_encode_spz, version=4),
        _decode_spz,
        note="version 4 of spz is new: programs that cannot open it may open version 3, a name.spz",
    ),
    "sog": SplatFormat(
        "SOG 2 of PlayCanvas",
        _prepare_sog,
        lambda gaussians: encode_sog(to_arrays(gaussians)),
        partial(_from_arrays, decode_sog),
    ),
    "glb": SplatFormat(
        "glTF 2.0 with KHR_gaussian_splatting",
        _without_change,
        lambda gaussians: encode_glb(rotate_half_turn(gaussians)),
        lambda data: rotate_half_turn(decode_glb(data)),
        lossless=True,
        note=(
            "KHR_gaussian_splatting was a release candidate until lately: programs without it "
            "show coloured points"
        ),
    ),
}
"""The formats by name, which is the ending of their files."""
