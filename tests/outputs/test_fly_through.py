"""The fly-through starts at the input, stays among the cameras, shrinks if need be."""

import pytest
import torch

from lift.geometry import look_at, pinhole, rotation_angle
from lift.outputs.contact_sheet import GAP, contact_sheet
from lift.outputs.fly_through import BISECTIONS, MEASURED_VIEWS, frame_times, make_fly_through
from lift.types import Cameras, Clip, Trajectory

FOCUS = torch.tensor([0.0, 0.0, 4.0])
START = pinhole(32, 24, 30.0)


def cameras_at(centers: torch.Tensor) -> Cameras:
    """Cameras that look at a common point."""
    count = len(centers)
    pose = look_at(centers, FOCUS.expand(count, 3), torch.tensor([0.0, 1.0, 0.0]).expand(count, 3))
    return Cameras(pose, START.intrinsics.expand(count, 3, 3).clone(), 32, 24)


def line(count: int, reach: float, axis: int = 0) -> torch.Tensor:
    centers = torch.zeros(count, 3)
    centers[:, axis] = torch.linspace(0, reach, count)
    return centers


def everywhere(cameras: Cameras) -> torch.Tensor:
    return torch.ones(len(cameras))


def largest_step(path: Cameras) -> float:
    closed = torch.cat([path.centers, path.centers[:1]])
    return float((closed[1:] - closed[:-1]).norm(dim=-1).max())


RING = torch.stack(
    [
        torch.cos(torch.arange(12) * 0.5236) - 1,
        torch.sin(torch.arange(12) * 0.5236),
        torch.zeros(12),
    ],
    dim=-1,
)
CROSS = torch.cat([line(5, 0.5), line(5, -0.5), line(5, 0.3, 1), line(5, -0.3, 1)])


@pytest.mark.parametrize(
    ("centers", "times"),
    [
        (line(20, 1.0), None),
        (line(20, 1.0, axis=2), None),
        (line(20, 1.0), list(range(20))),
        (RING, None),
        (CROSS, None),
        (CROSS[[0, 4, 9, 14]], None),
    ],
    ids=["slide", "dolly", "video", "ring", "cross", "few photos"],
)
def test_the_path_is_a_smooth_loop_among_the_cameras(centers, times):
    cameras = cameras_at(centers)
    path = make_fly_through(cameras, times, 4.0, 72, everywhere).cameras
    assert (
        len(path) == 72
        and (path.world_to_camera[0] - cameras.world_to_camera[0]).abs().max() < 1e-5
    )
    low = centers.amin(0) - 0.1 * (centers.amax(0) - centers.amin(0)) - 1e-4
    high = centers.amax(0) + 0.1 * (centers.amax(0) - centers.amin(0)) + 1e-4
    assert (path.centers >= low).all() and (path.centers <= high).all(), (
        "it leaves the frames' cameras"
    )
    extent = float((centers.amax(0) - centers.amin(0)).max())
    assert (
        float(
            path.centers[:, centers.std(0).argmax()].max()
            - path.centers[:, centers.std(0).argmax()].min()
        )
        > 0.5 * extent
    )
    assert largest_step(path) < 0.12 * extent
    to_focus = (FOCUS - path.centers) / (FOCUS - path.centers).norm(dim=-1, keepdim=True)
    assert (to_focus * path.world_to_camera[:, 2, :3]).sum(-1).min() > 0.995, (
        "it looks where the frames looked"
    )


def test_the_path_does_not_depend_on_the_world():
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0]
    world = torch.eye(4)
    world[:3, :3] = turn * torch.linalg.det(turn)
    world[:3, 3] = torch.tensor([3.0, -2.0, 1.0])
    cameras = cameras_at(CROSS)
    moved = Cameras(cameras.world_to_camera @ torch.linalg.inv(world), cameras.intrinsics, 32, 24)
    here = make_fly_through(cameras, None, 4.0, 12, everywhere).cameras
    there = make_fly_through(moved, None, 4.0, 12, everywhere).cameras
    assert (there.world_to_camera @ world - here.world_to_camera).abs().max() < 1e-4


def test_jitter_of_a_video_is_smoothed():
    rng = torch.Generator().manual_seed(0)
    centers = line(60, 2.0)
    shaken = centers + 0.03 * torch.randn(60, 3, generator=rng)
    shaken[0] = 0
    path = make_fly_through(cameras_at(shaken), list(range(60)), 4.0, 120, everywhere).cameras

    def bend(x: torch.Tensor) -> float:
        return float((x[2:] - 2 * x[1:-1] + x[:-2]).norm(dim=-1).mean())

    assert bend(path.centers) < 0.05 * bend(shaken)


def test_a_pan_turns_and_stays_in_place():
    angles = torch.linspace(0, 0.5, 15)
    target = torch.stack([angles.sin(), torch.zeros(15), angles.cos()], dim=-1)
    pose = look_at(torch.zeros(15, 3), target, torch.tensor([0.0, 1.0, 0.0]).expand(15, 3))
    pan = Cameras(pose, START.intrinsics.expand(15, 3, 3).clone(), 32, 24)
    path = make_fly_through(pan, None, 4.0, 24, everywhere).cameras
    turned = rotation_angle(
        path.world_to_camera[:1, :3, :3].expand(24, 3, 3), path.world_to_camera[:, :3, :3]
    )
    assert path.centers.abs().max() < 1e-5 and 18 < float(turned.max()) < 28.7


@pytest.mark.parametrize("times", [None, [0.0] * 5])
def test_frames_that_do_not_move_make_a_path_that_does_not(times):
    still = START[[0] * 5]
    path = make_fly_through(still, times, 4.0, 8, everywhere).cameras
    assert (path.world_to_camera - START.world_to_camera).abs().max() < 1e-5
    assert len(make_fly_through(START, None, 4.0, 8, everywhere).cameras) == 8


@pytest.mark.parametrize(
    ("centers", "times"), [(line(20, 1.0), list(range(20))), (CROSS, None)], ids=["video", "cross"]
)
def test_motion_shrinks_until_views_are_covered(centers, times):
    calls = []

    def near_the_input(views: Cameras) -> torch.Tensor:
        calls.append(len(views))
        return (views.centers.norm(dim=-1) < 0.2).float() * 0.8

    whole = make_fly_through(cameras_at(centers), times, 4.0, 32, everywhere)
    flight = make_fly_through(cameras_at(centers), times, 4.0, 32, near_the_input)
    assert 0 < flight.scale < 1 and float(flight.coverage.min()) == pytest.approx(0.8)
    assert (
        0.1
        < float(flight.cameras.centers.norm(dim=-1).max())
        < 0.21
        < float(whole.cameras.centers.norm(dim=-1).max())
    )
    most = 1 + (BISECTIONS + 1) * MEASURED_VIEWS
    assert sum(calls) < 0.6 * most, "a path is given up at its first view that is not covered"
    assert whole.scale == 1 and whole.coverage.tolist() == [1.0] * 16


def test_a_scene_seen_from_the_input_alone_is_shown_from_there():
    def input_alone(views: Cameras) -> torch.Tensor:
        return (views.centers.norm(dim=-1) < 1e-4).float()

    flight = make_fly_through(cameras_at(line(20, 1.0)), None, 4.0, 16, input_alone)
    assert flight.scale == 0 and flight.cameras.centers.abs().max() < 1e-5


def test_only_a_video_has_times():
    def clips(*parts: tuple[int, int]) -> tuple[Clip, ...]:
        return tuple(
            Clip(str(number), source, START[[0] * count])
            for number, (source, count) in enumerate(parts)
        )

    assert frame_times(Trajectory(START, clips((0, 3)), "sequence")) == [0, 1, 2, 3]
    assert frame_times(Trajectory(START, clips((0, 2), (2, 2)), "sequence")) == [0, 1, 2, 3, 4]
    assert frame_times(Trajectory(START, clips((0, 2), (0, 2)), "sequence")) == [0, 1, 2, -1, -2]
    assert frame_times(Trajectory(START, clips((0, 2), (0, 2), (0, 2)), "sequence")) is None
    assert frame_times(Trajectory(START, clips((0, 3)), "unordered")) is None


def test_a_contact_sheet_holds_pictures_in_reading_order():
    pictures = [torch.full((6, 8, 3), 10 * number, dtype=torch.uint8) for number in range(5)]
    sheet = contact_sheet(pictures, columns=3)
    assert sheet.shape == (12 + GAP, 24 + 2 * GAP, 3)
    assert sheet[0, 0, 0] == 0 and sheet[0, 8 + GAP, 0] == 10 and sheet[6 + GAP, 0, 0] == 30
    assert sheet[6, 0, 0] == 255 and sheet[-1, -1, 0] == 255
