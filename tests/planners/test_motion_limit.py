"""The share of unseen scene, where it can be known on paper, and motions shrunk to it."""

import pytest
import torch

from lift.geometry import pinhole, rigid, rotation_from_vector
from lift.planners import Planner
from lift.planners.articulated import Articulated
from lift.planners.dolly import Dolly
from lift.planners.motion_limit import SurfaceSamples, limit_motion, unseen_fraction
from lift.planners.single import Single
from lift.types import Cameras, Clip, Depth, Trajectory

CAMERA = pinhole(128, 64, 100.0)
WALL = Depth(torch.full((64, 128), 4.0), torch.ones(64, 128, dtype=torch.bool), "metric")


def moved(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Cameras:
    pose = rigid(torch.eye(3), -torch.tensor([x, y, z]))[None]
    return Cameras(pose, CAMERA.intrinsics, CAMERA.width, CAMERA.height)


def test_the_input_view_is_all_seen() -> None:
    assert float(unseen_fraction(CAMERA, WALL, CAMERA)) == 0


@pytest.mark.parametrize("shift", [-2.0, -0.5, 0.3, 1.0, 4.0, 8.0])
def test_a_wall_moves_out_of_the_picture(shift: float) -> None:
    known = min(1.0, abs(shift) * 100 / 4 / 128)
    assert float(unseen_fraction(CAMERA, WALL, moved(x=shift))) == pytest.approx(known, abs=0.012)


@pytest.mark.parametrize("step", [-4.0, -1.0, 1.0, 2.0])
def test_going_in_shows_nothing_new_and_going_out_a_border(step: float) -> None:
    known = 0.0 if step > 0 else 1 - (4 / (4 - step)) ** 2
    assert float(unseen_fraction(CAMERA, WALL, moved(z=step))) == pytest.approx(known, abs=0.03)


def test_a_turn_shows_a_border() -> None:
    turned = Cameras(
        rigid(rotation_from_vector(torch.tensor([0.0, 0.3, 0.0])), torch.zeros(3))[None],
        CAMERA.intrinsics,
        128,
        64,
    )
    # A turn moves column u to 64 + 100 tan(atan((u - 64) / 100) + 0.3).
    # The border rows lose a little, too.
    edge = 64 + 100 * torch.tan(torch.atan(torch.tensor(-0.64)) + 0.3)
    assert float(unseen_fraction(CAMERA, WALL, turned)) == pytest.approx(
        float(edge) / 128, abs=0.05
    )


def test_what_stands_in_front_hides_a_strip() -> None:
    depth = WALL.depth.clone()
    # A motion of 1 to the right shifts the object by 50 pixels and the wall by 25 pixels.
    # A strip of 25 pixels opens behind the object and another at the border.
    depth[:, 48:80] = 2.0
    both = unseen_fraction(CAMERA, Depth(depth, WALL.valid, "metric"), moved(x=0.8))
    wall = unseen_fraction(CAMERA, WALL, moved(x=0.8))
    assert float(both - wall) == pytest.approx(20 / 128, abs=0.02)


def test_gaps_in_the_depth_count_as_far_and_no_depth_is_an_error() -> None:
    valid = WALL.valid.clone()
    valid[:20] = False
    depth = Depth(WALL.depth.where(valid, torch.zeros(())), valid, "metric")
    assert torch.equal(
        unseen_fraction(CAMERA, depth, moved(x=1.0)), unseen_fraction(CAMERA, WALL, moved(x=1.0))
    )
    with pytest.raises(ValueError, match="no valid depth"):
        unseen_fraction(CAMERA, Depth(WALL.depth, torch.zeros_like(valid), "metric"), CAMERA)


def steps() -> Depth:
    """A picture of a wall with a nearer object and a gap in its depth."""
    depth = WALL.depth.clone()
    depth[20:50, 48:80] = 2.0
    valid = WALL.valid.clone()
    valid[:10] = False
    return Depth(depth, valid, "metric")


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("batch_size", [None, 1, 5, 1000])
def test_views_of_a_batch_are_measured_like_single_ones(device: str, batch_size: int) -> None:
    # The last views are behind the object and the wall.
    cameras = Cameras.cat(
        [
            Articulated(num_frames=3, angle=15.0)(CAMERA, WALL, None).cameras,
            moved(z=3.0),
            moved(z=6.0),
        ]
    )
    surface = SurfaceSamples.sample(CAMERA, steps(), device)
    batched = surface.unseen_fraction(cameras, batch_size)
    single = torch.cat([unseen_fraction(CAMERA, steps(), cameras[k]) for k in range(len(cameras))])
    assert batched.device.type == device
    # A pixel that is covered by exactly a half may round to either side on a GPU.
    assert torch.allclose(batched.cpu(), single, atol=0 if device == "cpu" else 0.002)


@pytest.mark.parametrize("device", DEVICES)
def test_a_limit_on_a_device_keeps_the_plan_on_the_cpu(device: str) -> None:
    planner = Articulated(num_frames=3, angle=15.0)
    plan, magnitude, notes = limit_motion(planner, CAMERA, steps(), None, 0.15, "limit", device)
    expected = limit_motion(planner, CAMERA, steps(), None, 0.15, "limit")
    assert plan.cameras.world_to_camera.device.type == "cpu"
    assert magnitude == pytest.approx(expected[1], abs=0.02)
    assert len(notes) == len(expected[2])


def test_limit_shrinks_just_enough() -> None:
    plan, magnitude, notes = limit_motion(
        Articulated(num_frames=3, angle=15.0), CAMERA, WALL, None, 0.15, "limit"
    )
    assert 0.1 < magnitude < 0.9
    assert 0.1 < float(unseen_fraction(CAMERA, WALL, plan.cameras).max()) <= 0.15
    assert (
        float(
            unseen_fraction(
                CAMERA,
                WALL,
                Articulated(num_frames=3, angle=15.0)(CAMERA, WALL, None, magnitude + 0.03).cameras,
            ).max()
        )
        > 0.15
    )
    assert (
        len(notes) == 1
        and "motion_limit.max_unseen=0.15" in notes[0]
        and f"{magnitude:.0%}" in notes[0]
    )


def test_limit_leaves_alone_what_fits() -> None:
    plan, magnitude, notes = limit_motion(Dolly(0.3), CAMERA, WALL, None, 0.2, "limit")
    assert (magnitude, notes) == (1.0, ())
    assert torch.equal(
        plan.cameras.world_to_camera, Dolly(0.3)(CAMERA, WALL, None).cameras.world_to_camera
    )


@pytest.mark.parametrize("on_exceed", ["warn", "ignore"])
def test_warn_and_ignore_keep_the_motion(on_exceed: str) -> None:
    plan, magnitude, notes = limit_motion(
        Single("left", angle=30.0), CAMERA, WALL, None, 0.1, on_exceed
    )
    assert magnitude == 1.0
    assert torch.equal(
        plan.cameras.world_to_camera,
        Single("left", angle=30.0)(CAMERA, WALL, None).cameras.world_to_camera,
    )
    assert [("kept" in note and "%" in note) for note in notes] == (
        [True] if on_exceed == "warn" else []
    )


class Fixed(Planner):
    """A planner that knows one motion only."""

    supports_magnitude = False

    def __call__(
        self, camera: Cameras, depth: Depth, clip_length: int | None, magnitude: float = 1.0
    ) -> Trajectory:
        return Trajectory(camera, (Clip("away", 0, moved(x=4.0)),))


def test_a_planner_that_does_not_scale_is_kept_with_a_note() -> None:
    plan, magnitude, notes = limit_motion(Fixed(), CAMERA, WALL, None, 0.1, "limit")
    assert magnitude == 1.0 and len(plan.clips) == 1
    assert "cannot be shrunk" in notes[0]
