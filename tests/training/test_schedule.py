"""Schedules of a fit."""

import pytest

from lift.training.schedule import depth_ratio, sh_degree, stage_progress, stage_start
from tests.helpers.fits import settings


def test_schedules_start_anew_after_the_canonical_stage():
    how = settings(steps=100, canonical_steps=20)
    assert [stage_start(how, step) for step in (0, 19, 20, 99)] == [0, 0, 20, 20]
    assert [stage_progress(how, step) for step in (0, 10, 20, 60)] == [0, 0.5, 0, 0.5]
    assert [stage_progress(how, step, 200) for step in (10, 60)] == [0.05, 0.2]
    assert stage_progress(how, 60, 10) == 1, "a schedule that is over stays at its end"


def test_without_a_canonical_stage_progress_is_that_of_the_fit():
    how = settings(steps=300)
    assert all(stage_progress(how, step) == step / 300 for step in range(300))


def test_degrees_are_added_one_by_one():
    how = settings(sh_degree_interval=10)
    assert [sh_degree(how, step) for step in (1, 9, 10, 25)] == [0, 0, 1, 2]
    assert sh_degree(settings(), 1) is None


def test_the_weight_of_depth_decays_log_linearly():
    how = settings(steps=100, loss={"depth": 5e-4, "depth_final": 1e-6, "depth_steps": 50})
    ratios = [depth_ratio(how, step) for step in (0, 25, 50, 90)]
    assert ratios == pytest.approx([1, 0.002**0.5, 0.002, 0.002])
    assert depth_ratio(settings(steps=100), 50) == 1
