"""Contracts of every registered component, built-in or plugin. `lift.contracts` has the checks.

A component whose package is not installed is skipped by name. A component that has settings without
default declares `example_settings` (docs/extending/index.md).
"""

from collections.abc import Iterator

import pytest

from lift.contracts import Check, CheckSkipped, Subject, contract_checks
from lift.registry import ALL_SLOTS, catalogue


def every_check() -> Iterator:
    """All checks of all components. Those that need a CUDA device are marked."""
    for slot in ALL_SLOTS:
        for name in catalogue().entries[slot]:
            for check in contract_checks(slot):
                marks = pytest.mark.gpu if check.needs_cuda else ()
                yield pytest.param(check, name, id=f"{name}-{slot}-{check}", marks=marks)


def test_every_plugin_can_be_imported():
    broken = catalogue().broken.items()
    assert {plugin: f"{type(error).__name__}: {error}" for plugin, error in broken} == {}


@pytest.mark.parametrize(("check", "name"), list(every_check()))
def test_component_keeps_its_contract(check: Check, name: str, tmp_path):
    try:
        check.function(Subject(check.slot, name, tmp_path))
    except CheckSkipped as reason:
        pytest.skip(f"{check.slot} {name} {reason}")
