"""The catalogue of all components: those of `lift`, and those of plugins."""

import importlib.metadata
import importlib.util
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

from lift.registry.entry import ALL_SLOTS, ComponentError, Entry, join_names
from lift.registry.fingerprint import PACKAGE, ROOT
from lift.registry.imports import search_current_folder
from lift.registry.module_files import (
    find_registering_file,
    import_module_or_file,
    is_file_path,
)
from lift.registry.source import read_components

PLUGIN_GROUP = "lift.plugins"
"""Group of entry points that name plugins."""

PLUGIN_VARIABLE = "LIFT_PLUGINS"
"""Environment variable with the modules or files of plugins, separated by commas."""

CONFIG_GROUP = "lift.configs"
"""Group of entry points that name folders with experiments: PACKAGE or PACKAGE:FOLDER."""

CONFIG_FOLDER = "configs"
"""Folder with experiments in the package of a plugin."""

CONFIG_ATTRIBUTE = "LIFT_CONFIGS"
"""Attribute of a plugin's module that names another folder, relative to the module's file."""


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
        """Add a component. A class that is defined again, as in a notebook, replaces itself.

        Args:
            entry: The component.

        Raises:
            ComponentError: Another component of the slot has its name.
        """
        present = self.entries[entry.slot].get(entry.name)
        if present and (present.module, present.qualname) != (entry.module, entry.qualname):
            raise ComponentError(
                f"{entry.module}.{entry.qualname} registers {entry.slot} {entry.name!r}, which is "
                f"already {present.module}.{present.qualname}; register another name"
            )
        if not present or not present.module.startswith(f"{PACKAGE}."):
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
        raise self.unknown(slot, name) from next(iter(self.broken.values()), None)

    def unknown(self, slot: str, name: str, files: Iterable[str] = ()) -> ComponentError:
        """Make the error for a name that no component has.

        Args:
            slot: Name of the slot.
            name: Name that was chosen.
            files: Names of files of settings that can be chosen, too.

        Returns:
            An error whose message lists the choices. It also names a file of the current folder
            that registers the name, or else the most similar choice, and a broken plugin.
        """
        choices = sorted({*self.entries[slot], *files})
        hint = _unlisted_hint(name)
        if not hint and (close := get_close_matches(name, choices, 1)):
            hint = f" (did you mean {close[0]}?)"
        return ComponentError(
            f"{slot} is {name!r}; choose one of {join_names(choices)}{hint}{self.broken_hint()}"
        )

    def broken_hint(self) -> str:
        """Say that the first broken plugin may have what is missing; empty if none is broken."""
        for plugin, error in self.broken.items():
            return f" (plugin {plugin!r} is broken: {_describe(error)})"
        return ""


def catalogue() -> Catalogue:
    """Return all components. Sources and plugins are read once per process."""
    _load_plugins()
    return builtin_catalogue()


def listed_plugins() -> list[str]:
    """List the modules and the files that `LIFT_PLUGINS` names."""
    names = os.environ.get(PLUGIN_VARIABLE, "").split(",")
    return [name.strip() for name in names if name.strip()]


def check_listed_plugins() -> None:
    """Check that every plugin of `LIFT_PLUGINS` could be imported.

    A run without it would use another component of the same name.

    Raises:
        ComponentError: One is broken. The message says why.
    """
    broken = catalogue().broken
    for name in listed_plugins():
        if error := broken.get(name):
            raise ComponentError(
                f"{PLUGIN_VARIABLE} names {name!r}, which is broken ({_describe(error)}); "
                f"correct it, or take it out of {PLUGIN_VARIABLE}"
            ) from error


def _unlisted_hint(name: str) -> str:
    """Say how to use a file of the current folder that registers a name; empty if none does."""
    file = find_registering_file(name)
    listed = listed_plugins()
    if file is None or {file, file.removesuffix(".py")} & set(listed):
        return ""
    value = ",".join([*listed, file])
    return f" ({file} lies here, but is not read: set {PLUGIN_VARIABLE}={value})"


def _describe(error: Exception) -> str:
    """Describe why the import of a plugin failed, in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ComponentError) else f"{type(error).__name__}: {text}"


@cache
def builtin_catalogue() -> Catalogue:
    """Return the components of `lift`, and those that registered themselves by now."""
    components = Catalogue()
    for slot, package in ALL_SLOTS.items():
        for path in sorted(ROOT.joinpath(*package.split(".")).glob("*.py")):
            for entry in read_components(slot, f"{PACKAGE}.{package}.{path.stem}", path):
                components.add(entry)
    return components


def plugin_config_folders() -> list[tuple[str, Path]]:
    """Find the folders with experiments and other configuration files of plugins.

    They are named by entry points of the group `lift.configs`. The package of a plugin may also
    have a folder `configs`, or the plugin's module an attribute `LIFT_CONFIGS`.

    Returns:
        Name of the plugin or value of the entry point, and folder. Folders that do not exist are in
        `Catalogue.broken`.
    """
    return list(_load_plugins())


@cache
def _load_plugins() -> tuple[tuple[str, Path], ...]:
    """Import all plugins, which registers their components; return their configuration folders."""
    listed = listed_plugins()
    # Sorted, because the first of two experiments with one name wins.
    points = importlib.metadata.entry_points(group=PLUGIN_GROUP)
    installed = sorted(point.value for point in points)
    if listed:
        search_current_folder()
    found: dict[Path, str] = {}
    broken = builtin_catalogue().broken
    for name in dict.fromkeys([*installed, *listed]):
        try:
            load = import_module_or_file if is_file_path(name) else import_module
            if folder := _folder_of_plugin(load(name)):
                found.setdefault(folder, name)
        except Exception as error:  # a broken plugin must not stop the others
            broken[name] = error
    config_points = importlib.metadata.entry_points(group=CONFIG_GROUP)
    for point in sorted(config_points, key=lambda point: point.value):
        try:
            found.setdefault(_folder_of_package(point.value), point.value)
        except (ImportError, OSError, ValueError) as error:
            broken[point.value] = error
    return tuple((name, folder) for folder, name in found.items())


def _folder_of_plugin(module: ModuleType) -> Path | None:
    """Find the folder with configuration files of a plugin, if it has one."""
    file = Path(module.__file__) if module.__file__ else None
    folder = getattr(module, CONFIG_ATTRIBUTE, None)
    if folder is not None:
        path = file.parent / folder if file else Path(folder)
        if not path.is_dir():
            raise FileNotFoundError(
                f"{CONFIG_ATTRIBUTE} is {str(folder)!r}, but there is no folder {path}"
            )
        return path.resolve()
    # Only a package has its folder for itself.
    path = file.parent / CONFIG_FOLDER if file and module.__package__ else None
    return path.resolve() if path and path.is_dir() else None


def _folder_of_package(value: str) -> Path:
    """Find the folder that an entry point names, without an import of its package."""
    package, _, folder = value.partition(":")
    spec = importlib.util.find_spec(package.strip())
    if spec is None:
        raise ImportError(f"there is no package {package.strip()!r}")
    parents = [Path(location) for location in spec.submodule_search_locations or ()]
    if not parents and spec.origin:
        parents = [Path(spec.origin).parent]
    paths = [parent / folder.strip() for parent in parents]
    if path := next((path for path in paths if path.is_dir()), None):
        return path.resolve()
    raise FileNotFoundError(
        f"there is no folder {join_names(paths)}; add it to the data of the package"
    )
