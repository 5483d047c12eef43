"""Ray-cast scenes as a dataset: rings of views with exact depth."""

import pytest
import torch

from lift.evaluation.datasets import datasets
from lift.synthetic.scenes import render


def test_ray_cast_views_lie_on_rings_and_see_no_wall(tmp_path):
    dataset = datasets.build(
        {"name": "ray_cast", "scenes": ["plain"], "size": [64, 48], "angles": [4.0, 9.0]}
    )
    assert dataset.scenes() == ["plain"]
    capture = dataset.capture("plain")
    assert (
        len(capture.cameras) == len(capture.views) == len(set(capture.views)) == 17
        and capture.metric
        and capture.points is None
    )
    ahead = capture.cameras.camera_to_world[:, :3, 2]
    turned = torch.rad2deg(torch.acos((ahead @ ahead[0]).clamp(-1, 1)))
    torch.testing.assert_close(
        turned, torch.tensor([0.0, *[4.0] * 8, *[9.0] * 8]), atol=0.1, rtol=0.01
    )
    camera = capture.inner_camera(9, 32)
    seen = capture.load_view(9, camera)
    assert (camera.width, camera.height) == (32, 24) and torch.equal(
        camera.world_to_camera, capture.cameras[9].world_to_camera
    )
    assert torch.equal(seen.depth, render("plain", capture.cameras[9].resized(32, 24)).depth)
    assert len(datasets.build({"name": "ray_cast"}).scenes()) == 4
    terrace = datasets.build({"name": "ray_cast", "size": [32, 32], "angles": [4.0, 16.0]}).capture(
        "terrace"
    )
    rings = [f"{angle} degrees, {22.5 + 45 * turn:g}" for angle in (4, 16) for turn in range(8)]
    below = ("16 degrees, 247.5", "16 degrees, 292.5")
    assert (
        list(terrace.views) == ["input", *(name for name in rings if name not in below)]
        and len(terrace.cameras) == 15
    ), "its floor is 12 degrees down"
    near = [float(terrace.load_view(k, terrace.cameras[k]).depth.median()) for k in range(15)]
    assert min(near) > 0.7 * near[0], "none has a wall before its eyes"
    wrong = {"scenes": ["attic"]}, {"angles": [95.0]}, {"size": [0, 4]}
    for settings, reason in zip(
        wrong,
        ("'attic'; choose among room", "95.0; choose", r"size\[0\] is 0; choose 1"),
        strict=True,
    ):
        with pytest.raises(ValueError, match=reason):
            datasets.build({"name": "ray_cast", **settings})
    with pytest.raises(ValueError, match="no scene 'room'; there are plain"):
        dataset.capture("room")
