"""Contracts: what every component of a slot promises, as checks that run without pytest.

    from lift.contracts import contract_checks

    for check in contract_checks("planner"):
        print(check, check.run("orbit", folder))

One module holds the checks of one slot. `lift check MODULE` runs those of the components that a
module registers. `tests/test_contracts.py` runs all of them for every component.
"""

from lift.contracts.runner import Check, CheckResult, contract_checks
from lift.contracts.subject import CheckSkipped, ContractError, Subject

__all__ = [
    "Check",
    "CheckResult",
    "CheckSkipped",
    "ContractError",
    "Subject",
    "contract_checks",
]
