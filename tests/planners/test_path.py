"""A path from a file starts at the input view and has the requested unit."""

import math

import pytest
import torch

from lift.geometry import look_at, pinhole, rotation_angle, transform_cameras
from lift.io.cameras import read_cameras
from lift.io.nerfstudio import write_transforms
from lift.planners import planners
from lift.types import Cameras, Depth

CAMERA = pinhole(64, 48, 50.0)
DEPTH = Depth(torch.full((48, 64), 4.0), torch.ones(48, 64, dtype=torch.bool), "scale")


@pytest.fixture
def file(tmp_path):
    """Seven cameras on an arc, of another size, lens and world. They zoom in by half."""
    angle = torch.linspace(0, 0.6, 7)
    eyes = torch.stack([angle.sin() * 3, -0.2 * angle, 3 - angle.cos() * 3], -1)
    views = look_at(
        eyes, torch.tensor([0.0, 0.0, 3.0]).expand(7, 3), torch.tensor([0.0, 1.0, 0.0]).expand(7, 3)
    )
    lens = torch.tensor([[300.0, 0, 330], [0, 300, 170], [0, 0, 1]]).repeat(7, 1, 1)
    lens[:, :2, :2] *= torch.linspace(1, 1.5, 7)[:, None, None]
    lens[:, 0, 2] += torch.linspace(0, 30, 7)
    turned = transform_cameras(
        Cameras(views, lens, 640, 360), 2.0, views[3, :3, :3], torch.tensor([5.0, 1, -2])
    )
    write_transforms(tmp_path / "path.json", turned, [""] * 7)
    return tmp_path / "path.json"


def plan(file, clip_length=None, **settings):
    return planners.build({"name": "path", "path": str(file), **settings})(
        CAMERA, DEPTH, clip_length
    )


def test_starts_at_the_input_and_keeps_the_shape(file):
    trajectory = plan(file, unit="scene")
    assert len(trajectory.clips) == 1 and len(trajectory.cameras) == 7
    assert torch.equal(trajectory.start.world_to_camera, CAMERA.world_to_camera)
    # what the path does seen from its first camera: relative motions agree
    theirs = read_cameras(file)
    expected = theirs.world_to_camera @ torch.linalg.inv(theirs.world_to_camera[0])
    torch.testing.assert_close(trajectory.cameras.world_to_camera, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(trajectory.cameras.intrinsics, CAMERA.intrinsics.expand(7, 3, 3))


def test_units(file):
    far = plan(file, unit="scene").cameras.centers[-1].norm()
    assert float(plan(file, scale=0.5).cameras.centers[-1].norm()) == pytest.approx(
        0.5 * 4 * float(far), rel=1e-5
    )
    assert float(
        plan(file, unit="extent", scale=0.25).cameras.centers.norm(dim=-1).max()
    ) == pytest.approx(1.0, rel=1e-5)


def test_clips_follow_one_another(file):
    trajectory = plan(file, clip_length=3)
    assert [(clip.source, len(clip.cameras)) for clip in trajectory.clips] == [(0, 3), (3, 3)]
    assert torch.equal(trajectory.cameras.world_to_camera, plan(file).cameras.world_to_camera)
    rounded = plan(
        file, clip_length=4
    )  # six new frames do not make clips of four: eight, over the same way
    assert [len(clip.cameras) for clip in rounded.clips] == [4, 4]
    torch.testing.assert_close(rounded.cameras.centers[-1], trajectory.cameras.centers[-1])
    with pytest.raises(ValueError, match="planner.num_frames is 5, but the prior makes clips of 3"):
        plan(file, clip_length=3, num_frames=5)


def test_interpolates_evenly(file):
    """Twice as many frames pass through the file's cameras, and halve the turns between them."""
    coarse, fine = plan(file).cameras, plan(file, total_frames=12).cameras
    torch.testing.assert_close(
        fine.world_to_camera[::2], coarse.world_to_camera, atol=1e-5, rtol=1e-5
    )
    turns = rotation_angle(
        fine.world_to_camera[1:, :3, :3].double(), fine.world_to_camera[:-1, :3, :3].double()
    )
    assert turns[0::2] == pytest.approx(turns[1::2], rel=1e-3) and turns.min() > 1


def test_zoom_of_the_file(file):
    lens = plan(file, intrinsics="file").cameras.intrinsics
    assert torch.equal(lens[0], CAMERA.intrinsics[0])
    assert float(lens[-1, 0, 0]) == pytest.approx(75, rel=1e-5)
    assert float(lens[-1, 0, 2]) == pytest.approx(32 + 30 * 50 / 300, rel=1e-5) and float(
        lens[-1, 1, 2]
    ) == pytest.approx(24)


def test_camera_that_only_turns(tmp_path):
    views = look_at(
        torch.zeros(3, 3),
        torch.tensor([[0.0, 0, 1], [0.1, 0, 1], [0.2, 0, 1]]),
        torch.tensor([0.0, 1, 0]).expand(3, 3),
    )
    write_transforms(
        tmp_path / "a.json", Cameras(views, CAMERA.intrinsics.expand(3, 3, 3), 64, 48), [""] * 3
    )
    cameras = plan(tmp_path / "a.json", unit="extent").cameras
    assert cameras.centers.abs().max() < 1e-6
    angle = rotation_angle(cameras.world_to_camera[0, :3, :3], cameras.world_to_camera[2, :3, :3])
    assert float(angle) == pytest.approx(math.degrees(math.atan(0.2)), rel=1e-4)


def test_real_path(shared):
    """A trajectory of a hand-held camera goes over into the input's world without bending."""
    theirs = read_cameras(shared / "data" / "llff_fern" / "cameras.npz")
    ours = plan(
        shared / "data" / "llff_fern" / "cameras.npz", unit="extent", scale=0.3, clip_length=19
    ).cameras
    distances = [torch.pdist(cameras.centers.double()) for cameras in (theirs, ours)]
    ratio = distances[1] / distances[0]
    assert float(ratio.max() / ratio.min()) == pytest.approx(1, abs=1e-3)
    assert float(ours.centers.norm(dim=-1).max()) == pytest.approx(1.2, rel=1e-4)


def test_refusals(file, tmp_path):
    with pytest.raises(ValueError, match="planner.path is not set"):
        planners.build({"name": "path", "path": "???"})
    with pytest.raises(FileNotFoundError, match="no camera file"):
        plan(tmp_path / "missing.npz")
    with pytest.raises(ValueError, match="planner.scale is 0"):
        plan(file, scale=0.0)
    with pytest.raises(
        ValueError, match="planner.unit is 'inch'; choose one of typical_depth, scene, extent"
    ):
        plan(file, unit="inch")
    write_transforms(tmp_path / "one.json", CAMERA, [""])
    with pytest.raises(ValueError, match="a single camera"):
        plan(tmp_path / "one.json")
