import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lift.geometry import (
    align_similarity,
    inside,
    look_at,
    pinhole,
    project,
    quat_to_rotation,
    rigid,
    rotation_angle,
    rotation_from_vector,
    rotation_to_quat,
    transform_cameras,
    unproject,
)
from lift.types import Cameras

seeds = st.integers(0, 2**31 - 1)


def random_cameras(seed: int, count: int = 3, width: int = 12, height: int = 8) -> Cameras:
    rng = torch.Generator().manual_seed(seed)
    rotation = rotation_from_vector(torch.randn(count, 3, generator=rng, dtype=torch.double))
    intrinsics = pinhole(width, height, 10.0).intrinsics.double().expand(count, 3, 3).clone()
    intrinsics[:, :2, 2] += torch.randn(count, 2, generator=rng)
    return Cameras(
        rigid(rotation, torch.randn(count, 3, generator=rng, dtype=torch.double)),
        intrinsics,
        width,
        height,
    )


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_quaternions_and_rotations_are_inverse(seed):
    quats = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    rotation = quat_to_rotation(quats)
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).double().expand(5, 3, 3))
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(5).double())
    torch.testing.assert_close(quat_to_rotation(rotation_to_quat(rotation)), rotation)


@pytest.mark.parametrize("axis", [(1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)])
def test_half_turns_have_a_quaternion(axis):
    rotation = rotation_from_vector(math.pi * torch.tensor(axis, dtype=torch.double))
    torch.testing.assert_close(quat_to_rotation(rotation_to_quat(rotation)), rotation)


@given(seeds, st.floats(0, 3.1))
@settings(max_examples=30, deadline=None)
def test_rotation_vector_turns_by_its_length(seed, angle):
    axis = torch.nn.functional.normalize(
        torch.randn(3, generator=torch.Generator().manual_seed(seed), dtype=torch.double), dim=0
    )
    rotation = rotation_from_vector(axis * angle)
    assert float(rotation_angle(torch.eye(3).double(), rotation)) == pytest.approx(
        math.degrees(angle), abs=1e-5
    )
    torch.testing.assert_close(rotation @ axis, axis)


def test_rotation_vector_is_smooth_at_zero():
    assert torch.autograd.gradcheck(
        rotation_from_vector, torch.zeros(2, 3, dtype=torch.double, requires_grad=True)
    )


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_unproject_then_project_is_the_identity(seed):
    cameras = random_cameras(seed)
    depth = (
        torch.rand(3, 8, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
        + 0.5
    )
    for view in range(3):
        pixels, z = project(unproject(depth, cameras)[view].reshape(-1, 3), cameras[view])
        torch.testing.assert_close(z.reshape(8, 12), depth[view])
        torch.testing.assert_close(
            pixels.reshape(8, 12, 2)[2, 5], torch.tensor([5.5, 2.5]).double()
        )
        assert inside(pixels, cameras).all()


def test_points_behind_the_camera_have_no_pixel():
    pixels, depth = project(torch.tensor([[0.0, 0.0, -1.0]]), pinhole(4, 4, 4.0))
    assert (
        pixels.isnan().all() and float(depth) == -1 and not inside(pixels, pinhole(4, 4, 4.0)).any()
    )


def test_look_at_puts_the_target_in_the_middle_and_down_below():
    eye, target, down = (
        torch.tensor([1.0, 2.0, 3.0]),
        torch.tensor([0.0, 0.0, 9.0]),
        torch.tensor([0.0, 1.0, 0.0]),
    )
    cameras = Cameras(look_at(eye, target, down)[None], pinhole(10, 10, 10.0).intrinsics, 10, 10)
    torch.testing.assert_close(cameras.centers[0], eye)
    torch.testing.assert_close(project(target[None], cameras)[0][0, 0], torch.tensor([5.0, 5.0]))
    assert project((target + down)[None], cameras)[0][0, 0, 1] > 5


@given(seeds, st.floats(0.1, 10))
@settings(max_examples=30, deadline=None)
def test_similarity_is_recovered(seed, scale):
    rng = torch.Generator().manual_seed(seed)
    source = torch.randn(6, 3, generator=rng, dtype=torch.double)
    rotation = rotation_from_vector(torch.randn(3, generator=rng, dtype=torch.double))
    translation = torch.randn(3, generator=rng, dtype=torch.double)
    found = align_similarity(source, scale * source @ rotation.T + translation)
    assert found[0] == pytest.approx(scale)
    torch.testing.assert_close(found[1], rotation)
    torch.testing.assert_close(found[2], translation)


def test_similarity_is_never_a_reflection():
    source = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    _, rotation, _ = align_similarity(source, source * torch.tensor([1.0, 1.0, -1.0]).double())
    assert float(torch.linalg.det(rotation)) == pytest.approx(1)


@pytest.mark.parametrize("points", [torch.zeros(2, 3), torch.arange(5.0)[:, None] * torch.ones(3)])
def test_similarity_refuses_what_has_no_answer(points):
    with pytest.raises(ValueError, match="similarity needs"):
        align_similarity(points, points)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_a_moved_world_looks_the_same(seed):
    cameras, rng = random_cameras(seed), torch.Generator().manual_seed(seed + 1)
    points = torch.randn(7, 3, generator=rng, dtype=torch.double)
    rotation = rotation_from_vector(torch.randn(3, generator=rng, dtype=torch.double))
    translation = torch.randn(3, generator=rng, dtype=torch.double)
    before, depth = project(points, cameras)
    after, scaled = project(
        2.5 * points @ rotation.T + translation,
        transform_cameras(cameras, 2.5, rotation, translation),
    )
    torch.testing.assert_close(after, before, equal_nan=True)
    torch.testing.assert_close(scaled, 2.5 * depth)
