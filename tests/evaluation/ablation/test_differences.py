"""Paired differences and their errors."""

import math

import numpy as np
import pytest

from lift.evaluation.ablation.differences import measures_by_pair, paired_difference
from tests.helpers.evaluations import task_rows

BASE = {(scene, seed): 20.0 for scene in "ab" for seed in (0, 1, 2)}


def test_error_counts_the_spread_of_scenes_and_of_seeds():
    by_seed = {(scene, seed): 20.0 + 3 * seed for scene, seed in BASE}
    difference = paired_difference(by_seed, BASE)
    assert (difference.mean, difference.pairs, difference.scenes, difference.seeds) == (3, 6, 2, 3)
    assert difference.error == pytest.approx(3 / math.sqrt(3))
    by_scene = {(scene, seed): 20.0 + (scene == "b") for scene, seed in BASE}
    assert paired_difference(by_scene, BASE).error == pytest.approx(0.5)


def test_error_is_about_the_true_one_for_random_scenes_and_seeds():
    rng = np.random.default_rng(0)
    means = []
    errors = []
    for _ in range(400):
        scenes = rng.normal(0, 1.0, 6)
        seeds = rng.normal(0, 0.5, 4)
        values = {
            (str(s), k): 1 + scenes[s] + seeds[k] + rng.normal(0, 0.3)
            for s in range(6)
            for k in range(4)
        }
        difference = paired_difference(values, dict.fromkeys(values, 0.0))
        means.append(difference.mean)
        errors.append(difference.error)
    assert np.mean(means) == pytest.approx(1, abs=0.1)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(means), rel=0.1)


def test_only_common_pairs_with_values_count():
    values = {("a", 0): 21.0, ("a", 1): None, ("c", 0): 90.0}
    difference = paired_difference(values, BASE)
    assert (difference.mean, difference.error, difference.pairs) == (1.0, None, 1)
    assert paired_difference({("c", 0): 21.0}, BASE) is None


def test_measures_are_averaged_over_views_by_scene_and_seed():
    means = measures_by_pair(task_rows({("a", 0): 20.0, ("b", 3): 22.0}))
    assert {pair: mean["psnr"] for pair, mean in means.items()} == {("a", 0): 20, ("b", 3): 22}
