"""From inverse depth to depth."""

import cv2
import pytest
import torch

from lift.depths.inverse import from_relative, guided_filter, guided_filter_torch
from tests.helpers.depth_pictures import rank_correlation


def test_guided_filter_keeps_steps_and_affine_colours():
    picture = torch.zeros(3, 40, 60)
    picture[:, :, 30:] = 0.8
    soft = torch.from_numpy(cv2.GaussianBlur(picture[0].numpy(), (0, 0), 4))
    sharp = guided_filter(picture, soft, 6, 1e-4)
    assert (sharp[20, 31] - sharp[20, 28]) > 1.5 * (soft[20, 31] - soft[20, 28])
    torch.testing.assert_close(
        guided_filter(picture, 2 * picture[0] + 1, 6, 1e-6), 2 * picture[0] + 1, atol=1e-3, rtol=0
    )


def test_relative_inverse_depth_spans_one_to_far():
    inverse = torch.rand(40, 50, generator=torch.Generator().manual_seed(0))
    a, b = from_relative(inverse, 8.0), from_relative(100 * inverse - 300, 8.0)
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    assert a.min() == pytest.approx(1) and a.max() == pytest.approx(8)
    assert (
        rank_correlation(-a.double(), inverse.double(), torch.ones(40, 50, dtype=torch.bool))
        > 0.999
    )
    stray = inverse.clone()
    stray[0, 0] = 1e6
    torch.testing.assert_close(from_relative(stray, 8.0)[1:], a[1:], rtol=0.05, atol=0.05)
    assert (from_relative(torch.zeros(5, 5), 8.0) == 1).all()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("radius", [1, 6, 45])
def test_guided_filter_of_torch_equals_that_of_the_cpu(device, radius):
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(3, 40, 60, generator=generator)
    picture[:, :, 30:] = 0.8
    values = torch.rand(40, 60, generator=generator)
    found = guided_filter_torch(picture.to(device), values.to(device), radius, 1e-3)
    assert found.device.type == device
    expected = guided_filter(picture, values, radius, 1e-3)
    torch.testing.assert_close(found.cpu(), expected, atol=2e-4, rtol=0)
