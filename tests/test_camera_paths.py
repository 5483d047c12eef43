"""Building blocks of camera paths."""

import torch

from lift.camera_paths import opposite, orbit_cameras, scale_motion
from lift.geometry import pinhole, rigid, rotation_from_vector
from lift.types import Cameras

CAMERA = pinhole(64, 48, 60.0)


def test_a_fraction_of_an_orbit_is_a_smaller_orbit() -> None:
    offsets = torch.tensor([[80.0, 0.0, 0.0], [-40.0, 0.0, 0.0], [0.0, 60.0, 0.0]])
    moved = scale_motion(CAMERA, orbit_cameras(CAMERA, offsets, 3.0), 0.25)
    expected = orbit_cameras(CAMERA, 0.25 * offsets, 3.0)
    torch.testing.assert_close(moved.world_to_camera, expected.world_to_camera, atol=1e-5, rtol=0)


def test_the_whole_motion_returns_the_cameras() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(20, 3, generator=generator)
    poses = rigid(
        rotation_from_vector(vectors / vectors.norm(dim=-1, keepdim=True) * 3),
        torch.randn(20, 3, generator=generator),
    )
    start = Cameras(poses[:1], CAMERA.intrinsics, 64, 48)
    cameras = Cameras(poses, CAMERA.intrinsics.repeat(20, 1, 1), 64, 48)
    moved = scale_motion(start, cameras, 1.0)
    torch.testing.assert_close(moved.world_to_camera, poses, atol=1e-5, rtol=0)


def test_a_translation_is_shortened() -> None:
    poses = torch.eye(4).repeat(1, 1, 1)
    poses[0, :3, 3] = torch.tensor([1.0, -2.0, 3.0])
    moved = scale_motion(CAMERA, Cameras(poses, CAMERA.intrinsics, 64, 48), 0.5)
    torch.testing.assert_close(moved.world_to_camera[0, :3, 3], 0.5 * poses[0, :3, 3])


def test_opposite_directions_undo_each_other() -> None:
    assert [opposite(name) for name in ("left", "up", "in")] == ["right", "down", "out"]
