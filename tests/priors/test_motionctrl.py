"""MotionCtrl on a tiny network of the real classes: its camera conditions."""

import dataclasses
import math

import pytest
import torch

from lift.camera_paths import orbit_cameras
from lift.geometry import rigid, rotation_from_vector
from lift.priors import ClipRequest, priors
from lift.priors.diffusion.clips import clip_path
from lift.types import Cameras
from tests.helpers.clips import CPU, build_motionctrl, scene, sideways

pytest.importorskip("diffusers")


def tumbling(count: int) -> Cameras:
    """A path that turns and moves about all axes."""
    _, camera, _ = scene()
    share = torch.linspace(1 / count, 1, count)[:, None]
    world = rigid(
        rotation_from_vector(share * torch.tensor([0.2, -0.5, 0.1])),
        share * torch.tensor([0.3, -0.2, 0.7]),
    )
    return Cameras(world, camera.intrinsics.repeat(count, 1, 1), camera.width, camera.height)


def request(cameras: Cameras) -> ClipRequest:
    frames, camera, _ = scene()
    return ClipRequest(
        frames, camera, dataclasses.replace(sideways(camera, len(cameras)), cameras=cameras), 3
    )


@pytest.mark.parametrize("speed", [1.6, 0.5])
def test_pose_condition_is_the_path(motionctrl_folder, speed):
    _, _, depth = scene()
    wanted = [clip_path(request(tumbling(4))), clip_path(request(sideways(scene()[1], 4).cameras))]
    conditions = build_motionctrl(motionctrl_folder, speed=speed, frames=5).path_condition(
        wanted, 2
    )["cameras"]
    assert conditions.shape == (4, 5, 12) and torch.equal(conditions[:2], conditions[2:]), (
        "the same with the picture and without it"
    )
    for rows, cameras in zip(conditions[:2].unflatten(-1, (3, 4)), wanted, strict=True):
        torch.testing.assert_close(rows[0], torch.eye(3, 4), atol=1e-6, rtol=0)
        back = rigid(rows[..., :3], rows[..., 3] * depth.typical / (3.83 * speed))
        torch.testing.assert_close(back, cameras.world_to_camera, atol=1e-5, rtol=0)


def test_an_orbit_to_the_right_is_the_authors_example_of_one(motionctrl_folder):
    """Round-RI_90 at LiftImage3D's speed ends with this rotation and translation.

    Its multiplied axes make the translation slightly oval.
    """
    _, camera, depth = scene()
    turns = torch.arange(1, 16)[:, None] * torch.tensor([5.625, 0.0, 0.0])
    prior = build_motionctrl(motionctrl_folder, frames=16)
    last = prior.path_condition(
        [clip_path(request(orbit_cameras(camera, turns, depth.typical)))], 1
    )["cameras"][0, -1].unflatten(0, (3, 4))
    torch.testing.assert_close(
        last[:, :3],
        torch.tensor([[0.0980, 0.0, 0.9952], [0.0, 1.0, 0.0], [-0.9952, 0.0, 0.0980]]),
        atol=1e-3,
        rtol=0,
    )
    authors = torch.tensor([-6.5284, 0.0, 4.6182])
    assert float((last[:, 3] - authors).norm() / authors.norm()) < 0.2


def test_network_conditions_match_the_method(motionctrl_folder):
    frames, camera, depth = scene()
    prior = build_motionctrl(motionctrl_folder, batch_size=2)
    seen = []
    prior.pipe.unet.register_forward_pre_hook(
        lambda part, positional, named: seen.append(named), with_kwargs=True
    )
    one, other = request(tumbling(2)), ClipRequest(frames, camera, sideways(camera, 2), 3)
    prior.generate_batch([one, other])
    assert torch.equal(
        seen[0]["added_time_ids"], torch.tensor([[10.0, 100.0, 0.1]]).repeat(4, 1)
    ), "10 frames a second"
    assert torch.equal(
        seen[0]["cameras"], prior.path_condition([clip_path(one), clip_path(other)], 2)["cameras"]
    )
    as_published = priors.build({"name": "motionctrl"}, depth=depth, device=CPU, estimator=None)
    assert (
        as_published.frames,
        as_published.num_inference_steps,
        as_published.guidance_scale,
        as_published.warp_guidance,
    ) == (
        16,
        50,
        (1.0, 2.5),
        "none",
    )


@pytest.mark.slow
def test_faster_and_drawn_videos_are_others(motionctrl_folder):
    one, pipe = request(tumbling(2)), build_motionctrl(motionctrl_folder).pipe
    made = []
    for settings in ({}, {"speed": 8.0}, {"warp_guidance": "warp", "warp_error": 0.0}):
        prior = build_motionctrl(motionctrl_folder, **settings)
        prior.__dict__["pipe"] = pipe
        made.append(prior(one.frames, one.cameras, one.clip, one.seed).images)
    assert not torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


def test_a_speed_that_is_none_is_refused(motionctrl_folder):
    for speed in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"prior.speed is {speed}; choose 1e-06 to"):
            build_motionctrl(motionctrl_folder, speed=speed)
