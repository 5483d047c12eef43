"""Distortions of held-out frames are interpolated between their neighbours along the clip."""

import pytest
import torch

from lift.distortions import distortions
from lift.distortions.parameters.chain import PerFrame
from lift.distortions.parameters.neighbours import infer_held_out, neighbour_weights
from lift.geometry import pinhole
from lift.types import Cameras, Clip, Gaussians, PointCloud, Trajectory

START = pinhole(32, 24, 30.0)


def trajectory(*lengths: int) -> Trajectory:
    """Clips that each continue the input."""
    clips = [Clip(f"clip {n}", 0, Cameras.cat([START] * n)) for n in lengths]
    return Trajectory(START, tuple(clips))


def built(name: str, plan: Trajectory, **settings):
    points = PointCloud(torch.randn(50, 3) + torch.tensor([0.0, 0, 4]), torch.zeros(50, 3))
    return distortions.build(
        {"name": name, **settings},
        num_views=len(plan.cameras),
        extent=4.0,
        size=(32, 24),
        trajectory=plan,
        points=points,
    )


def test_weights_are_linear_between_fitted_neighbours():
    weights = neighbour_weights(trajectory(6), [2, 3, 6])
    assert weights[2].tolist() == pytest.approx([0, 2 / 3, 0, 0, 1 / 3, 0, 0])
    assert weights[3].tolist() == pytest.approx([0, 1 / 3, 0, 0, 2 / 3, 0, 0])
    assert weights[6].tolist() == [0, 0, 0, 0, 0, 1, 0]
    assert torch.equal(weights[4], torch.eye(7)[4])


def test_neighbours_do_not_cross_from_clip_to_clip():
    weights = neighbour_weights(trajectory(3, 3), [3, 4])
    assert weights[3].tolist() == [0, 0, 1, 0, 0, 0, 0]
    assert weights[4].tolist() == [0.5, 0, 0, 0, 0, 0.5, 0]


def test_the_input_cannot_be_held_out():
    with pytest.raises(ValueError, match="frame 0, the input"):
        neighbour_weights(trajectory(3), [0])


@pytest.mark.parametrize("chained", [True, False])
def test_numbers_of_a_held_out_frame_lie_between(chained):
    plan = trajectory(5)
    numbers = PerFrame(6, (2,), plan, chained)
    with torch.no_grad():
        numbers.values.copy_(torch.randn(6, 2))
    every = torch.arange(6)
    before = numbers(every).detach().clone()
    found = infer_held_out(torch.nn.ModuleList([numbers]), plan, [3])[0](every)
    torch.testing.assert_close(found[3], (before[2] + before[4]) / 2)
    kept = [0, 1, 2, 4, 5]
    torch.testing.assert_close(found[kept], before[kept])
    torch.testing.assert_close(numbers(every), before)


@pytest.mark.parametrize("name", ["field", "hexplane", "composed"])
def test_frames_that_were_fitted_stay_exactly(name):
    plan = trajectory(5)
    distortion = built(name, plan)
    with torch.no_grad():
        for parameter in distortion.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    inferred = infer_held_out(distortion, plan, [3])
    means = torch.randn(20, 3) + torch.tensor([0.0, 0, 4])
    quats = torch.nn.functional.normalize(torch.randn(20, 4), dim=-1)
    scene = Gaussians(
        means, quats, torch.full((20, 3), 0.1), torch.full((20,), 0.5), torch.zeros(20, 1, 3)
    )
    views = torch.tensor([0, 1, 2, 4, 5])
    cameras = plan.cameras
    before = distortion.gaussians(scene, views).means
    after = inferred.gaussians(scene, views).means
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        inferred.cameras(cameras[views], views).world_to_camera,
        distortion.cameras(cameras[views], views).world_to_camera,
        atol=1e-5,
        rtol=1e-5,
    )
    first = inferred.gaussians(scene, torch.tensor([0])).means.reshape(-1, 3)
    assert torch.equal(first, means), "the input shows the canonical scene"


def test_motion_of_a_field_is_the_mean_of_its_neighbours():
    plan = trajectory(5)
    distortion = built("field", plan)
    with torch.no_grad():
        for parameter in distortion.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    inferred = infer_held_out(distortion, plan, [3])
    means = torch.randn(20, 3) + torch.tensor([0.0, 0, 4])
    quats = torch.nn.functional.normalize(torch.randn(20, 4), dim=-1)
    scene = Gaussians(
        means, quats, torch.full((20, 3), 0.1), torch.full((20,), 0.5), torch.zeros(20, 1, 3)
    )
    moved = inferred.gaussians(scene, torch.tensor([2, 3, 4])).means
    torch.testing.assert_close(moved[1], (moved[0] + moved[2]) / 2, atol=1e-5, rtol=1e-5)
