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
        "look at a scene in a browser, finished or in the making",
    )
    parser.add_argument("source", type=Path, metavar="RUN_OR_PLY")
    parser.add_argument(
        "--port", type=int, default=8080, help="port of the page; 0: any free one (8080)"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="also serve other machines, at this address of this one, such as 0.0.0.0; the "
        "printed URL has a secret token (127.0.0.1: this machine only)",
    )
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
        options: `source`, the folder of a run or of a running job, or a PLY file; `port`, `host`
            and `allow_host`.

    Returns:
        The exit status.
    """
    if options.source.is_file():
        from lift.outputs.viewer import file_content, serve

        serve(file_content(options.source), options.port, options.host, options.allow_host)
        return 0
    from lift.outputs.live_view import find_job, serve_live

    if job := find_job(options.source):
        from lift.api import load
        from lift.outputs.viewer import run_content

        def load_content(folder: Path) -> Any:
            return run_content(load(folder))

        serve_live(job, load_content, options.port, options.host, options.allow_host)
    else:
        from lift.api import load

        load(options.source).view(options.port, options.allow_host, options.host)
    return 0
