"""The appearance: colours by frame and place."""

import torch

from lift.distortions.appearance import Appearance
from tests.helpers.distortions import ALL_VIEWS, build_distortion, gradient_render


def test_colors_are_mapped_by_frame_and_place():
    plain: Appearance = build_distortion("appearance", chained=False)
    with torch.no_grad():
        plain.maps.values[3, 0, 0], plain.maps.values[3, 1, 3] = 0.2, 0.1
    shown = plain.image(gradient_render(), ALL_VIEWS).rgb
    torch.testing.assert_close(
        shown[3], gradient_render().rgb[3] * torch.tensor([1.2, 1, 1]) + torch.tensor([0, 0.1, 0])
    )
    local: Appearance = build_distortion("appearance", cells=4, chained=False)
    with torch.no_grad():
        local.maps.values[3, 2, 3, :, 4:] = 0.3
    change = (local.image(gradient_render(), ALL_VIEWS).rgb - gradient_render().rgb)[3, ..., 2]
    assert change[:, 0].abs().max() < 1e-6 and change[:, -1].min() > 0.2
