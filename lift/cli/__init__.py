"""The command line of `lift`: one module of this package for each command."""

import argparse
import os
import sys
import traceback

from lift import __version__
from lift.cli import (
    batch,
    cache,
    check,
    doctor,
    download,
    evaluate,
    export,
    fit,
    listing,
    new,
    render,
    run,
    show,
    table,
    view,
)
from lift.cli.output import (
    discard_output,
    flush_output,
    name_output,
    prepare_output,
    report_in_threads,
)
from lift.cli.processes import error_message
from lift.errors import USAGE_ERROR, is_interrupt, is_user_error
from lift.registry import PLUGIN_VARIABLE
from lift.runtime import launcher
from lift.runtime.folder_settings import check_current_folder
from lift.runtime.termination import StopHandler, answer_stop_signals

_COMMANDS = (
    run,
    batch,
    evaluate,
    table,
    listing,
    show,
    new,
    check,
    fit,
    render,
    export,
    view,
    download,
    cache,
    doctor,
)
"""Modules of the commands, in the order of the help."""

_HYDRA_COMMANDS = {
    "run": run.run,
    "batch": batch.batch,
    "eval": evaluate.evaluate,
    "fit": fit.fit,
    "download": download.download,
}
"""Commands whose arguments are settings, which argparse does not read."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Arguments without the program's name; by default those of this process.

    Returns:
        The exit status.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    prepare_output()
    report_in_threads()
    with answer_stop_signals() as stop:
        return _run_and_report(arguments, stop)


def _run_and_report(arguments: list[str], stop: StopHandler) -> int:
    """Run a command, print its error, and return the exit status."""
    try:
        status = _run_command(arguments)
        flush_output()
        return status
    except BrokenPipeError:  # as in `lift list | head`
        discard_output()
        return 1
    except (KeyboardInterrupt, Exception) as raised:
        error = name_output(raised)
        is_interrupted = is_interrupt(error)
        expected = (
            is_interrupted
            or isinstance(error, launcher.WorkerError)
            or (is_user_error(error) and not os.environ.get("LIFT_DEBUG"))
        )
        if not expected and not launcher.is_launched():
            raise
        if is_interrupted:
            message = stop.message
        elif expected:
            message = error_message(error)
        else:
            message = "".join(traceback.format_exception(error)).rstrip()
        status = stop.status if is_interrupted else _exit_status(error, expected)
        if launcher.is_launched():
            launcher.exit_worker(message, status, expected=expected)
        print(message, file=sys.stderr)
        return status


def _run_command(arguments: list[str]) -> int:
    """Run the command that the arguments name."""
    check_current_folder()
    name = arguments[0] if arguments else ""
    asks_for_help = bool({"-h", "--help"} & set(arguments))
    if name in _HYDRA_COMMANDS and (name == "run" or not asks_for_help):
        return _HYDRA_COMMANDS[name](arguments[1:])
    options = build_parser().parse_args(arguments)
    return options.command(options)


def _exit_status(error: BaseException, expected: bool) -> int:
    """Choose the exit status after an error."""
    if isinstance(error, launcher.WorkerError):
        return error.status
    return USAGE_ERROR if expected else 1


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="lift",
        description="Turn one image into a 3D Gaussian scene by way of a video generator.",
        epilog=(
            f"The environment variable {PLUGIN_VARIABLE}=mine.py adds the components of a file or "
            "module of your own, for all commands."
        ),
    )
    parser.add_argument("--version", action="version", version=f"lift {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in _COMMANDS:
        module.add_parser(commands)
    return parser
