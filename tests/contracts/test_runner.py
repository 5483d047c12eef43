"""Checks say what became of them, and why."""

from pathlib import Path

import pytest

from lift.contracts import Check, CheckSkipped, ContractError, Subject, contract_checks
from lift.registry import ALL_SLOTS, ComponentError

ROOT = Path(__file__).parents[2]


def check_of(error: Exception | None) -> Check:
    def promise(subject: Subject) -> None:
        """Keep a promise."""
        if error:
            raise error

    return Check("planner", promise)


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (None, "pass", ""),
        (CheckSkipped("needs a CUDA device"), "skip", "needs a CUDA device"),
        (ContractError("it does not"), "fail", "it does not"),
        (ValueError("two\nlines"), "fail", "ValueError: two lines"),
        (AssertionError(), "fail", "AssertionError: "),
    ],
)
def test_a_result_has_its_reason_in_one_line(tmp_path, error, status, reason):
    result = check_of(error).run("orbit", tmp_path)
    assert (result.status, result.reason) == (status, reason)


def test_ctrl_c_ends_the_checks(tmp_path):
    interrupted = SystemError("numba")
    interrupted.__cause__ = KeyboardInterrupt()
    with pytest.raises(SystemError):
        check_of(interrupted).run("orbit", tmp_path)


@pytest.mark.parametrize("slot", ALL_SLOTS)
def test_every_slot_has_checks_with_a_title(slot):
    checks = contract_checks(slot)
    assert len(checks) > 1
    assert len({str(check) for check in checks}) == len(checks)
    assert all(len(check.title) > 10 and "\n" not in check.title for check in checks)


def test_an_unknown_slot_is_refused():
    with pytest.raises(ComponentError, match="there is no slot 'plan'; choose one of planner"):
        contract_checks("plan")


def test_all_packages_are_installed():
    text = (ROOT / "setup.cfg").read_text()
    declared = text.partition("packages =\n")[2].partition("package_dir")[0].split()
    packages = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for file in ROOT.joinpath("lift").rglob("__init__.py")
    }
    assert packages | {"lift.configs"} == set(declared)
