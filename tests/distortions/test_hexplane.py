"""The planes of HexPlane."""

import torch

from lift.distortions.hexplane import HexPlane
from tests.helpers.distortions import ALL_VIEWS, build_distortion, random_gaussians


def test_released_planes_are_not_identity_but_keep_the_input():
    torch.manual_seed(0)
    released: HexPlane = build_distortion("hexplane", as_released=True)
    released.progress = 0.0
    assert (
        released.gaussians(random_gaussians(), ALL_VIEWS) is not None
        and released.gaussians(random_gaussians(), ALL_VIEWS).means.shape
        == random_gaussians().means.shape
    )
    released.progress = 1.0
    moved = released.gaussians(random_gaussians(), torch.tensor([2, 0]))
    assert bool((moved.means[0] != random_gaussians().means).any())
    tied = released.penalty()
    released.gaussians(random_gaussians(), torch.tensor([0, 2]))
    assert float(tied) > float(released.penalty()), "only where the input comes last"
