"""The component that a check is about."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from lift.registry import ALL_SLOTS, Entry, Registry, catalogue
from lift.registry.entry import join_names

_NEEDS_CUDA = ("gsplat",)
"""Components that run on a CUDA device only."""


class ContractError(AssertionError):
    """A component breaks a promise of its slot."""


class CheckSkipped(Exception):  # noqa: N818
    """A check does not apply to a component, or cannot run here. The message says why."""


def require(condition: bool, message: str) -> None:
    """Raise ContractError unless a condition holds.

    Args:
        condition: What a component promises.
        message: What it does instead.
    """
    if not condition:
        raise ContractError(message)


@dataclass(frozen=True)
class Subject:
    """A registered component, and how to build it for a check."""

    slot: str
    """Slot of the component."""
    name: str
    """Name that it is registered with."""
    folder: Path
    """An empty folder for its `example_settings`."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Settings that replace those of `example_settings`, by name."""

    @cached_property
    def entry(self) -> Entry:
        """What the registry knows of it.

        Raises:
            CheckSkipped: It cannot run here.
        """
        entry = catalogue()(self.slot, self.name)
        if entry.missing:
            raise CheckSkipped(f"needs {join_names(entry.missing)}: {entry.install_hint}")
        if self.name in _NEEDS_CUDA and not torch.cuda.is_available():
            raise CheckSkipped("needs a CUDA device")
        return entry

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Values for its settings without default, as it declares them, and the overrides.

        Raises:
            CheckSkipped: It declares that no check can build it.
            ContractError: A value is missing.
        """
        examples = self.entry.example_settings(self.folder)
        if examples is None and not self.overrides:
            raise CheckSkipped(
                f"has example_settings = None; add {self.slot}.KEY=VALUE of its settings without "
                "default to check it"
            )
        settings = {**(examples or {}), **self.overrides}
        items = self.entry.settings.items()
        required = {key for key, parameter in items if parameter.default is parameter.empty}
        missing = sorted(required - set(settings))
        require(
            not missing,
            f"needs {join_names(missing)}; declare example_settings in "
            f"{self.entry.module}.{self.entry.qualname}",
        )
        return settings

    def build(self, changes: dict[str, Any] | None = None, **supplied: Any) -> Any:
        """Build the component with its example settings.

        Args:
            changes: Settings that replace others.
            **supplied: Keyword-only parameters that the pipeline supplies.
        """
        values = {"name": self.name, **self.settings, **(changes or {})}
        return registry_of(self.slot).build(values, **supplied)


def registry_of(slot: str) -> Registry:
    """Return the registry of a slot.

    Args:
        slot: Name of the slot.
    """
    package = ALL_SLOTS[slot]
    return getattr(import_module(f"lift.{package}"), package.rpartition(".")[2])
