"""`lift view`: a finished scene in a browser."""

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
        "view",
        view_scene,
        "look at a finished scene in a browser; serves this machine only",
    )
    parser.add_argument("source", type=Path, metavar="RUN_OR_PLY")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="also answer requests to this host, such as that of a proxy before the viewer",
    )


def view_scene(options: argparse.Namespace) -> int:
    """Serve a scene to a browser until Ctrl-C.

    Args:
        options: `source`, a run's folder or a PLY file, `port` and `allow_host`.

    Returns:
        The exit status.
    """
    if options.source.is_file():
        from lift.outputs.viewer import serve

        serve(options.source, options.port, options.allow_host)
    else:
        from lift.api import load

        load(options.source).view(options.port, options.allow_host)
    return 0
