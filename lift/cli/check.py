"""`lift check`: the contract checks of the components that a module registers."""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lift.cli.processes import add_command
from lift.registry import ALL_SLOTS, ComponentError, Entry
from lift.registry.entry import join_names
from lift.registry.modules import import_components

if TYPE_CHECKING:
    from lift.contracts import CheckResult

FAILED = 1
"""Exit status if a component breaks its contract."""


def add_parser(commands: Any) -> None:
    """Add the command to the command line.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands,
        "check",
        check,
        "check that the components of a module keep the contract of their slot",
    )
    parser.add_argument(
        "module", metavar="MODULE", help="an import path, such as my_package.my_module, or a file"
    )
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="SLOT.KEY=VALUE",
        help="settings of the components, such as prior.model=FOLDER",
    )
    parser.add_argument("--slot", metavar="SLOT", help=f"only {', '.join(ALL_SLOTS)} (all)")
    parser.add_argument("--name", metavar="NAME", help="only the component of this name (all)")
    parser.epilog = (
        "Prints a line for each check: pass, FAIL or skip, with the reason. The exit status is 1 "
        "if a check fails, and 2 if the module cannot be imported or registers no component."
    )


def check(options: argparse.Namespace) -> int:
    """Check the components that a module registers.

    Args:
        options: `module`, `settings`, `slot` and `name`.

    Returns:
        The exit status: 1 if a check fails.

    Raises:
        ComponentError: The module cannot be imported, or has no such component or setting.
    """
    entries = import_components(options.module)
    chosen = _select(entries, options)
    settings = [_read_settings(entry, options.settings) for entry in chosen]
    _check_slots(chosen, options.settings)
    counts = {"pass": 0, "fail": 0, "skip": 0}
    for entry, own in zip(chosen, settings, strict=True):
        for result in _check_component(entry, own):
            counts[result.status] += 1
    print(f"\n{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} skipped")
    return FAILED if counts["fail"] else 0


def _select(entries: Sequence[Entry], options: argparse.Namespace) -> list[Entry]:
    """Select components by slot and name."""
    if options.slot and options.slot not in ALL_SLOTS:
        raise ComponentError(
            f"there is no slot {options.slot!r}; choose one of {join_names(ALL_SLOTS)}"
        )
    chosen = [
        entry
        for entry in entries
        if options.slot in (None, entry.slot) and options.name in (None, entry.name)
    ]
    if not chosen:
        found = [f"{entry.slot} {entry.name}" for entry in entries]
        wanted = " ".join(filter(None, (options.slot, options.name)))
        raise ComponentError(
            f"{options.module} registers no {wanted or 'component'}; it registers "
            f"{join_names(found)}"
        )
    return chosen


def _check_slots(entries: Sequence[Entry], arguments: Sequence[str]) -> None:
    """Raise ComponentError for a setting of a slot that no component is checked for."""
    slots = list(dict.fromkeys(entry.slot for entry in entries))
    for argument in arguments:
        if argument.partition("=")[0].partition(".")[0] not in slots or "=" not in argument:
            choices = " or ".join(f"{slot}.KEY=VALUE" for slot in slots)
            raise ComponentError(f"{argument!r} is no setting of what is checked; give {choices}")


def _read_settings(entry: Entry, arguments: Sequence[str]) -> dict[str, Any]:
    """Read the settings of a component as `lift run` does, and check them."""
    own = [argument for argument in arguments if argument.startswith(f"{entry.slot}.")]
    if not own:
        return {}
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from lift.config.overrides import literal_override

    prepared = [literal_override(argument, lambda slot: entry.name) for argument in own]
    settings = {
        (override.key_or_group or "").partition(".")[2]: override.value()
        for override in OverridesParser.create().parse_overrides(prepared)
    }
    return entry.check(settings)


def _check_component(entry: Entry, settings: Mapping[str, Any]) -> list["CheckResult"]:
    """Run and print the checks of a component."""
    from lift.contracts import contract_checks

    print(f"{entry.slot} {entry.name}   {entry.module}.{entry.qualname}", flush=True)
    results = []
    for item in contract_checks(entry.slot):
        with tempfile.TemporaryDirectory() as folder:
            result = item.run(entry.name, Path(folder), settings)
        word = "FAIL" if result.status == "fail" else result.status
        reason = f": {result.reason}" if result.reason else ""
        print(f"  {word}  {item.title}{reason}", flush=True)
        results.append(result)
    return results
