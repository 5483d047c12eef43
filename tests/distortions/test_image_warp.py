"""The image warp."""

from dataclasses import replace

import torch

from lift.distortions.image_warp import ImageWarp
from tests.helpers.distortions import ALL_VIEWS, WIDTH, build_distortion, gradient_render


def test_shifted_picture_leaves_out_unknown_content():
    warp: ImageWarp = build_distortion("image_warp", chained=False)
    with torch.no_grad():
        warp.grid.values[2, 0] = 3 / WIDTH
    shown = warp.image(gradient_render(), ALL_VIEWS)
    torch.testing.assert_close(
        shown.rgb[2, :, :-4], gradient_render().rgb[2, :, 3:-1], atol=1e-4, rtol=0
    )
    assert torch.equal(shown.info["weight"][2, 0], (torch.arange(WIDTH) < WIDTH - 3).float())
    assert torch.equal(shown.rgb[1], gradient_render().rgb[1]) and bool(
        (shown.info["weight"][1] == 1).all()
    )
    doubted = replace(gradient_render(), info={"weight": torch.full(shown.alpha.shape, 0.5)})
    assert torch.equal(warp.image(doubted, ALL_VIEWS).info["weight"], 0.5 * shown.info["weight"])
