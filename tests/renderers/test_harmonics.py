"""The CPU's view-dependent colours have the values and gradients of torch's."""

import pytest
import torch

from lift.renderers.cpu import spherical_harmonics
from lift.spherical_harmonics import evaluate_from


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("shared", [True, False])
def test_colors_have_the_values_and_gradients_of_torchs(degree, shared):
    generator = torch.Generator().manual_seed(degree)
    views, count = 2, 1500
    lead = () if shared else (views,)
    coeffs = torch.randn(*lead, count, (degree + 1) ** 2, 3, generator=generator)
    means = torch.randn(*lead, count, 3, generator=generator)
    centers = 2 * torch.randn(views, 3, generator=generator)
    weights = torch.randn(views, count, 3, generator=generator)
    found = []
    for function in (evaluate_from, spherical_harmonics.evaluate_from):
        inputs = [value.clone().requires_grad_() for value in (coeffs, means, centers)]
        colors = function(*inputs)
        (colors * weights).sum().backward()
        found.append([colors.detach(), *(value.grad for value in inputs)])
    for expected, actual in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected, rtol=2e-4, atol=2e-3)
