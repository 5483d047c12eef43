"""Run the checks of a slot for a component."""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from lift.contracts.subject import CheckSkipped, ContractError, Subject
from lift.errors import is_interrupt, summarize_error
from lift.registry import ALL_SLOTS, ComponentError, catalogue
from lift.registry.entry import join_names

_MAX_REASON = 400
"""Largest number of characters of a reason."""


@dataclass(frozen=True)
class CheckResult:
    """What became of a check."""

    status: Literal["pass", "fail", "skip"]
    """Whether the component keeps the promise. `skip`: the check does not apply, or cannot run."""
    reason: str = ""
    """Why it failed or was skipped, in one line."""


@dataclass(frozen=True)
class Check:
    """One promise of the components of a slot."""

    slot: str
    """The slot."""
    function: Callable[[Subject], None]
    """Raises ContractError, or another exception, if a component breaks the promise."""

    def __str__(self) -> str:
        """Return the name of the check."""
        return self.function.__name__

    @property
    def title(self) -> str:
        """The promise in one line."""
        return (self.function.__doc__ or "").strip().splitlines()[0].rstrip(".")

    @property
    def needs_cuda(self) -> bool:
        """Whether the check runs on a CUDA device only."""
        return "cuda" in self.function.__name__

    def run(
        self, name: str, folder: Path, settings: Mapping[str, Any] | None = None
    ) -> CheckResult:
        """Run the check for a component.

        Args:
            name: Name of the component.
            folder: An empty folder for files that the component needs.
            settings: Settings of the component by name. Others have their defaults, or the values
                of its `example_settings`.
        """
        try:
            self.function(Subject(self.slot, name, folder, settings or {}))
        except CheckSkipped as reason:
            return CheckResult("skip", str(reason))
        except Exception as error:
            if is_interrupt(error):
                raise
            return CheckResult("fail", _format_reason(error, self.slot, name))
        return CheckResult("pass")


def contract_checks(slot: str) -> list[Check]:
    """Return the checks that all components of a slot have to pass.

    Args:
        slot: Name of the slot.

    Raises:
        ComponentError: There is no such slot.
    """
    if slot not in ALL_SLOTS:
        raise ComponentError(f"there is no slot {slot!r}; choose one of {join_names(ALL_SLOTS)}")
    module = import_module(f"lift.contracts.{slot}")
    return [Check(slot, function) for function in module.CHECKS]


def _format_reason(error: Exception, slot: str, name: str) -> str:
    """Say in one line why a check failed, and where in the component's file if that raised."""
    if isinstance(error, (ContractError, ComponentError)):
        return summarize_error(error)
    source = catalogue()(slot, name).source
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if source and Path(frame.filename) == source]
    place = f" ({source.name}:{lines[-1]})" if source and lines else ""
    return summarize_error(error, _MAX_REASON, with_type=True) + place
