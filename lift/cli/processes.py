"""What commands for many scenes share: processes, and reports of scenes that failed."""

import argparse
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lift.errors import format_error
from lift.registry import ComponentError
from lift.runtime import launcher

if TYPE_CHECKING:
    pass


MAX_MEMORY = 10_000
"""Largest memory in GiB that can be given."""

EXPERIMENT = "experiment"
"""What `lift list` and `lift show` take besides the names of slots."""


def add_command(
    commands: Any, name: str, function: Callable[..., int], summary: str
) -> argparse.ArgumentParser:
    """Add a command to the command line.

    Args:
        commands: What `add_subparsers` returned.
        name: Name of the command.
        function: Runs the command with the parsed options, and returns the exit status.
        summary: What the command does, in lower case and without a full stop.

    Returns:
        The command's parser.
    """
    parser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
    )
    parser.set_defaults(command=function)
    return parser


def take_options(arguments: list[str], option: str) -> list[str]:
    """Remove all occurrences of an option from the arguments.

    Args:
        arguments: Arguments of a command; changed in place.
        option: The option, such as `--grid`. Its value follows as the next argument or after `=`.

    Returns:
        The values, in their order.

    Raises:
        ComponentError: The option has no value.
    """
    values = []
    rest = []
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, value = argument.partition("=")
        if name != option:
            rest.append(argument)
            continue
        value = value if equals else next(remaining, "")
        if not value or value == "--":
            raise ComponentError(f"{option} has no value")
        values.append(value)
    arguments[:] = rest
    return values


def take_number(
    arguments: list[str], option: str, minimum: int = 1, maximum: int | None = None
) -> int | None:
    """Remove an option with a number from the arguments.

    Args:
        arguments: Arguments of a command; changed in place.
        option: The option, such as `--processes`.
        minimum: Smallest number, at least 0.
        maximum: Largest number; None for no limit.

    Returns:
        The number; None if the option is not there.

    Raises:
        ComponentError: The value is not such a number.
    """
    values = take_options(arguments, option)
    limit = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
    for value in values:
        is_number = value.isdecimal() and len(value) < 10
        if not is_number or not minimum <= int(value) <= (maximum or int(value)):
            raise ComponentError(f"{option} is {value!r}; choose a number {limit}")
    return int(values[-1]) if values else None


def take_flag(arguments: list[str], option: str) -> bool:
    """Remove an option without a value from the arguments.

    Args:
        arguments: Arguments of a command; changed in place.
        option: The option, such as `--plan`.

    Returns:
        Whether it was there.
    """
    is_there = option in arguments
    arguments[:] = [argument for argument in arguments if argument != option]
    return is_there


def take_redeliver(arguments: Sequence[str]) -> list[str]:
    """Replace the option `--redeliver` by the setting that it stands for.

    Args:
        arguments: Arguments of a command.
    """
    return ["redeliver=true" if word == "--redeliver" else word for word in arguments]


def take_memory(arguments: list[str], option: str) -> float | None:
    """Remove an option with an amount of memory from the arguments.

    Args:
        arguments: Arguments of a command; changed in place.
        option: The option, such as `--gpu-memory`.

    Returns:
        The memory in GiB; None if the option is not there.

    Raises:
        ComponentError: The value is not a number from 0.1 to 10000.
    """
    memory = None
    for value in take_options(arguments, option):
        try:
            memory = float(value)
        except ValueError:
            memory = math.nan
        if not 0.1 <= memory <= MAX_MEMORY:
            raise ComponentError(
                f"{option} is {value!r}; choose a number of GiB from 0.1 to {MAX_MEMORY}"
            )
    return memory


def add_config_dir(parser: argparse.ArgumentParser) -> None:
    """Add the option `--config-dir`, which may be repeated, to a command.

    Args:
        parser: The command's parser.
    """
    parser.add_argument(
        "--config-dir",
        action="append",
        default=[],
        metavar="DIR",
        help="a folder with experiments of your own: DIR/experiment/NAME.yaml",
    )


def config_dir_arguments(folders: Sequence[str]) -> list[str]:
    """Return `--config-dir=FOLDER` for each folder, as `use_config_folders` takes it.

    Args:
        folders: What the user gave.

    Raises:
        ComponentError: A folder does not exist.
    """
    from lift.config.folders import OPTION, split_config_folders

    return split_config_folders([f"{OPTION}={folder}" for folder in folders])[0]


def take_process_count(arguments: list[str]) -> int | None:
    """Remove `--processes N` from the arguments.

    Args:
        arguments: Arguments of a command; changed in place.

    Returns:
        N; None if the option is not there.

    Raises:
        ComponentError: N is not a number of at least 1.
    """
    return take_number(arguments, "--processes")


def error_message(error: BaseException) -> str:
    """Format an error for the user.

    Args:
        error: The exception. A WorkerError's message is complete.
    """
    if isinstance(error, launcher.WorkerError):
        return str(error)
    return f"lift: {format_error(error)}"
