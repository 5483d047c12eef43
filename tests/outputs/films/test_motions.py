"""Every motion is a closed loop within its amplitude."""

import pytest
import torch

from lift.config.film_schema import FILM_PRESETS
from lift.geometry import rotation_angle
from lift.outputs.films.motions import Amplitude, Motion, describe_extent, move
from lift.outputs.view_region import ViewRegion

PRESETS = [preset for preset in FILM_PRESETS if preset != "fly-through"]
AMPLITUDE = Amplitude((-12.0, 20.0), (-4.0, 7.0), 0.3)
REGION = ViewRegion((0.0, 0.0, 4.0), 4.0, (-8.0, 50.0), (-3.0, 30.0), (3.6, 5.0), 0.9)


def rows(motion: Motion) -> torch.Tensor:
    """Positions in comparable units."""
    return torch.stack(
        [motion.azimuth / 20, motion.elevation / 20, motion.distance, motion.focal], dim=-1
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_the_last_view_leads_to_the_first(preset):
    values = rows(move(preset, 48, AMPLITUDE, 1.0))
    steps = (values.roll(-1, 0) - values).norm(dim=-1)
    change = (steps.roll(-1) - steps).abs()
    assert float(steps.max()) > 0, "it moves"
    # The seam is the step from the last view to the first: no longer and no more sudden.
    assert float(steps[-1]) <= float(steps[:-1].max()) + 1e-9
    assert float(change[-2:].max()) <= float(change[:-2].max()) + 1e-9


@pytest.mark.parametrize("preset", PRESETS)
def test_motions_stay_within_the_amplitude(preset):
    motion = move(preset, 60, AMPLITUDE, 1.0)
    assert float(motion.azimuth.min()) >= -12 - 1e-6 and float(motion.azimuth.max()) <= 20 + 1e-6
    assert float(motion.elevation.min()) >= -4 - 1e-6 and float(motion.elevation.max()) <= 7 + 1e-6
    assert float(motion.distance.min()) >= 0.7 - 1e-6


@pytest.mark.parametrize("preset", PRESETS)
def test_a_factor_of_zero_leaves_the_input_view(preset):
    motion = move(preset, 12, AMPLITUDE, 0.0)
    expected = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    assert torch.allclose(rows(motion), expected.expand(12, 4), atol=1e-9)


@pytest.mark.parametrize("preset", ["swing", "spiral", "dolly", "zoom", "dolly-zoom"])
def test_loops_start_at_the_input_view(preset):
    first = rows(move(preset, 24, AMPLITUDE, 1.0))[0]
    assert torch.allclose(first, torch.tensor([0.0, 0.0, 1.0, 1.0]).double(), atol=1e-6)


def test_a_dolly_zoom_keeps_the_size_of_the_subject():
    motion = move("dolly-zoom", 24, AMPLITUDE, 1.0)
    size = motion.focal / motion.distance
    assert torch.allclose(size, torch.ones_like(size)) and float(motion.distance.max()) > 1.3


def test_an_orbit_never_stands_still():
    values = rows(move("orbit", 48, AMPLITUDE, 1.0))
    steps = (values.roll(-1, 0) - values).norm(dim=-1)
    assert float(steps.min()) > 0.2 * float(steps.max())


def test_the_region_limits_each_direction_by_itself():
    amplitude = Amplitude.within(REGION, 1.0)
    assert amplitude.azimuth == (-8.0, 12.0) and amplitude.elevation == (-3.0, 4.0)
    assert amplitude.approach == pytest.approx(0.1)
    assert Amplitude.within(REGION, 0.25).azimuth == (-3.0, 3.0)


def test_the_cameras_of_a_loop_turn_smoothly():
    motion = move("orbit", 48, AMPLITUDE, 1.0)
    from lift.geometry import pinhole

    cameras = REGION.cameras(
        pinhole(32, 24, 32.0), motion.azimuth, motion.elevation, 4 * motion.distance
    )
    rotation = cameras.world_to_camera[:, :3, :3]
    angles = rotation_angle(rotation, rotation.roll(-1, 0))
    assert float(angles[-1]) == pytest.approx(float(angles[0]), rel=0.2)
    assert float(angles.max()) < 3


def test_extents_are_said_in_words():
    assert describe_extent("orbit", AMPLITUDE, 0.5) == "6 degrees to the left and 10 to the right"
    assert describe_extent("dolly", AMPLITUDE, 1.0) == "30 % of the way to the subject"
