"""`lift table`: join finished evaluations to one table."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from lift.cli.processes import add_command


def add_parser(commands: Any) -> None:
    """Add the command to the command line.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands, "table", join_tables, "join finished evaluations to one table with differences"
    )
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="folder that `lift eval` wrote: one evaluation, or a joint table with all its rows",
    )
    parser.add_argument(
        "--baseline",
        metavar="ROW",
        help="row that the others are compared with: its label, its folder's name, or some of its "
        "settings as 'KEY=VALUE,...' (the first row)",
    )
    parser.add_argument(
        "--output",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="also write the table to FILE.md, .csv or .json, or its pictures to FILE.png; may be "
        "given again",
    )
    parser.add_argument(
        "--anyway",
        action="store_true",
        help="join results that were measured in different ways; the table says in what they "
        "differ",
    )
    parser.epilog = (
        "Prints Markdown. Nothing is computed again. The results must be of the same dataset and "
        "protocol."
    )


def join_tables(options: argparse.Namespace) -> int:
    """Print a joint table of finished evaluations.

    Args:
        options: `folders`, `baseline`, `output` and `anyway`.

    Returns:
        The exit status.

    Raises:
        ComponentError: The results cannot be compared, or there is no such baseline.
        FileNotFoundError: A folder has no results.
        ValueError: A file has another suffix, or is not a table.
    """
    from lift.evaluation.ablation.files import check_suffix, save_joint_table
    from lift.evaluation.ablation.joint import JointTable
    from lift.evaluation.ablation.results import (
        check_same_measurement,
        load_results,
        merge_results,
    )
    from lift.evaluation.ablation.text import format_markdown

    for path in options.output:
        check_suffix(path)
    sources = [load_results(folder) for folder in options.folders]
    if not options.anyway:
        check_same_measurement([result for source in sources for result in source])
    table = JointTable(merge_results(sources), options.baseline, _command(options))
    for path in options.output:
        save_joint_table(table, path)
    print(format_markdown(table))
    return 0


def _command(options: argparse.Namespace) -> str:
    """Return the command without the files that it writes."""
    words = ["lift", "table", *map(str, options.folders)]
    if options.baseline:
        words.append(f"--baseline={options.baseline}")
    if options.anyway:
        words.append("--anyway")
    return shlex.join(words)
