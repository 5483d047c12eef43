"""Gaussians in the form that viser draws."""

import numpy as np
import torch

from lift.geometry import quat_to_rotation
from lift.outputs.viewer.splats import MAX_DEVIATION, color_by, quantiles, splat_arrays
from lift.spherical_harmonics import from_rgb
from lift.types import Gaussians


def test_arrays_have_the_viewers_unit_of_length():
    quats = torch.nn.functional.normalize(torch.randn(3, 4), dim=-1)
    scales = torch.rand(3, 3) + 0.1
    gaussians = Gaussians(
        torch.randn(3, 3), quats, scales, torch.rand(3), from_rgb(torch.rand(3, 1, 3))
    )
    arrays = splat_arrays(gaussians, torch.zeros(3), 5.0)
    axes = quat_to_rotation(quats) * scales[:, None] * 5
    assert np.allclose(arrays["centers"], gaussians.means * 5)
    assert np.allclose(arrays["covariances"], axes @ axes.mT, atol=1e-5)
    assert arrays["opacities"].shape == (3, 1) and arrays["rgbs"].shape == (3, 3)


def test_a_huge_gaussian_fits_half_precision():
    gaussians = Gaussians(
        torch.zeros(1, 3),
        torch.tensor([[1.0, 0, 0, 0]]),
        torch.full((1, 3), 1e6),
        torch.ones(1),
        torch.zeros(1, 1, 3),
    )
    covariances = splat_arrays(gaussians, torch.zeros(3), 1.0)["covariances"]
    assert covariances.max() <= MAX_DEVIATION**2 * 1.001
    assert np.isfinite(covariances.astype(np.float16)).all()


def test_colours_go_from_blue_to_red():
    colors = color_by(torch.tensor([[0.0, 1.0, torch.nan]]), 0.0, 1.0)
    assert colors.shape == (1, 3, 3) and colors.dtype == np.uint8
    low, high = colors[0, 0].astype(int), colors[0, 1].astype(int)
    assert low[2] > low[0] and high[0] > high[2]


def test_quantiles_of_few_values_are_those_of_torch():
    values = torch.randn(1000)
    expected = values.quantile(torch.tensor([0.1, 0.9])).tolist()
    assert quantiles(values, (0.1, 0.9)) == expected


def test_there_are_quantiles_of_more_values_than_torch_takes():
    values = torch.tensor(2.0).expand(2**24 + 1)  # in the memory of one number
    assert quantiles(values, (0.02, 0.98)) == [2.0, 2.0]
