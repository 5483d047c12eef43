"""`lift batch`: many images, each to a scene."""

from typing import TYPE_CHECKING, Any

from lift.cli.processes import (
    add_command,
    launch_workers,
    raise_failures,
    take_process_count,
    take_redeliver,
)

if TYPE_CHECKING:
    from omegaconf import DictConfig


def add_parser(commands: Any) -> None:
    """Add the command to the command line.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands,
        "batch",
        batch,
        "many images, each to a scene, spread over processes; one that fails does not hold up the "
        "others",
    )
    parser.usage = (
        "lift batch PICTURE [PICTURE ...] [setting=value ...] [--config-dir DIR] [--processes N] "
        "[--redeliver]"
    )
    parser.epilog = (
        "N: processes of this machine (its number of GPUs, else 1), each with a GPU of its own. "
        "DIR: a folder with experiments of your own. Run again, it goes on where it ended, and "
        "passes over finished pictures unless --redeliver asks to write their results again."
    )


def batch(arguments: list[str]) -> int:
    """Run `lift batch`. The settings of all runs are composed once.

    Args:
        arguments: Arguments after the command's name.

    Returns:
        The exit status.

    Raises:
        WorkerError: At least one picture failed.
    """
    from lift.config import compose_run, escape_text
    from lift.config.folders import split_config_folders
    from lift.config.overrides import check_dashes
    from lift.runtime.batch import parse_arguments, run_images

    arguments = take_redeliver(arguments)
    folders, remaining = split_config_folders(arguments)
    count = take_process_count(remaining)
    check_dashes(remaining)
    images, settings = parse_arguments(remaining)
    composed = compose_run([*folders, *settings, "image=none"])

    def configure(image: str) -> "DictConfig":
        config = composed.copy()
        config.image = escape_text(image)
        return config

    if launch_workers("batch", arguments, count, lambda: len(images), [composed]):
        return 0
    raise_failures(run_images(images, configure), "pictures")
    return 0
