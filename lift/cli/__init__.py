"""The command line: lift run | batch | eval | list | show | render | export | view | doctor."""

import argparse
import os
import sys
import traceback

from lift import __version__
from lift.cli import batch, doctor, evaluate, export, listing, render, run, show, view
from lift.cli.processes import error_message
from lift.errors import is_interrupt, is_user_error
from lift.runtime import launcher

USAGE_ERROR = 2
"""Exit status for an error that the user can correct."""

INTERRUPTED = 130
"""Exit status after Ctrl-C."""

_HYDRA_COMMANDS = {"run": run.run, "batch": batch.batch, "eval": evaluate.evaluate}
"""Commands whose arguments are settings, which argparse does not read."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Arguments without the program's name; by default those of this process.

    Returns:
        The exit status.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return _run_command(arguments)
    except BrokenPipeError:  # as in `lift list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, Exception) as error:
        is_interrupted = is_interrupt(error)
        expected = (
            is_interrupted
            or isinstance(error, launcher.WorkerError)
            or (is_user_error(error) and not os.environ.get("LIFT_DEBUG"))
        )
        if not expected and not launcher.is_launched():
            raise
        if is_interrupted:
            message = "lift: stopped; run the same command again to go on"
        elif expected:
            message = error_message(error)
        else:
            message = "".join(traceback.format_exception(error)).rstrip()
        status = _exit_status(error, is_interrupted, expected)
        if launcher.is_launched():
            launcher.exit_worker(message, status, expected=expected)
        print(message, file=sys.stderr)
        return status


def _run_command(arguments: list[str]) -> int:
    """Run the command that the arguments name."""
    name = arguments[0] if arguments else ""
    asks_for_help = bool({"-h", "--help"} & set(arguments))
    if name in _HYDRA_COMMANDS and (name == "run" or not asks_for_help):
        return _HYDRA_COMMANDS[name](arguments[1:])
    options = build_parser().parse_args(arguments)
    return options.command(options)


def _exit_status(error: BaseException, is_interrupted: bool, expected: bool) -> int:
    """Choose the exit status after an error."""
    if is_interrupted:
        return INTERRUPTED
    if isinstance(error, launcher.WorkerError):
        return error.status
    return USAGE_ERROR if expected else 1


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="lift",
        description="Turn one image into a 3D Gaussian scene by way of a video generator.",
    )
    parser.add_argument("--version", action="version", version=f"lift {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (run, batch, evaluate, listing, show, render, export, view, doctor):
        module.add_parser(commands)
    return parser
