"""Tests of the depth estimator `new_depth`.

Keep `test_it_keeps_the_contract`. The other tests are for the code of the template: replace them
together with it.
"""

import pytest
import torch

from lift.contracts import contract_checks
from lift.registry import catalogue
from lift.templates.depth import NewDepth


@pytest.mark.parametrize("check", contract_checks("depth"), ids=str)
def test_it_keeps_the_contract(check, tmp_path):
    """It keeps the promises of its slot. `lift check` runs the same checks."""
    result = check.run("new_depth", tmp_path)
    if result.status == "skip":
        pytest.skip(result.reason)
    assert result.status == "pass", result.reason


def test_a_bright_pixel_is_near():
    """White is at `near`, and black is at `far`."""
    image = torch.tensor([[[0, 0, 0], [255, 255, 255]]], dtype=torch.uint8)
    depth = NewDepth(near=1.0, far=5.0)(image)
    torch.testing.assert_close(depth.depth, torch.tensor([[5.0, 1.0]]))


def test_a_wrong_depth_is_refused():
    """The message names the setting and its range."""
    with pytest.raises(ValueError, match=r"depth.near is 0.0; choose 0.1 to 100"):
        catalogue()("depth", "new_depth").check({"near": 0.0})
