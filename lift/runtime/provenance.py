"""What a run depends on besides `lift`: plugins, and names that were given in Python.

The module imports no torch: see `lift.runtime.execution`.
"""

import hashlib
import importlib.metadata
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lift.registry import PLUGIN_GROUP, PLUGIN_VARIABLE, Entry, catalogue
from lift.registry.fingerprint import PACKAGE

run_choices: ContextVar[tuple[str, ...]] = ContextVar("run_choices", default=())
"""Names that `lift.run` was called with, such as `experiment=mine`. The command has no such."""


def plugin_environment() -> dict[str, str]:
    """Return the variable that names plugins, if it is set."""
    value = os.environ.get(PLUGIN_VARIABLE, "")
    return {PLUGIN_VARIABLE: value} if value else {}


def shell_command(words: Sequence[str]) -> str:
    """Format a command for a shell, with the variable that names plugins before it.

    Args:
        words: The program and its arguments.
    """
    variables = [f"{name}={shlex.quote(value)}" for name, value in plugin_environment().items()]
    return " ".join([*variables, shlex.join(words)])


def plugin_components(config: DictConfig, slots: Iterable[str]) -> dict[str, dict[str, str]]:
    """Describe the components of a run that are not of `lift`.

    Args:
        config: Configuration of the run.
        slots: Slots whose components take part in the run.

    Returns:
        `SLOT NAME` -> the module, its file, the SHA-256 of the file, the hash of the code that is
        part of cache keys, and the installed package with its version. A class of a notebook has
        no file.
    """
    return {
        f"{entry.slot} {entry.name}": _describe(entry) for entry in _plugin_entries(config, slots)
    }


def _plugin_entries(config: DictConfig, slots: Iterable[str]) -> Iterator[Entry]:
    """Yield the components of a run that are not of `lift`, those of `parts` included."""
    for slot in slots:
        settings = config[slot]
        for name in (settings.name, *(settings.get("parts") or ())):
            entry = catalogue()(slot, name)
            if entry.module.partition(".")[0] != PACKAGE:
                yield entry


def _describe(entry: Entry) -> dict[str, str]:
    """Describe a component of a plugin."""
    description: dict[str, Any] = {
        "module": entry.module,
        "file": str(entry.source) if entry.source else None,
        "sha256": hashlib.sha256(entry.source.read_bytes()).hexdigest() if entry.source else None,
        "code": entry.fingerprint(),
        "package": _distribution(entry),
    }
    if package := description["package"]:
        description["version"] = importlib.metadata.version(package)
    return {key: value for key, value in description.items() if value}


def _distribution(entry: Entry) -> str | None:
    """Return the name of the installed package that has a component."""
    top = entry.module.partition(".")[0]
    for point in importlib.metadata.entry_points(group=PLUGIN_GROUP):
        if point.value.partition(".")[0] == top and point.dist:
            return point.dist.name
    folders = {"site-packages", "dist-packages"}
    if entry.source and folders & set(Path(entry.source).parts):
        return next(iter(importlib.metadata.packages_distributions().get(top, ())), None)
    return None
