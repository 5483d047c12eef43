"""Incremental mapping: its start, registration of frames and triangulation."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lift.geometry import rotation_angle
from lift.poses.sfm import initialization
from lift.poses.sfm.initialization import InitializationError
from lift.poses.sfm.mapper import IncrementalMapper
from lift.poses.sfm.registration import incremental_mapping, triangulate
from tests.helpers.observations import FOCAL, observed_scene


@pytest.mark.parametrize("guess", [1.0, 1.25])
def test_registration_needs_no_plan(guess):
    truth, seen, _ = observed_scene(wrong=0.15)
    found = incremental_mapping(
        seen, truth.log_focal + np.log(guess), truth.principal_point, max_error=4.0
    )
    scene = found.state
    assert bool(scene.registered.all())
    turns = [s.rotation @ s.rotation[0].T for s in (scene, truth)]
    assert float(rotation_angle(*turns).max()) < 0.2
    assert float((scene.log_focal.exp() / FOCAL - 1).abs().max()) < 0.01
    good = found.inliers
    assert float(scene.reproject(seen)[1][good].norm(dim=-1).max()) < 4.0


def test_frame_without_matches_is_not_registered():
    truth, seen, _ = observed_scene(wrong=0.0)
    alien = seen.frame == 7
    seen.pixel[alien] = 600 * torch.rand(
        int(alien.sum()), 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    found = incremental_mapping(seen, truth.log_focal, truth.principal_point, max_error=4.0).state
    assert not bool(found.registered[7]) and int(found.registered.sum()) == 11


def test_frames_from_one_spot_begin_with_the_depth_of_the_input():
    truth, seen, _ = observed_scene(wrong=0.0, aside=0.0)
    with pytest.raises(InitializationError):
        incremental_mapping(seen, truth.log_focal, truth.principal_point, max_error=4.0)
    local, _ = truth.reproject(seen)
    found = incremental_mapping(
        seen,
        truth.log_focal,
        truth.principal_point,
        4.0,
        "fixed",
        depth=local[:, 2] * (seen.frame == 0),
    ).state
    assert (
        bool(found.registered.all())
        and float(rotation_angle(found.rotation, truth.rotation).max()) < 0.1
    )


@pytest.mark.parametrize("seed", range(4))
def test_frame_registered_and_lost_again_does_not_loop(seed, monkeypatch):
    from lift.poses.sfm import mapper

    _, seen, _ = observed_scene(frames=3, points=100, shown=0.9, wrong=0.0, noise=0.4, seed=1)
    own = (seen.frame == 2).nonzero()[:, 0]
    kept = torch.cat([(seen.frame < 2).nonzero()[:, 0], own[:25]])
    pixel = seen.pixel.clone()
    pixel[own[:25]] += 4 * torch.randn(
        25, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    rounds, once = [], mapper.IncrementalMapper.register_next_frames
    monkeypatch.setattr(
        mapper.IncrementalMapper,
        "register_next_frames",
        lambda growth: rounds.append(1) or once(growth),
    )
    some = replace(seen, pixel=pixel)[kept]
    incremental_mapping(
        some,
        torch.full((3,), FOCAL, dtype=torch.float64).log(),
        torch.full((3, 2), 300.0, dtype=torch.float64),
        4.0,
        "fixed",
    )
    assert len(rounds) < 20


def test_known_cameras_stay_and_their_points_are_triangulated():
    truth, seen, bad = observed_scene(wrong=0.0)
    found = triangulate(
        seen,
        truth.rotation,
        truth.translation,
        truth.log_focal,
        truth.principal_point,
        max_error=4.0,
    )
    assert found.state.rotation.equal(truth.rotation)
    assert bool(found.state.registered.all())
    shown = seen.point[found.inliers].unique()
    assert len(shown) > 0.9 * len(truth.points)
    error = (found.state.points[shown] - truth.points[shown]).norm(dim=-1)
    assert float(error.median()) < 0.05


def test_second_initial_pair_is_tried_if_the_first_fails(monkeypatch):
    truth, seen, _ = observed_scene()
    tries = []
    run = IncrementalMapper.run

    def stuck_at_first(mapper):
        tries.append(mapper)
        found = run(mapper)
        if len(tries) == 1:
            mask = torch.zeros_like(found.state.registered)
            mask[1:3] = True
            found = replace(found, state=replace(found.state, registered=mask))
        return found

    monkeypatch.setattr(IncrementalMapper, "run", stuck_at_first)
    found = incremental_mapping(seen, truth.log_focal, truth.principal_point, 4.0, "fixed")
    assert len(tries) == 2
    assert bool(found.state.registered.all())


def test_next_initial_pair_has_an_unregistered_frame():
    truth, seen, _ = observed_scene(frames=16, points=600, wrong=0.0)
    rare = (seen.frame >= 12) & (seen.point >= 200)
    seen = seen[~rare]  # the last frames show fewer points than all pairs that are tried first
    mapper = IncrementalMapper(seen, truth.log_focal, truth.principal_point, 4.0, "fixed", 0.2, 0.1)
    mapper.initialize_from_pair(covered=torch.arange(16) < 12)
    assert bool(mapper.state.registered[12:].any())


def test_a_scene_without_the_input_gives_way_to_a_start_with_it(monkeypatch):
    truth, seen, _ = observed_scene()
    run = IncrementalMapper.run
    starts = []

    def without_the_input(mapper):
        starts.append(mapper.state.registered.nonzero()[:, 0].tolist())
        found = run(mapper)
        if 0 in starts[-1]:
            return found
        mask = torch.ones_like(found.state.registered)
        mask[0] = False
        return replace(found, state=replace(found.state, registered=mask))

    def only_pairs_of_the_input(state, observations, max_error, covered, member):
        pairs = candidates(state, observations, max_error, covered, member)
        return [pair for pair in pairs if (0 in pair) == (member == 0)]

    candidates = initialization.candidate_pairs
    monkeypatch.setattr(initialization, "candidate_pairs", only_pairs_of_the_input)
    monkeypatch.setattr(IncrementalMapper, "run", without_the_input)
    found = incremental_mapping(seen, truth.log_focal, truth.principal_point, 4.0, "fixed")
    assert 0 in starts[-1]
    assert bool(found.state.registered.all())
