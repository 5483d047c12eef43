"""`lift render`: a camera path through a finished run."""

import argparse
from pathlib import Path
from typing import Any

from lift.cli.processes import add_command
from lift.io.formats import camera_formats


def add_parser(commands: Any) -> None:
    """Add the command to the command line.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands,
        "render",
        render,
        "render a camera path out of a finished run, as a video or a folder of PNG",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument(
        "--path",
        type=Path,
        help=f"cameras: {camera_formats()} (the run's fly-through)",
    )
    parser.add_argument(
        "--to", type=Path, required=True, metavar="OUT", help="OUT.mp4, or a folder for PNG files"
    )
    parser.add_argument("--size", type=int, help="long side in pixels (the run's)")
    parser.add_argument("--fps", type=int, default=24)
    parser.add_argument("--renderer", help="another renderer than the run's")
    parser.add_argument(
        "--distortion-of",
        type=int,
        metavar="FRAME",
        help="deform the scene and change its pictures as in this frame (not at all)",
    )


def render(options: argparse.Namespace) -> int:
    """Render a camera path and print the name of the result.

    Args:
        options: `run`, `to`, `path`, `size`, `fps`, `renderer` and `distortion_of`.

    Returns:
        The exit status.
    """
    from lift.api import load

    scene = load(options.run, options.renderer)
    print(
        scene.save_renders(
            options.to, options.path, options.size, options.distortion_of, options.fps
        )
    )
    return 0
