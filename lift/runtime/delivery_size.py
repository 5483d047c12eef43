"""Estimate how large the folder of a finished run will be."""

from collections.abc import Mapping

from lift.config.delivery_schema import FULL, MINIMAL, SCENE

_PIXEL_BYTES = 4.7
"""Bytes of a frame's pixel: 1.6 as PNG, 3.1 for depth and confidence."""
_INPUT_BYTES = 1.7
"""Bytes of a pixel of the input picture as PNG."""
_POINT_BYTES = 52
"""Bytes of a point in COLMAP's text. There is one for each pixel of the input picture."""
_LOG_BYTES = 2.2e6
"""Bytes of the curves and of the distortion."""
_PAGE_BYTES = 5.1e6
"""Bytes of the report without Gaussians, of a film of 3 seconds, and of cameras."""
_MINIMAL_BYTES = 0.22e6
"""Bytes of two small pictures, cameras and metrics."""
_SOG_BYTES = 13.2
"""Bytes of a Gaussian without view dependence in SOG."""
_SPZ_BYTES = 17
"""The same in SPZ, which the report has as base64, a third larger."""
_MAX_PALETTE = 65_536
"""Largest number of different harmonics in SOG."""


def estimate_sizes(
    frames: tuple[int, int, int], gaussians: int, sh_degree: int
) -> Mapping[str, float]:
    """Estimate the size of a run's folder for each value of `deliver.keep`.

    The constants are those of a default run on a photograph of 512 x 344 pixels.

    Args:
        frames: Number, height and width of the frames.
        gaussians: Number of Gaussians.
        sh_degree: Degree of their harmonics.

    Returns:
        Bytes for each value.
    """
    count, height, width = frames
    pixels = height * width
    rest = 3 * ((sh_degree + 1) ** 2 - 1)
    ply = gaussians * 4 * (17 + rest)
    checkpoint = gaussians * 12 * (14 + rest)
    page = _PAGE_BYTES + gaussians * (_SPZ_BYTES + rest) * 4 / 3
    sog = gaussians * (_SOG_BYTES + (2 if rest else 0)) + min(gaussians, _MAX_PALETTE) * rest
    full = count * pixels * _PIXEL_BYTES + pixels * _POINT_BYTES + checkpoint + _LOG_BYTES
    return {
        FULL: ply + page + full,
        SCENE: ply + page + pixels * _INPUT_BYTES,
        MINIMAL: sog + _MINIMAL_BYTES,
    }


def describe_sizes(keep: str, sizes: Mapping[str, float]) -> str:
    """Say how large the folder of a run will be, and what other settings would keep.

    Args:
        keep: The setting `deliver.keep`.
        sizes: Bytes for each value of it.
    """
    others = ", ".join(f"{kind} {_megabytes(size)}" for kind, size in sizes.items() if kind != keep)
    return f"about {_megabytes(sizes[keep])} in the run's folder ({others})"


def _megabytes(size: float) -> str:
    """Format bytes with two digits."""
    value = size / 1e6
    return f"{value:.1f} MB" if value < 10 else f"{value:.0f} MB"
