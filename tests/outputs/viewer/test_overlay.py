"""What the Gaussians of a browser can show."""

from dataclasses import fields, replace
from types import SimpleNamespace

import pytest
import torch

from lift.distortions import Distortion
from lift.geometry import pinhole
from lift.outputs.viewer.content import file_content
from lift.outputs.viewer.overlay import DEPTH, DISPLACEMENT, Overlay, distorted
from lift.types import Clip, Gaussians, Trajectory
from tests.helpers.scenes import write_small_scene


class Shift(Distortion):
    """Moves the scene of frame k by k along x. It returns one set a view."""

    def gaussians(self, gaussians, view):
        shift = torch.stack([view.float(), 0 * view, 0 * view], dim=-1)
        many = {
            field.name: getattr(gaussians, field.name).expand(
                len(view), *getattr(gaussians, field.name).shape
            )
            for field in fields(gaussians)
        }
        return Gaussians(**{**many, "means": many["means"] + shift[:, None]})


def test_the_scene_is_shown_as_it_was_in_a_frame(tmp_path):
    gaussians = file_content(write_small_scene(tmp_path)).gaussians
    camera = pinhole(64, 48, 60.0)
    trajectory = Trajectory(camera, (Clip("right", 0, camera[[0, 0, 0]]),))
    run = SimpleNamespace(distortion=Shift(), trajectory=trajectory, held_out=())
    for frame in (0, 2):
        changed = distorted(run, gaussians, frame)
        assert torch.allclose(changed.means - gaussians.means, torch.tensor([frame, 0.0, 0.0]))
        assert changed.scales.shape == gaussians.scales.shape


@pytest.mark.parametrize("mode", [DEPTH, DISPLACEMENT])
def test_a_huge_scene_can_be_coloured(mode, tmp_path, quantile_limit):
    content = file_content(write_small_scene(tmp_path))
    assert len(content.gaussians) > quantile_limit
    camera = content.input_camera
    trajectory = Trajectory(camera, (Clip("right", 0, camera[[0, 0, 0]]),))
    run = SimpleNamespace(distortion=Shift(), trajectory=trajectory, held_out=())
    viewer = SimpleNamespace(content=replace(content, run=run), unit=1.0)
    overlay = Overlay(SimpleNamespace(viewer=viewer))
    overlay.frame = 2
    draw = overlay._depth if mode == DEPTH else overlay._distortion
    arrays, text = draw(content.gaussians)
    assert len(arrays["rgbs"]) == len(content.gaussians) and text
