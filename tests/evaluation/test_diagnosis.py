"""The causes of a frame's errors."""

import pytest
import torch

from lift.evaluation.diagnosis import diagnose
from lift.renderers import renderers
from tests.helpers.distortions import CAMERA, build_distortion, random_gaussians


@torch.no_grad()
def test_causes_of_a_frames_errors_are_separated():
    """Frames that a distortion made and can explain: each cause alone, then all together."""
    renderer, scene = (
        renderers.build({"name": "reference"}, device=torch.device("cpu")),
        random_gaussians(),
    )
    for wrong in (
        ("camera",),
        ("geometry",),
        ("appearance",),
        ("camera", "geometry", "appearance"),
    ):
        all_of_it = build_distortion(
            "composed",
            parts=["rigid", "image_warp", "appearance"],
            settings={"image_warp": {"chained": False}},
        )
        if "camera" in wrong:
            all_of_it.parts["rigid"].motions.values[1:, :2] = 0.02
        if "geometry" in wrong:
            all_of_it.parts["image_warp"].grid.values[1:, 0] = 0.02
        if "appearance" in wrong:
            all_of_it.parts["appearance"].maps.values[1:, 0, 0] = -0.3
        view = torch.tensor([1])
        frame = (
            all_of_it.image(
                renderer(all_of_it.gaussians(scene, view), all_of_it.cameras(CAMERA, view)), view
            )
            .rgb[0]
            .clamp(0, 1)
        )
        shares = diagnose(renderer, all_of_it, scene, CAMERA, frame, 1)
        assert sum(shares.values()) == pytest.approx(1, abs=1e-4)
        assert shares["unexplained"] == pytest.approx(0, abs=1e-6)
        for cause in ("camera", "geometry", "appearance"):
            assert (
                shares[cause] > 0.1
                if cause in wrong
                else shares[cause] == pytest.approx(0, abs=1e-6)
            )
    nothing = diagnose(renderer, build_distortion("identity"), scene, CAMERA, frame, 1)
    assert nothing == {"camera": 0.0, "geometry": 0.0, "appearance": 0.0, "unexplained": 1.0}
