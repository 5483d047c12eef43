"""The catalogue of all components: those of `lift`, and those of plugins."""

import importlib
import importlib.metadata
import os
import sys
from dataclasses import dataclass, field
from functools import cache

from lift.registry.entry import ALL_SLOTS, ComponentError, Entry, join_names
from lift.registry.fingerprint import PACKAGE, ROOT
from lift.registry.source import read_components

PLUGIN_GROUP = "lift.plugins"
"""Group of entry points that name plugins."""

PLUGIN_VARIABLE = "LIFT_PLUGINS"
"""Environment variable with names of plugins, separated by commas."""


@dataclass
class Catalogue:
    """Every component of every slot, and the plugins that failed."""

    entries: dict[str, dict[str, Entry]] = field(
        default_factory=lambda: {slot: {} for slot in ALL_SLOTS}
    )
    """Slot -> name -> component."""
    broken: dict[str, Exception] = field(default_factory=dict)
    """Name of a plugin -> the exception of its import."""

    def add(self, entry: Entry) -> None:
        """Add a component.

        Args:
            entry: The component.

        Raises:
            ComponentError: Another component of the slot has its name.
        """
        present = self.entries[entry.slot].get(entry.name)
        if present and (present.module, present.qualname) != (entry.module, entry.qualname):
            raise ComponentError(
                f"{entry.slot} {entry.name!r} is already {present.module}.{present.qualname}"
            )
        if not present:
            self.entries[entry.slot][entry.name] = entry

    def __call__(self, slot: str, name: str) -> Entry:
        """Look up a component.

        Args:
            slot: Name of the slot.
            name: Name of the component.

        Returns:
            What is known of the component.

        Raises:
            ComponentError: There is none; the message lists the choices.
        """
        if slot not in self.entries:
            raise ComponentError(
                f"there is no slot {slot!r}; choose one of {join_names(self.entries)}"
            )
        if name in self.entries[slot]:
            return self.entries[slot][name]
        if self.broken:
            plugin, error = next(iter(self.broken.items()))
            raise ComponentError(
                f"{slot} is {name!r}, which is not known; choose one of "
                f"{join_names(self.entries[slot])} "
                f"(plugin {plugin!r} is broken: {type(error).__name__}: {error})"
            ) from error
        raise ComponentError(f"{slot} is {name!r}; choose one of {join_names(self.entries[slot])}")


def catalogue() -> Catalogue:
    """Return all components. Sources and plugins are read once per process."""
    _load_plugins()
    return builtin_catalogue()


@cache
def builtin_catalogue() -> Catalogue:
    """Return the components of `lift`, and those that registered themselves by now."""
    components = Catalogue()
    for slot, package in ALL_SLOTS.items():
        for path in sorted(ROOT.joinpath(*package.split(".")).glob("*.py")):
            for entry in read_components(slot, f"{PACKAGE}.{package}.{path.stem}", path):
                components.add(entry)
    return components


@cache
def _load_plugins() -> None:
    """Import all plugins; the import registers their components."""
    names = os.environ.get(PLUGIN_VARIABLE, "").split(",")
    listed = [name.strip() for name in names if name.strip()]
    installed = [point.value for point in importlib.metadata.entry_points(group=PLUGIN_GROUP)]
    if listed and "" not in sys.path:
        sys.path.insert(0, "")  # finds modules in the current folder, like `python -m`
    for name in dict.fromkeys([*installed, *listed]):
        try:
            importlib.import_module(name)
        except Exception as error:  # a broken plugin must not stop the others
            builtin_catalogue().broken[name] = error
