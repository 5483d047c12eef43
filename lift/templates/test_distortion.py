"""Tests of the distortion `new_distortion`.

Keep `test_it_keeps_the_contract`. The other tests are for the code of the template: replace them
together with it.
"""

import pytest
import torch

from lift.contracts import contract_checks
from lift.registry import catalogue
from lift.templates.distortion import NewDistortion
from lift.types import Render


@pytest.mark.parametrize("check", contract_checks("distortion"), ids=str)
def test_it_keeps_the_contract(check, tmp_path):
    """It keeps the promises of its slot. `lift check` runs the same checks."""
    result = check.run("new_distortion", tmp_path)
    if result.status == "skip":
        pytest.skip(result.reason)
    assert result.status == "pass", result.reason


def test_it_learns_the_colours_of_a_frame():
    """A darker frame is explained after some steps."""
    torch.manual_seed(0)
    distortion = NewDistortion(learning_rate=0.05, weight=0.0, num_views=2)
    render = Render(torch.rand(1, 8, 8, 3), torch.ones(1, 8, 8), torch.ones(1, 8, 8))
    frame = 0.5 * render.rgb + 0.1
    optimiser = torch.optim.Adam(list(distortion.groups()))
    for _ in range(300):
        error = (distortion.image(render, torch.tensor([1])).rgb - frame).square().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
    assert error.item() < 1e-4


def test_a_wrong_weight_is_refused():
    """The message names the setting and its range."""
    with pytest.raises(ValueError, match=r"distortion.weight is -1.0; choose 0 to 100"):
        catalogue()("distortion", "new_distortion").check({"weight": -1.0})
