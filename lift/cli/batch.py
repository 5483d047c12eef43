"""`lift batch`: many images, each to a scene."""

from typing import TYPE_CHECKING, Any

from lift.cli.processes import (
    add_command,
    take_flag,
    take_number,
    take_options,
    take_process_count,
    take_redeliver,
)
from lift.registry import ComponentError

if TYPE_CHECKING:
    from lift.batch.jobs import Options

_MAX_SECONDS = 30 * 24 * 3600


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
        "lift batch PICTURE|FOLDER|LIST [...] [setting=value ...] [--config-dir DIR] "
        "[--engine local|ray|slurm] [--engine-option KEY=VALUE] [--processes N] [--shard I/N] "
        "[--retries N] [--timeout SECONDS] [--fail-fast] [--json] [--prometheus FILE] [--plan] "
        "[--redeliver]"
    )
    parser.epilog = (
        "LIST: a .txt, .csv or .jsonl file; its column image names the pictures, other columns are "
        "settings. All of them may be URLs. "
        "--engine: where pictures are made, this machine, a Ray cluster or SLURM. "
        "--engine-option: resources of a worker, as the engine calls them. "
        "--processes: workers (for local: the number of GPUs, else 1), each with a GPU of its own. "
        "--shard: every N-th picture, beginning with number I from 0. --retries: tries after a "
        "transient failure (1). --timeout: of a try. --json: progress as JSON lines. --plan: only "
        "say what would be done. DIR: a folder with experiments of your own. What became of each "
        "picture is in summary.jsonl of the output folder. Exit status: 1 if a picture failed for "
        "good, 75 if running the command again may help. Run again, it goes on where it "
        "ended, and passes over finished pictures unless --redeliver asks to write their results "
        "again."
    )


def _take_options(arguments: list[str]) -> "Options":
    """Remove the options from the arguments, and check them."""
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
        plan=take_flag(arguments, "--plan"),
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
    options = _take_options(remaining)
    check_dashes(remaining)
    pictures, settings = parse_arguments(remaining)
    return run_batch(pictures, (*folders, *settings), options)
