"""`lift fit`: more steps for the fit of a finished run."""

import argparse
import re
from pathlib import Path
from typing import Any

from lift.cli.processes import add_command
from lift.registry import ComponentError


def add_parser(commands: Any) -> None:
    """Add the command to the command line.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands,
        "fit",
        fit_scene,
        "continue the fit of a finished run; the result is a run beside it",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument(
        "--more-steps", type=int, required=True, metavar="N", help="number of steps to add"
    )
    parser.add_argument("--name", help="name of the new run's folder (RUN-STEPS-steps)")
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="setting=value",
        help="settings that a fit can change midway, such as fit.max_gaussians=80000",
    )
    parser.epilog = (
        "The fit goes on from its checkpoint, with the state of the optimiser. Learning rates and "
        "densification go on where a fit of all steps would be. Run again, it goes on where it "
        "ended."
    )


def fit(arguments: list[str]) -> int:
    """Run `lift fit`. Settings may stand anywhere among the arguments.

    Args:
        arguments: Arguments after the command's name.

    Returns:
        The exit status.
    """
    from lift.cli import build_parser

    settings = [argument for argument in arguments if re.match(r"[\w.]+=", argument)]
    rest = [argument for argument in arguments if argument not in settings]
    options = build_parser().parse_args(["fit", *rest])
    options.settings = settings
    return fit_scene(options)


def fit_scene(options: argparse.Namespace) -> int:
    """Continue a fit and print the folder of the new run.

    Args:
        options: `run`, `more_steps`, `name` and `settings`.

    Returns:
        The exit status.

    Raises:
        ComponentError: A setting cannot be read or changed.
    """
    import yaml

    from lift.api import load

    settings: dict[str, Any] = {}
    for argument in options.settings:
        key, _, value = argument.partition("=")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ComponentError(f"{key} is {value!r}, which is no YAML") from None
    print(load(options.run).fit(options.more_steps, options.name, **settings).folder)
    return 0
