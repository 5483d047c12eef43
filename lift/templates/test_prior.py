"""Tests of the prior `new_prior`.

Keep `test_it_keeps_the_contract`. The other tests are for the code of the template: replace them
together with it.
"""

import pytest
import torch

from lift.contracts import contract_checks
from lift.geometry import pinhole
from lift.registry import catalogue
from lift.templates.prior import NewPrior
from lift.types import Clip, Depth, Frames

CAMERA = pinhole(64, 48, 60.0)
DEPTH = Depth(torch.full((48, 64), 3.0), torch.ones(48, 64, dtype=torch.bool), "scale")
IMAGES = torch.randint(0, 256, (1, 48, 64, 3), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("check", contract_checks("prior"), ids=str)
def test_it_keeps_the_contract(check, tmp_path):
    """It keeps the promises of its slot. `lift check` runs the same checks."""
    result = check.run("new_prior", tmp_path)
    if result.status == "skip":
        pytest.skip(result.reason)
    assert result.status == "pass", result.reason


def test_the_input_camera_sees_the_input():
    """A clip that does not move repeats the frame that it continues."""
    frames = Frames(IMAGES.to(torch.uint8))
    generated = NewPrior(depth=DEPTH)(frames, CAMERA, Clip("still", 0, CAMERA), 0)
    assert generated.images.equal(frames.images)


def test_a_wrong_distance_is_refused():
    """The message names the setting and its range."""
    with pytest.raises(ValueError, match=r"prior.distance is 0.0; choose 0.1 to 10"):
        catalogue()("prior", "new_prior").check({"distance": 0.0})
