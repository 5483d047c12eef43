"""Alignment of found cameras with the plan, and the focal length."""

import pytest
import torch

from lift.poses import resolve_focal
from lift.poses.sfm.alignment import (
    Correspondences,
    RegistrationOptions,
    adjust_with_focal,
    align_to_plan,
    explains_better,
)
from lift.poses.sfm.registration import incremental_mapping
from lift.types import Cameras, Clip, Depth, Trajectory
from tests.helpers.observations import FOCAL, observed_scene


def test_the_plan_gives_place_scale_and_what_was_not_seen():
    """Cameras are in the plan's world, with the input's camera exact and the input depth's scale.

    A frame without matches keeps its planned motion from the frame before it.
    """
    truth, seen, _ = observed_scene(frames=6, wrong=0.0, noise=0.1)
    seen = seen[seen.frame != 4]
    start = Cameras(
        torch.eye(4)[None],
        torch.tensor([[FOCAL, 0, 300], [0, FOCAL, 300], [0, 0, 1.0]])[None],
        600,
        600,
    )
    start.world_to_camera[0, :3, 3] = torch.tensor([0.3, -0.2, 0.1])
    poses = start.map(lambda value: value.expand(5, *value.shape[1:]).clone())
    poses.world_to_camera[:, 0, 3] += torch.arange(1, 6) * 0.5
    trajectory = Trajectory(start, (Clip("right", 0, poses),))
    depth = torch.zeros(600, 600)
    own = seen.frame == 0
    local, _ = truth.reproject(seen[own])
    column, row = seen.pixel[own].long().clamp(0, 599).unbind(-1)
    depth[row, column] = 1.7 * local[:, 2].float()
    found = align_to_plan(
        Correspondences(seen),
        trajectory,
        Depth(depth, depth > 0, "metric"),
        RegistrationOptions(max_error=4.0, focal="fixed", plan_weight=0.0),
    )
    assert found.cameras.world_to_camera[0].equal(start.world_to_camera[0])
    assert found.registered.tolist() == [True, True, True, True, False, True]
    apart = (found.cameras.centers[1] - found.cameras.centers[0]).norm()
    assert float(apart) == pytest.approx(
        1.7 * float((truth.centers[1] - truth.centers[0]).norm()), rel=0.02
    )
    beside = found.cameras.world_to_camera[4] @ torch.linalg.inv(found.cameras.world_to_camera[3])
    torch.testing.assert_close(
        beside,
        poses.world_to_camera[3] @ torch.linalg.inv(poses.world_to_camera[2]),
        atol=1e-5,
        rtol=1e-5,
    )


def test_frames_from_one_spot_keep_the_lens_with_one_warning(caplog):
    truth, seen, _ = observed_scene(frames=6, wrong=0.0, aside=0.0)
    lens = torch.tensor([[FOCAL, 0, 300], [0, FOCAL, 300], [0, 0, 1.0]])[None]
    start = Cameras(torch.eye(4)[None], lens, 600, 600)
    same = start.map(lambda value: value.expand(5, *value.shape[1:]).clone())
    trajectory = Trajectory(start, (Clip("frames", 0, same),), "sequence")
    depth = torch.zeros(600, 600)
    own = seen.frame == 0
    column, row = seen.pixel[own].long().clamp(0, 599).unbind(-1)
    depth[row, column] = truth.reproject(seen[own])[0][:, 2].float()
    found = align_to_plan(
        Correspondences(seen),
        trajectory,
        Depth(depth, depth > 0, "metric"),
        RegistrationOptions(max_error=4.0, focal="shared", plan_weight=0.0),
    )
    assert bool(found.registered.all())
    torch.testing.assert_close(found.cameras.intrinsics, trajectory.cameras.intrinsics)
    assert len(caplog.records) == 1 and "move too little" in caplog.text


@pytest.mark.slow
def test_unobservable_focal_length_is_not_estimated():
    truth, seen, _ = observed_scene(wrong=0.0, aside=0.6)
    off = truth.log_focal + 0.3
    found = incremental_mapping(seen, off, truth.principal_point, 4.0, "shared")
    assert explains_better(found, adjust_with_focal(found, seen, off), seen), (
        "here the focal length is observable"
    )
    same = incremental_mapping(seen, truth.log_focal, truth.principal_point, 4.0, "shared")
    fixed = adjust_with_focal(same, seen, truth.log_focal)
    assert not explains_better(same, fixed, seen), "nothing is gained"


@pytest.mark.parametrize(
    ("focal", "known", "expected"),
    [
        ("auto", True, "fixed"),
        ("auto", False, "shared"),
        ("per_frame", True, "per_frame"),
        ("fixed", False, "fixed"),
    ],
)
def test_auto_estimates_a_focal_length_that_is_only_assumed(focal, known, expected):
    assert resolve_focal(focal, known) == expected
