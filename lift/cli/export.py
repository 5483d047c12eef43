"""`lift export`: a finished scene in another format."""

import argparse
from pathlib import Path
from typing import Any

from lift.cli.processes import add_command


def add_parser(commands: Any) -> None:
    """Add the command to the command line.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands,
        "export",
        export_scene,
        "write a finished scene in another format, read back and compared",
    )
    parser.add_argument("source", type=Path, metavar="RUN_OR_PLY")
    parser.add_argument(
        "to", type=Path, metavar="OUT", help="the suffix chooses the format: .ply .splat .spz"
    )


def export_scene(options: argparse.Namespace) -> int:
    """Write a scene in another format and print the name of the file.

    Args:
        options: `source`, a run's folder or a PLY file, and `to`, the file to write.

    Returns:
        The exit status.
    """
    if options.source.is_file():
        from lift.io.splats import export

        options.to.parent.mkdir(parents=True, exist_ok=True)
        export(options.source, options.to)
    else:
        from lift.api import load

        load(options.source).export(options.to)
    print(options.to)
    return 0
