"""`lift batch`: many images, each to a scene."""

from typing import Any

from lift.cli.engine_options import add_engine_options, take_engine_options
from lift.cli.processes import add_command, take_redeliver


def add_parser(commands: Any) -> None:
    """Add the command to the command line.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands,
        "batch",
        batch,
        "many images, each to a scene, on an engine; one that fails does not hold up the others",
    )
    parser.usage = (
        "lift batch PICTURE|FOLDER|LIST [...] [setting=value ...] [--config-dir DIR] [options]"
    )
    add_engine_options(parser)
    parser.add_argument("--plan", action="store_true", help="only say what would be done")
    parser.add_argument("--redeliver", action="store_true", help="write finished results again")
    parser.epilog = (
        "LIST: a .txt, .csv or .jsonl file; its column image names the pictures, other columns are "
        "settings. All of them may be URLs. DIR: a folder with experiments of your own. What "
        "became of each picture is in summary.jsonl of the output folder. Exit status: 1 if a "
        "picture failed for good, 75 if running the command again may help. Run again, it goes on "
        "where it ended, and passes over finished pictures."
    )


def batch(arguments: list[str]) -> int:
    """Run `lift batch`.

    Args:
        arguments: Arguments after the command's name.

    Returns:
        The exit status.

    Raises:
        WorkerError: At least one picture failed.
    """
    from lift.batch.jobs import run_batch
    from lift.batch.pictures import parse_arguments
    from lift.config.folders import split_config_folders
    from lift.config.overrides import check_dashes

    folders, remaining = split_config_folders(take_redeliver(arguments))
    options = take_engine_options(remaining, plan=True)
    check_dashes(remaining)
    pictures, settings = parse_arguments(remaining)
    return run_batch(pictures, (*folders, *settings), options)
