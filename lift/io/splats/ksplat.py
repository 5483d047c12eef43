"""KSPLAT, the format of the viewer GaussianSplats3D, version 0.1. It is written, not read.

gaussforge writes it, and its reader is not safe for files that others made.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from lift.io.splats.ply import decode_ply, encode_ply
from lift.types import Gaussians


def encode_ksplat(gaussians: Gaussians) -> bytes:
    """Encode Gaussians as the content of a ksplat file, without compression.

    Args:
        gaussians: Gaussians without a view axis.

    Returns:
        The content of the file.

    Raises:
        ValueError: gaussforge cannot write them.
    """
    return _convert(encode_ply(gaussians), "ply", "ksplat")


def decode_own_ksplat(data: bytes) -> Gaussians:
    """Decode what `encode_ksplat` returned.

    Args:
        data: The content. That of any other file may end the process.

    Returns:
        The Gaussians.

    Raises:
        ValueError: gaussforge cannot read them.
    """
    return decode_ply(_convert(data, "ksplat", "ply"), "this ksplat file")


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
