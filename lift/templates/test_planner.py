"""Tests of the planner `new_planner`.

Keep `test_it_keeps_the_contract`. The other tests are for the code of the template: replace them
together with it.
"""

import pytest
import torch

from lift.contracts import contract_checks
from lift.geometry import pinhole
from lift.registry import catalogue
from lift.templates.planner import NewPlanner
from lift.types import Depth

CAMERA = pinhole(64, 48, 60.0)
DEPTH = Depth(torch.full((48, 64), 5.0), torch.ones(48, 64, dtype=torch.bool), "scale")


@pytest.mark.parametrize("check", contract_checks("planner"), ids=str)
def test_it_keeps_the_contract(check, tmp_path):
    """It keeps the promises of its slot. `lift check` runs the same checks."""
    result = check.run("new_planner", tmp_path)
    if result.status == "skip":
        pytest.skip(result.reason)
    assert result.status == "pass", result.reason


def test_a_clip_ends_at_the_distance():
    """`distance` is in units of the typical depth."""
    right, left = NewPlanner(distance=0.3)(CAMERA, DEPTH, 8).clips
    torch.testing.assert_close(right.cameras.centers[-1], torch.tensor([1.5, 0.0, 0.0]))
    torch.testing.assert_close(left.cameras.centers[-1], torch.tensor([-1.5, 0.0, 0.0]))


def test_a_wrong_distance_is_refused():
    """The message names the setting and its range."""
    with pytest.raises(ValueError, match=r"planner.distance is 9.0; choose 0.01 to 2"):
        catalogue()("planner", "new_planner").check({"distance": 9.0})
