"""Smooth paths through keyframes, and their files."""

import numpy as np
import pytest
import torch

from lift.camera_paths import orbit_cameras
from lift.geometry import pinhole
from lift.io.cameras import read_cameras
from lift.outputs.viewer.keyframes import (
    Keyframe,
    camera_views,
    nearest,
    path_cameras,
    smooth_path,
    write_path,
)
from lift.outputs.viewer.poses import pose_of
from lift.planners.path import FilePath
from lift.types import Depth

CAMERA = pinhole(60, 40, 50.0)


def keyframes(*offsets: tuple[float, float, float]) -> list[Keyframe]:
    cameras = orbit_cameras(CAMERA, torch.tensor(offsets), 3.0)
    return [Keyframe(pose_of(cameras[k : k + 1], 3.0)) for k in range(len(cameras))]


OFFSETS = ((0.0, 0.0, 0.0), (10.0, 0.0, 0.0), (12.0, 8.0, 0.2), (-6.0, 4.0, 0.1))


def test_a_path_starts_and_ends_at_its_keyframes():
    frames = keyframes(*OFFSETS)
    path = smooth_path(frames, 30)
    assert len(path) == 30
    assert path[0].pose.is_close(frames[0].pose, 1e-6)
    assert path[-1].pose.is_close(frames[-1].pose, 1e-6)


def test_a_path_goes_through_all_keyframes():
    frames = keyframes(*OFFSETS)
    path = smooth_path(frames, 600)
    for frame in frames:
        assert any(view.pose.is_close(frame.pose, 5e-3) for view in path)


def test_the_speed_along_a_path_is_constant():
    positions = np.stack([view.pose.position for view in smooth_path(keyframes(*OFFSETS), 200)])
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    turns = np.abs(np.diff(steps)) / steps.mean()
    assert turns.max() < 0.1, "no jump of the speed"


def test_the_end_of_a_loop_leads_to_its_start():
    path = smooth_path(keyframes(*OFFSETS), 100, loop=True)
    positions = np.stack([view.pose.position for view in path])
    steps = np.linalg.norm(np.roll(positions, -1, axis=0) - positions, axis=1)
    assert steps[-1] == pytest.approx(steps.mean(), rel=0.3)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_equal_keyframes_give_a_path_at_rest(count):
    path = smooth_path(keyframes(*[OFFSETS[1]] * count), 5, loop=count == 3)
    assert len(path) == 5 and all(view.pose.is_close(path[0].pose) for view in path)


def test_a_doubled_keyframe_does_not_break_a_path():
    path = smooth_path(keyframes(OFFSETS[0], OFFSETS[1], OFFSETS[1], OFFSETS[2]), 50)
    assert np.isfinite(np.stack([view.pose.position for view in path])).all()


def test_zoom_is_interpolated():
    start, end = keyframes(*OFFSETS[:2])
    path = smooth_path([start, Keyframe(end.pose, 2.0)], 21)
    zooms = [view.zoom for view in path]
    assert zooms[0] == pytest.approx(1) and zooms[-1] == pytest.approx(2)
    assert zooms == sorted(zooms) and zooms[10] == pytest.approx(2**0.5, rel=0.02)


def test_the_file_of_a_path_is_read_with_its_field_of_view(tmp_path):
    start, end = keyframes(*OFFSETS[:2])
    cameras = path_cameras(smooth_path([start, Keyframe(end.pose, 2.0)], 8), CAMERA)
    path = write_path(tmp_path, "my path", cameras)
    again = read_cameras(path)
    assert path == tmp_path / "paths" / "my path.json"
    assert torch.allclose(again.world_to_camera, cameras.world_to_camera, atol=1e-5)
    assert float(again.intrinsics[-1, 0, 0]) == pytest.approx(100, rel=1e-5)
    assert (again.width, again.height) == (60, 40)


def test_the_planner_follows_a_recorded_path(tmp_path):
    frames = [Keyframe(pose_of(CAMERA, 3.0)), *keyframes(*OFFSETS[1:3])]
    cameras = path_cameras(smooth_path(frames, 9), CAMERA)
    planner = FilePath(write_path(tmp_path, "path", cameras), unit="scene")
    depth = Depth(torch.full((40, 60), 3.0), torch.ones(40, 60, dtype=torch.bool), "scale")
    planned = planner(CAMERA, depth, None).cameras
    assert torch.allclose(planned.world_to_camera, cameras.world_to_camera, atol=1e-4)


@pytest.mark.parametrize("name", ["../../evil", "", "/etc/passwd", ".hidden", "con", "a\0b"])
def test_a_name_cannot_leave_the_folder_of_paths(tmp_path, name):
    path = write_path(tmp_path / "run", name, CAMERA)
    assert path.parent == tmp_path / "run" / "paths" and path.suffix == ".json"
    assert [item.name for item in tmp_path.iterdir()] == ["run"]


def test_a_position_between_views_mixes_them():
    path = smooth_path(keyframes(*OFFSETS[:2]), 3)
    half = nearest(path, 0.5).pose
    assert half.is_close(path[0].pose.mix(path[1].pose, 0.5))
    assert nearest(path, 3.0).pose.is_close(path[0].pose), "the first follows the last"


def test_views_of_cameras_keep_poses_and_zooms():
    cameras = path_cameras([Keyframe(keyframes(*OFFSETS)[2].pose, 1.5)], CAMERA)
    view = camera_views(cameras, 3.0, 50.0)[0]
    assert view.zoom == pytest.approx(1.5)
    assert torch.allclose(
        path_cameras([view], CAMERA).world_to_camera, cameras.world_to_camera, atol=1e-6
    )
