"""The released paths, in the numbers that the generator gets."""

import pytest
import torch
from torch import Tensor

from lift.geometry import pinhole, rotation_angle
from lift.planners.liftimage3d import LiftImage3D
from lift.planners.motion_limit import limit_motion
from lift.priors import ClipRequest
from lift.priors.diffusion.clips import clip_path
from lift.priors.motionctrl import TYPICAL_DEPTH, flatten_poses
from lift.types import Cameras, Depth, Frames, Trajectory

CAMERA = pinhole(64, 48, 60.0)
DEPTH = Depth(torch.full((48, 64), 2.5), torch.ones(48, 64, dtype=torch.bool), "scale")
PLAN = LiftImage3D()(CAMERA, DEPTH, 15)
NAMES = [clip.name for clip in PLAN.clips]
LAST_TRANSLATIONS = {
    "right": (-6.5284, 0.0, 4.6182),
    "left": (6.5284, 0.0, 4.6182),
    "down": (0.0, -2.1, 0.0),
    "up": (0.0, 2.1, 0.0),
}
"""Translations of the released 3 x 4 matrices of frame 15, relative to frame 0, speed 1.6."""


def network_poses(plan: Trajectory, name: str) -> Tensor:
    """What MotionCtrl's network gets for a clip, [frame 3 4], the continued frame first."""
    clip = plan.clips[NAMES.index(name)]
    frames = Frames(torch.zeros(len(plan.cameras), 48, 64, 3, dtype=torch.uint8))
    path = clip_path(ClipRequest(frames, plan.cameras, clip, 0))
    return flatten_poses(path, TYPICAL_DEPTH * 1.6 / DEPTH.typical).unflatten(1, (3, 4))


@pytest.mark.parametrize("name", ["right", "left", "down", "up", "right/right", "up/left"])
def test_the_network_gets_the_released_numbers(name: str) -> None:
    poses = network_poses(PLAN, name)
    direction = name.split("/")[-1]
    expected = torch.tensor(LAST_TRANSLATIONS[direction])
    torch.testing.assert_close(poses[-1, :, 3], expected, atol=2e-4, rtol=0)
    assert poses[0].allclose(torch.eye(3, 4), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "frame", "row"),
    [
        ("right", 1, (0.9952, 0.0, 0.0980, -0.6430)),  # cos, sin of 5.625 degrees
        ("left", 1, (0.9952, 0.0, -0.0980, 0.6430)),
        ("down", 1, (1.0, 0.0, 0.0, 0.0)),
    ],
)
def test_the_first_rows_are_the_released_ones(
    name: str, frame: int, row: tuple[float, ...]
) -> None:
    torch.testing.assert_close(
        network_poses(PLAN, name)[frame, 0], torch.tensor(row), atol=1e-4, rtol=0
    )


def test_each_frame_turns_by_the_released_angle() -> None:
    for name, expected in (("left", 5.625), ("up", 0.0)):
        rotations = network_poses(PLAN, name)[:, :, :3]
        torch.testing.assert_close(
            rotation_angle(rotations[:-1], rotations[1:]),
            torch.full((15,), expected),
            atol=2e-2,
            rtol=0,
        )


@pytest.mark.parametrize(
    ("name", "axis", "sign"), [("right", 0, 1), ("left", 0, -1), ("down", 1, 1), ("up", 1, -1)]
)
def test_cameras_move_where_the_name_says(name: str, axis: int, sign: int) -> None:
    centers = PLAN.clips[NAMES.index(name)].cameras.centers[:, axis]
    assert bool((sign * centers > 0).all())
    assert bool(
        (sign * centers[:8].diff() > 0).all()
    )  # an orbit of more than 70 degrees turns back


def test_sixteen_clips_continue_the_last_frames_of_their_parents() -> None:
    assert NAMES[:4] == ["right", "left", "down", "up"] and len(set(NAMES)) == 16
    assert not {"right/left", "left/right", "up/down", "down/up"} & set(NAMES)
    last = {clip.name: span[-1] for clip, span in zip(PLAN.clips, PLAN.spans, strict=True)}
    assert all(clip.source == last.get(clip.name.rpartition("/")[0], 0) for clip in PLAN.clips)
    assert len(PLAN.cameras) == 241 and PLAN.hint == "requested"


def test_speed_and_unit_scale_the_translations_alone() -> None:
    for settings, factor in (({"speed": 3.2}, 2.0), ({"unit": 3.064}, 2.0)):
        plan = LiftImage3D(**settings)(CAMERA, DEPTH, 15)
        for ours, released in zip(plan.clips[:4], PLAN.clips[:4], strict=True):
            matrix, expected = (clip.cameras.world_to_camera for clip in (ours, released))
            assert matrix[:, :3, :3].allclose(expected[:, :3, :3])
            assert matrix[:, :3, 3].allclose(factor * expected[:, :3, 3], atol=1e-5)


def test_the_motion_limit_keeps_requests_without_a_note() -> None:
    plan, magnitude, notes = limit_motion(LiftImage3D(), CAMERA, DEPTH, 15, 0.01, "limit")
    assert magnitude == 1 and notes == ()
    assert plan.cameras.world_to_camera.equal(PLAN.cameras.world_to_camera)


@pytest.mark.parametrize(
    ("directions", "message"),
    [
        (("in",), r"planner.directions has 'in'; choose from right, left, down, up|choose from"),
        (("up", "up"), "choose one or more, each once"),
    ],
)
def test_wrong_directions_name_the_choices(directions: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LiftImage3D(directions=directions)


def test_too_large_a_tree_names_the_setting() -> None:
    planner = LiftImage3D(levels=5)
    with pytest.raises(ValueError, match="planner.levels is 5, which makes 484 clips of 300"):
        planner(CAMERA, DEPTH, 300)


def test_placeholders_keep_the_tree_and_no_cameras() -> None:
    bare = PLAN.without_cameras()
    assert bare.parents == PLAN.parents and bare.hint == "requested"
    cameras: Cameras = bare.cameras
    assert cameras.world_to_camera.equal(CAMERA.world_to_camera.expand(241, 4, 4))
