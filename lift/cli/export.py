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
    from lift.io.splats import export

    source = scene_file(options.source)
    options.to.parent.mkdir(parents=True, exist_ok=True)
    export(source, options.to)
    print(options.to)
    return 0


def scene_file(source: Path) -> Path:
    """Find the PLY file of a finished scene.

    Args:
        source: A run's folder, or the file itself.

    Raises:
        FileNotFoundError: There is no scene.
    """
    path = source / "gaussians.ply" if source.is_dir() else source
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no finished scene at {source}: give a run's folder or a PLY file"
        )
    return path
