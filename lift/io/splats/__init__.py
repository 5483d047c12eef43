"""Write and read Gaussians in the formats of other programs.

Each format has a module. `export` writes a file, reads it back and compares. `read_splats` reads a
file of any format by the ending of its name.
"""

from lift.io.splats.export import (
    READABLE_FORMATS,
    SPLAT_FORMATS,
    TOLERANCES,
    decode,
    encode,
    export,
    read_splats,
)
from lift.io.splats.formats import FORMATS, find_format, rotate_half_turn
from lift.io.splats.ply import read_ply, write_ply

__all__ = [
    "FORMATS",
    "READABLE_FORMATS",
    "SPLAT_FORMATS",
    "TOLERANCES",
    "decode",
    "encode",
    "export",
    "find_format",
    "read_ply",
    "read_splats",
    "rotate_half_turn",
    "write_ply",
]
