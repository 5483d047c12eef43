"""Options of commands that hand their work to an engine."""

import argparse
from typing import TYPE_CHECKING

from lift.cli.processes import take_flag, take_number, take_options, take_process_count
from lift.registry import ComponentError

if TYPE_CHECKING:
    from lift.batch.jobs import Options

_MAX_SECONDS = 30 * 24 * 3600

ENGINE_OPTIONS = {
    "--engine": ("NAME", "where the work is done: local (this machine), ray or slurm"),
    "--engine-option": ("KEY=VALUE", "resources of a worker, as the engine calls them"),
    "--processes": ("N", "workers (for local: the number of GPUs, else 1), each with its own GPU"),
    "--shard": ("I/N", "every N-th one, beginning with number I from 0"),
    "--retries": ("N", "tries after a transient failure (1)"),
    "--timeout": ("SECONDS", "limit of a try"),
    "--fail-fast": (None, "begin nothing after a failure"),
    "--json": (None, "progress as JSON lines"),
    "--prometheus": ("FILE", "text file with figures for monitoring"),
}
"""Options with the name of their value, if they have one, and a description, for the help."""


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to the help of a command.

    Args:
        parser: The command's parser.
    """
    for option, (value, text) in ENGINE_OPTIONS.items():
        if value is None:
            parser.add_argument(option, action="store_true", help=text)
        else:
            parser.add_argument(option, metavar=value, help=text)


def take_engine_options(arguments: list[str], plan: bool = False) -> "Options":
    """Remove the options from the arguments, and check them.

    Args:
        arguments: Arguments of a command; changed in place.
        plan: Whether there is an option `--plan`.

    Raises:
        ComponentError: An option is wrong.
    """
    from lift.batch.jobs import ENGINES, Options

    engine = (take_options(arguments, "--engine") or ["local"])[-1]
    if engine not in ENGINES:
        raise ComponentError(f"--engine is {engine!r}; choose one of {', '.join(ENGINES)}")
    prometheus = take_options(arguments, "--prometheus")
    shards = take_options(arguments, "--shard")
    retries = take_number(arguments, "--retries", 0)
    timeout = take_number(arguments, "--timeout", 1, _MAX_SECONDS)
    return Options(
        engine=engine,
        engine_options=_read_engine_options(take_options(arguments, "--engine-option")),
        processes=take_process_count(arguments),
        shard=_read_shard(shards[-1]) if shards else None,
        retries=1 if retries is None else retries,
        timeout=None if timeout is None else float(timeout),
        fail_fast=take_flag(arguments, "--fail-fast"),
        as_json=take_flag(arguments, "--json"),
        prometheus=prometheus[-1] if prometheus else None,
        plan=plan and take_flag(arguments, "--plan"),
    )


def _read_engine_options(texts: list[str]) -> dict[str, str]:
    options = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ComponentError(f"--engine-option is {text!r}; write KEY=VALUE")
        options[key] = value
    return options


def _read_shard(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise ComponentError(f"--shard is {text!r}; choose I/N with I from 0 to N-1, such as 0/8")
    return int(number), int(count)
