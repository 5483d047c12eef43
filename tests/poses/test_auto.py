"""The default choice of the pose estimator."""

from dataclasses import replace

import pytest
import torch

from lift.geometry import rotation_angle
from lift.poses import poses
from lift.types import Depth, Frames
from tests.helpers.branches import NOISE
from tests.helpers.walls import Truth


def build(frames: Frames, multiview_consistent: bool):
    depth = Depth(frames.depth[0], frames.depth[0] > 0, "metric")
    return poses.build(
        {"name": "auto"},
        depth=depth,
        estimator=Truth(frames),
        multiview_consistent=multiview_consistent,
        device=torch.device("cpu"),
    )


def test_multiview_consistent_frames_keep_planned_cameras(case):
    trajectory, _, frames = case
    found = build(frames, multiview_consistent=True)(frames, trajectory)
    assert torch.equal(found.cameras.world_to_camera, trajectory.cameras.world_to_camera)


@pytest.mark.slow
def test_others_are_matched(case):
    trajectory, true_cameras, frames = case
    found = build(frames, multiview_consistent=False)(Frames(frames.images), trajectory)
    angle = rotation_angle(
        found.cameras.world_to_camera[:NOISE, :3, :3].double(),
        true_cameras.world_to_camera[:NOISE, :3, :3].double(),
    )
    assert angle.max() < 0.3


def test_frames_without_matches_keep_the_plan_with_a_warning(case, caplog):
    trajectory, _, frames = case
    black = Frames(frames.images * 0, frames.depth)
    found = build(frames, multiview_consistent=False)(black, trajectory)
    assert torch.equal(found.cameras.world_to_camera, trajectory.cameras.world_to_camera)
    assert "too little in common" in caplog.text and "the planned cameras are used" in caplog.text


def test_requests_never_stand_in_for_estimated_cameras(case):
    trajectory, _, frames = case
    black = Frames(frames.images * 0, frames.depth)
    requested = replace(trajectory, hint="requested").without_cameras()
    with pytest.raises(ValueError, match="too little in common"):
        build(frames, multiview_consistent=False)(black, requested)
