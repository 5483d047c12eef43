"""`lift show`: a component's description and settings."""

import argparse
import inspect
import shutil
import textwrap
from typing import Any

from lift.cli.processes import add_command
from lift.registry import catalogue
from lift.runtime.memory import format_memory

_MAX_WIDTH = 100
"""Largest number of characters in a line of a setting's description."""


def add_parser(commands: Any) -> None:
    """Add the command to the command line.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands, "show", show_component, "show what a component does and its settings"
    )
    parser.add_argument("slot", metavar="SLOT")
    parser.add_argument("name", metavar="NAME")


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
        print(format_memory(entry.weight_memory, entry.working_memory))
    print(f"\n{entry.docstring.description}\n")
    columns = min(shutil.get_terminal_size((_MAX_WIDTH, 24)).columns, _MAX_WIDTH)
    for key, parameter in entry.settings.items():
        print(_format_setting(f"{entry.slot}.{key}", parameter))
        if text := entry.docstring.arguments.get(key):
            indent = " " * 6
            print(textwrap.fill(text, columns, initial_indent=indent, subsequent_indent=indent))
    return 0


def _format_setting(name: str, parameter: inspect.Parameter) -> str:
    """Format the name, the type and the default of a setting."""
    annotation = getattr(parameter.annotation, "__name__", None)
    if not annotation or getattr(parameter.annotation, "__args__", ()):
        annotation = str(parameter.annotation)
    default = (
        "(must be given)" if parameter.default is parameter.empty else f"= {parameter.default!r}"
    )
    return f"  {name:<27} {annotation.replace('typing.', ''):<24} {default}"
