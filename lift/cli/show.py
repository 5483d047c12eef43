"""`lift show`: a component's description and settings, a group of settings, or an experiment."""

import argparse
import shutil
import textwrap
from typing import Any

from lift.cli.processes import EXPERIMENT, add_command, add_config_dir, config_dir_arguments
from lift.registry import ALL_SLOTS, ComponentError, catalogue
from lift.registry.values import describe_range, format_annotation
from lift.runtime.memory import format_memory

_MAX_WIDTH = 100
"""Largest number of characters in a line of a setting's description."""


def add_parser(commands: Any) -> None:
    """Add the command to the command line.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands,
        "show",
        show,
        "show what a component does and its settings, the settings of a group such as fit, or what "
        "an experiment changes",
    )
    parser.add_argument(
        "slot", metavar="SLOT", help=f"a slot, {EXPERIMENT}, or a group of settings (fit, run, ...)"
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="not for a group of settings")
    add_config_dir(parser)


def show(options: argparse.Namespace) -> int:
    """Print what there is to know of a component, of a group of settings or of an experiment.

    Args:
        options: `slot`, `name` and `config_dir`.

    Returns:
        The exit status.

    Raises:
        ComponentError: There is none of this name, or a name is missing.
    """
    if options.slot not in (EXPERIMENT, *ALL_SLOTS) and options.name is None:
        return show_group(options.slot)
    if options.name is None:
        raise ComponentError(
            f"which {options.slot}? `lift list {options.slot}` names them: "
            f"lift show {options.slot} NAME"
        )
    return (show_experiment if options.slot == EXPERIMENT else show_component)(options)


def show_group(name: str) -> int:
    """Print the settings of a group with types, defaults, ranges and descriptions.

    Args:
        name: Dotted name of the group, such as `fit`, or `run` for settings in no group.

    Returns:
        The exit status.
    """
    from lift.config.setting_docs import describe_group

    description, settings = describe_group(name)
    print(f"{name}   {description.splitlines()[0]}\n")
    for info in settings:
        default = "(must be given)" if info.default == "???" else f"= {info.default!r}"
        print(_format_setting(info.key, info.annotation, default))
        _print_text(info.description)
    return 0


def show_experiment(options: argparse.Namespace) -> int:
    """Print which settings an experiment changes, from which default, and why.

    Args:
        options: `name` of the experiment, and `config_dir`.

    Returns:
        The exit status.
    """
    from lift.config.experiments import read_experiment
    from lift.config.folders import use_config_folders

    with use_config_folders(config_dir_arguments(options.config_dir)):
        experiment = read_experiment(options.name)
    print(f"experiment {experiment.file.name}   {experiment.file.path}\n")
    print(f"{experiment.description or 'The file begins with no comment.'}\n")
    for change in experiment.changes:
        print(f"  {change.key:<27} {change.before} -> {change.after}")
        _print_text(change.reason)
    if experiment.repeated:
        names = ", ".join(experiment.repeated)
        print(textwrap.fill(f"set to their defaults: {names}", _columns(), initial_indent="  "))
    return 0


def show_component(options: argparse.Namespace) -> int:
    """Print a component's description and its settings with types, defaults and descriptions.

    Args:
        options: `slot` and `name` of the component.

    Returns:
        The exit status.
    """
    entry = catalogue()(options.slot, options.name)
    print(f"{entry.slot} {entry.name}   {entry.module}.{entry.qualname}   licence: {entry.licence}")
    if entry.missing:
        print(f"not installed: {entry.install_hint}")
    if entry.trained_frames and entry.trained_size:
        width, height = entry.trained_size
        print(
            f"{entry.trained_frames} frames a clip, the one it continues included, "
            f"of {width}x{height} pixels; control: {entry.control}"
        )
        print(format_memory(entry))
    print(f"\n{entry.docstring.description}\n")
    for key, parameter in entry.settings.items():
        is_required = parameter.default is parameter.empty
        default = "(must be given)" if is_required else f"= {parameter.default!r}"
        print(_format_setting(f"{entry.slot}.{key}", parameter.annotation, default))
        _print_text(entry.docstring.arguments.get(key, ""))
    return 0


def _columns() -> int:
    """Return the number of characters of a line."""
    return min(shutil.get_terminal_size((_MAX_WIDTH, 24)).columns, _MAX_WIDTH)


def _print_text(text: str) -> None:
    """Print a description below its setting, if there is one."""
    if text:
        indent = " " * 6
        print(textwrap.fill(text, _columns(), initial_indent=indent, subsequent_indent=indent))


def _format_setting(name: str, annotation: Any, default: str) -> str:
    """Format the name, the type, the default and the range of a setting."""
    text = format_annotation(annotation)
    values = describe_range(annotation)
    return f"  {name:<27} {text:<24} {default:<12} {values and f'({values})'}".rstrip()
