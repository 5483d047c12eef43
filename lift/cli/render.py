"""`lift render`: a camera path through a finished run."""

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
        "render",
        render,
        "render a camera path out of a finished run, as a video or a folder of PNG",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument(
        "--path",
        type=Path,
        help="cameras: npz, transforms.json, RealEstate10K text, COLMAP folder "
        "(the run's fly-through)",
    )
    parser.add_argument(
        "--to", type=Path, required=True, metavar="OUT", help="OUT.mp4, or a folder for PNG files"
    )
    parser.add_argument("--size", type=int, help="long side in pixels (the run's)")
    parser.add_argument("--fps", type=int, default=24)
    parser.add_argument("--renderer", help="another renderer than the run's")


def render(options: argparse.Namespace) -> int:
    """Render a camera path and print the name of the result.

    Args:
        options: `run`, `to`, `path`, `size`, `fps` and `renderer`.

    Returns:
        The exit status.
    """
    from lift.outputs.delivery import render_run

    print(
        render_run(
            options.run, options.to, options.path, options.size, options.fps, options.renderer
        )
    )
    return 0
