"""Films move as far as views stay covered, in the film's own frame, and say if that is little."""

from dataclasses import replace

import pytest
import torch

from lift.camera_paths import orbit_cameras
from lift.geometry import pinhole, rotation_angle
from lift.outputs.films.options import FilmOptions
from lift.outputs.films.plan import plan_film, resample_loop
from lift.types import Cameras
from tests.helpers.coverage import CoveredWithin

CAMERA = pinhole(60, 40, 60.0)


def loop(count: int, angle: float = 10.0) -> Cameras:
    """A swing about the subject that starts at the input view."""
    phase = torch.arange(count) * 2 * torch.pi / count
    zero = torch.zeros(count)
    return orbit_cameras(CAMERA, torch.stack([angle * phase.sin(), zero, zero], -1), 4.0)


def plan(measure: CoveredWithin, **options):
    options = {"seconds": 1.0, "fps": 24} | options
    return plan_film(FilmOptions(**options), CAMERA, loop(16), measure, 4.0)


def azimuths(cameras: Cameras) -> torch.Tensor:
    offset = cameras.centers - torch.tensor([0.0, 0.0, 4.0])
    return torch.atan2(offset[:, 0], -offset[:, 2]).rad2deg()


def test_a_covered_scene_gets_the_usual_motion_and_no_note():
    film = plan(CoveredWithin(), preset="swing")
    assert float(azimuths(film.cameras).max()) == pytest.approx(12, abs=0.3)
    assert film.note is None and len(film.cameras) == 24


def test_a_motion_ends_where_coverage_ends():
    measure = CoveredWithin(right=6.0, left=9.0)
    film = plan(measure, preset="swing")
    assert float(azimuths(film.cameras).max()) < 6 and float(azimuths(film.cameras).min()) > -9
    assert bool(measure(film.cameras).all())
    assert film.note is not None and "of the usual one" in film.note
    assert "degrees to the left" in film.note


def test_the_film_is_measured_in_its_own_frame():
    measure = CoveredWithin()
    plan(measure, preset="orbit", aspect="9:16", size=64)
    assert {(cameras.width, cameras.height) for cameras in measure.measured} == {(64, 114)}


def test_holes_at_the_border_shrink_the_motion():
    class HolesBeyond(CoveredWithin):
        def surface(self, camera: Cameras) -> tuple[torch.Tensor, torch.Tensor]:
            depth, opaque = super().surface(camera)
            opaque[..., :2] = float(azimuths(camera)[0]) < 8.0
            return depth, opaque

    film = plan(HolesBeyond(), preset="swing")
    assert 3 < float(azimuths(film.cameras).max()) < 8


def test_motion_is_a_fraction_of_the_usual_one():
    film = plan(CoveredWithin(), preset="swing", motion=0.25)
    assert float(azimuths(film.cameras).max()) == pytest.approx(3, abs=0.1)
    assert film.note is None, "it was chosen, not shrunk"


def test_a_larger_motion_ends_where_coverage_ends():
    film = plan(CoveredWithin(right=18.0), preset="swing", motion=3.0)
    assert 15 < float(azimuths(film.cameras).max()) < 18 and film.note is None


def test_a_zoom_does_not_move_the_camera():
    film = plan(CoveredWithin(right=0.1, left=0.1, up=0.1), preset="zoom")
    assert float(film.cameras.centers.abs().max()) < 1e-5
    focal = film.cameras.intrinsics[:, 0, 0]
    assert float(focal.max() / focal.min()) == pytest.approx(1.5, abs=0.01) and film.note is None


def test_a_zoom_keeps_the_centre_of_a_cut_film():
    film = plan(CoveredWithin(), preset="zoom", aspect="1:1")
    points = film.cameras.intrinsics[:, :2, 2]
    assert torch.allclose(points, points[:1].expand_as(points), atol=1e-4)


def test_the_fly_through_of_the_run_is_kept():
    film = plan(CoveredWithin(), preset="fly-through", seconds=1.0, fps=16)
    assert torch.equal(film.cameras.world_to_camera, loop(16).world_to_camera)


def test_a_cut_fly_through_shrinks_to_what_is_covered():
    film = plan(CoveredWithin(right=5.0, left=5.0), preset="fly-through", aspect="1:1")
    assert 3 < float(azimuths(film.cameras).abs().max()) < 5
    assert film.note is not None and film.note.startswith("the motion of fly-through is")


def test_resampled_loops_close_and_pass_the_views():
    dense = resample_loop(loop(16), 48)
    assert torch.allclose(dense.world_to_camera[::3], loop(16).world_to_camera, atol=1e-5)
    rotation = dense.world_to_camera[:, :3, :3]
    steps = rotation_angle(rotation, rotation.roll(-1, 0))
    assert float(steps[-1]) == pytest.approx(float(steps[0]), rel=0.2)
    truth = loop(48)
    assert float((dense.centers - truth.centers).norm(dim=-1).max()) < 0.01


def test_resampling_ignores_the_sign_of_quaternions():
    around = loop(16)
    turn = torch.eye(4)
    turn[:2, :2] = -torch.eye(2)  # half a turn about z, where quaternions change their sign
    turned = replace(around, world_to_camera=turn @ around.world_to_camera)
    dense = resample_loop(turned, 32)
    expected = turn @ resample_loop(around, 32).world_to_camera
    assert torch.allclose(dense.world_to_camera, expected, atol=1e-5)
