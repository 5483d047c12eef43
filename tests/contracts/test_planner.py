"""The checks of planners."""

import pytest

from lift.contracts.planner import keeps_requests_in_the_units_of_a_generator
from lift.contracts.subject import CheckSkipped, Subject
from lift.planners import planners
from lift.planners.liftimage3d import LiftImage3D
from lift.registry import catalogue


class Shrinkable(LiftImage3D):
    """Claim that requests can be shrunk."""

    supports_magnitude = True


@pytest.fixture
def subject_of(monkeypatch: pytest.MonkeyPatch, tmp_path):
    entries = catalogue().entries
    monkeypatch.setitem(entries, "planner", dict(entries["planner"]))
    planners.register("shrinkable")(Shrinkable)
    return lambda name: Subject("planner", name, tmp_path)


def test_requests_that_claim_to_shrink_are_refused(subject_of) -> None:
    with pytest.raises(AssertionError, match="set supports_magnitude = False"):
        keeps_requests_in_the_units_of_a_generator(subject_of("shrinkable"))


def test_requests_that_are_kept_pass_and_plans_are_skipped(subject_of) -> None:
    keeps_requests_in_the_units_of_a_generator(subject_of("liftimage3d"))
    with pytest.raises(CheckSkipped, match="in the scene's unit"):
        keeps_requests_in_the_units_of_a_generator(subject_of("orbit"))
