"""`lift list`: the components of all slots, or of one, and the experiments."""

import argparse
from collections.abc import Sequence
from typing import Any

from lift.cli.processes import EXPERIMENT, add_command, add_config_dir, config_dir_arguments
from lift.errors import format_error
from lift.registry import ALL_SLOTS, ComponentError, Entry, catalogue
from lift.registry.entry import join_names


def add_parser(commands: Any) -> None:
    """Add the command to the command line.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands, "list", list_components, "list every component of every slot, and the experiments"
    )
    parser.add_argument(
        "slot", nargs="?", metavar="SLOT", help=f"{', '.join(ALL_SLOTS)} or {EXPERIMENT} (all)"
    )
    add_config_dir(parser)


def list_components(options: argparse.Namespace) -> int:
    """Print the name and summary of each component and experiment, and plugins that are broken.

    Args:
        options: `slot`, or None for all slots, and `config_dir`.

    Returns:
        The exit status.

    Raises:
        ComponentError: There is no such slot, or no such folder.
    """
    groups = [*ALL_SLOTS, EXPERIMENT]
    if options.slot and options.slot not in groups:
        raise ComponentError(
            f"there is no slot {options.slot!r}; choose one of {join_names(groups)}"
        )
    components = catalogue()
    for slot in [options.slot] if options.slot else groups:
        print(slot)
        if slot == EXPERIMENT:
            _list_experiments(options.config_dir)
            continue
        for _, entry in sorted(components.entries[slot].items()):
            print(f"  {entry.name:<16} {entry.summary}{_origin(entry)}{_install_note(entry)}")
    for plugin, error in components.broken.items():
        print(f"broken plugin {plugin}: {type(error).__name__}: {format_error(error)}")
    return 0


def _list_experiments(config_dirs: Sequence[str]) -> None:
    """Print the name and summary of each experiment, and where those of others come from."""
    from lift.config.experiments import experiment_summaries
    from lift.config.folders import BUILT_IN, use_config_folders

    with use_config_folders(config_dir_arguments(config_dirs)):
        for file, summary in experiment_summaries():
            notes = [] if file.origin == BUILT_IN else [file.origin]
            if file.hidden:
                notes.append(f"not used: that of {join_names(file.hidden)}")
            origin = f"  ({'; '.join(notes)})" if notes else ""
            print(f"  {file.name:<16} {summary}{origin}")


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
