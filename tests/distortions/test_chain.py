"""Parameters of each frame, summed along its chain."""

import torch

from lift.distortions.parameters.chain import PerFrame, ancestry
from tests.helpers.distortions import ALL_VIEWS, VIEWS, branching_trajectory


def test_a_frame_sums_the_changes_on_its_way_from_the_input():
    expected = torch.tensor(
        [[0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 1.0]]
    )
    assert torch.equal(ancestry(branching_trajectory(), VIEWS), expected)
    for chained in (True, False):
        numbers = PerFrame(VIEWS, (2,), branching_trajectory(), chained)
        with torch.no_grad():
            numbers.values.copy_(torch.randn(VIEWS, 2))
        truth = expected @ numbers.values if chained else numbers.values * (ALL_VIEWS > 0)[:, None]
        torch.testing.assert_close(numbers(ALL_VIEWS), truth)
        assert not numbers(ALL_VIEWS)[0].any()
