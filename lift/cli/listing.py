"""`lift list`: the components of all slots, or of one."""

import argparse
from typing import Any

from lift.cli.processes import add_command
from lift.errors import format_error
from lift.registry import ALL_SLOTS, Entry, catalogue


def add_parser(commands: Any) -> None:
    """Add the command to the command line.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(commands, "list", list_components, "list every component of every slot")
    parser.add_argument("slot", nargs="?", metavar="SLOT")


def list_components(options: argparse.Namespace) -> int:
    """Print the name and summary of each component, and plugins that are broken.

    Args:
        options: `slot`, or None for all slots.

    Returns:
        The exit status.
    """
    components = catalogue()
    if options.slot and options.slot not in ALL_SLOTS:
        components(options.slot, "")  # raises an error that lists the slots
    for slot in [options.slot] if options.slot else ALL_SLOTS:
        print(slot)
        for _, entry in sorted(components.entries[slot].items()):
            print(f"  {entry.name:<16} {entry.summary}{_origin(entry)}{_install_note(entry)}")
    for plugin, error in components.broken.items():
        print(f"broken plugin {plugin}: {type(error).__name__}: {format_error(error)}")
    return 0


def _origin(entry: Entry) -> str:
    """Name the module of a plugin's component."""
    return "" if entry.module.startswith("lift.") else f"  ({entry.module})"


def _install_note(entry: Entry) -> str:
    """Say how to install a component whose packages are missing."""
    if not entry.missing:
        return ""
    hint = entry.install_hint
    if entry.install:  # several lines long
        hint = f"`lift show {entry.slot} {entry.name}` says how"
    return f"  [not installed: {hint}]"
