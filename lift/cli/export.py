"""`lift export`: a finished scene in the format of another program."""

import argparse
import sys
from pathlib import Path
from typing import Any

from lift.cli.processes import add_command

ALL = "all"
"""Word in place of a file: all formats."""


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
    parser.add_argument(
        "source",
        type=Path,
        metavar="RUN_OR_FILE",
        help="a run's folder, or a .ply .compressed.ply .splat .spz .sog .glb",
    )
    parser.add_argument(
        "to",
        type=Path,
        metavar="OUT",
        help="the ending chooses the format: .ply .compressed.ply .splat .ksplat .spz (version 3) "
        ".v4.spz .sog .glb, or .html for a page that opens in any browser; `all` writes them all",
    )
    parser.add_argument(
        "--folder", type=Path, help="folder of the files of `all` (RUN_OR_FILE/exports)"
    )
    parser.add_argument("--title", help="title of a page (the name of the input)")
    parser.add_argument("--caption", help="text below the title of a page (none)")


def export_scene(options: argparse.Namespace) -> int:
    """Write a scene in another format, print the file's name, and tell its size and fidelity.

    Args:
        options: `source`, a run's folder or a file of Gaussians, `to`, the file to write or the
            word `all`, `folder`, that of `all`, and `title` and `caption` of a page.

    Returns:
        The exit status: 1 if a format of `all` cannot hold the scene.
    """
    from lift.api.exporting import ExportedFile, export_all, export_file
    from lift.api.exporting import export_scene as export_run

    def tell(file: ExportedFile) -> bool:
        print(file.describe(), file=sys.stderr, flush=True)
        if not file.problem:
            print(file.path, flush=True)
        return not file.problem

    is_all = str(options.to) == ALL
    if options.folder is not None and not is_all:
        raise ValueError(f"--folder is for `all`; OUT is {str(options.to)!r}")
    if options.source.is_file():
        if is_all:
            raise ValueError(f"`all` needs a run's folder; {str(options.source)!r} is a file")
        if options.title is not None or options.caption is not None:
            raise ValueError(
                f"--title and --caption are for a page of a run; {str(options.source)!r} is a file"
            )
        return 0 if tell(export_file(options.source, options.to)) else 1
    from lift.api import load

    scene = load(options.source)
    if not is_all:
        return 0 if tell(export_run(scene, options.to, options.title, options.caption)) else 1
    written = [
        tell(file) for file in export_all(scene, options.folder, options.title, options.caption)
    ]
    return 0 if all(written) else 1
