"""The blur and its gradient."""

import pytest
import torch

from lift.distortions.blur import SIGMA_UNIT, Blur, gaussian_blur
from lift.types import Render
from tests.helpers.distortions import ALL_VIEWS, VIEWS, build_distortion


def test_blur_has_its_reported_variance():
    blur: Blur = build_distortion("blur", chained=False)
    blur.variance.values.data[1] = 4.0
    dot = torch.zeros(VIEWS, 65, 256, 3)
    dot[:, 32, 128] = 1
    shown = blur.image(Render(dot, dot[..., 0], dot[..., 0]), ALL_VIEWS).rgb[..., 0].detach()
    across = torch.arange(256) - 128.0
    assert float(shown[1].sum()) == pytest.approx(1, abs=1e-5)
    assert float((shown[1].sum(0) * across**2).sum()) == pytest.approx(
        4.0 * (SIGMA_UNIT * 256) ** 2, rel=0.02
    )
    assert torch.equal(shown[2], dot[2, ..., 0])
    rng = torch.Generator().manual_seed(0)
    pictures, variance = (
        torch.rand(2, 9, 7, 3, dtype=torch.double, generator=rng).requires_grad_(),
        torch.tensor([0.0, 1.3], dtype=torch.double, requires_grad=True),
    )
    assert torch.autograd.gradcheck(
        lambda rgb, variance: gaussian_blur(rgb, variance, 4.0), (pictures, variance)
    )
    blur.variance.values.data[1] = 2 * blur.max_sigma**2
    assert float(blur.variances(ALL_VIEWS)[1].detach()) == pytest.approx(blur.max_sigma**2)
    blur.variance.values.data[1] = -0.5
    variance = blur.variances(ALL_VIEWS)
    assert float(variance[1].detach()) == 0
    (gradient,) = torch.autograd.grad(variance[1], blur.variance.values)
    assert float(gradient[1]) == 1, "a step below zero is not for good"
