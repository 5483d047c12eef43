"""Cameras from what frames have in common, whatever found it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lift.geometry import look_at, pinhole, rotation_angle, rotation_from_vector
from lift.planners.articulated import Articulated
from lift.poses import resolve_focal
from lift.poses.sfm import initialization, normal_equations
from lift.poses.sfm.alignment import adjust_with_focal, align_to_plan, explains_better
from lift.poses.sfm.bundle import Residuals, adjust, apply_step
from lift.poses.sfm.initialization import InitializationError
from lift.poses.sfm.mapper import IncrementalMapper
from lift.poses.sfm.normal_equations import BlockPattern, NormalEquations
from lift.poses.sfm.pairs import matching_pairs, parent_frames, planned_pairs, view_overlap
from lift.poses.sfm.reconstruction import match_support
from lift.poses.sfm.registration import incremental_mapping, triangulate
from lift.poses.sfm.state import Observations, PosePrior, SfmState
from lift.poses.sfm.tracks import Matches, build_tracks, thin_observations
from lift.poses.sfm.verification import inconsistent_pairs, sampson_error
from lift.types import Cameras, Clip, Depth, Trajectory

FOCAL = 500.0


def world(
    frames: int = 12,
    points: int = 400,
    shown: float = 0.5,
    noise: float = 0.3,
    wrong: float = 0.1,
    aside: float = 0.6,
    seed: int = 0,
):
    """A scene, what its frames show of it, and which observations are wrong."""
    g = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    at = normal(points, 3) + torch.tensor([0.0, 0.0, 6.0], dtype=torch.float64)
    rotation, centers = rotation_from_vector(0.1 * normal(frames, 3)), aside * normal(frames, 3)
    rotation[0], centers[0] = torch.eye(3), 0
    scene = SfmState(
        rotation,
        -(rotation @ centers[..., None])[..., 0],
        torch.full((frames,), FOCAL, dtype=torch.float64).log(),
        torch.full((frames, 2), 300.0, dtype=torch.float64),
        torch.zeros(frames, dtype=torch.float64),
        at,
        torch.ones(frames, dtype=torch.bool),
    )
    frame, point = (torch.rand(frames, points, generator=g) < shown).nonzero().unbind(-1)
    seen = Observations(
        frame,
        point,
        torch.zeros(len(frame), 2, dtype=torch.float64),
        torch.ones(len(frame), dtype=torch.float64),
    )
    _, pixel = scene.reproject(seen)
    bad = torch.rand(len(frame), generator=g) < wrong
    pixel = pixel + noise * normal(len(frame), 2) + bad[:, None] * 60 * normal(len(frame), 2)
    return scene, replace(seen, pixel=pixel), bad


def shaken(scene: SfmState, turn: float = 0.02, shift: float = 0.05) -> SfmState:
    g = torch.Generator().manual_seed(1)
    normal = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    away = torch.ones(len(scene.rotation), 1, dtype=torch.float64)
    away[0] = 0
    return replace(
        scene,
        rotation=rotation_from_vector(turn * away * normal(len(away), 3)) @ scene.rotation,
        translation=scene.translation + shift * away * normal(len(away), 3),
        points=scene.points + shift * normal(*scene.points.shape),
    )


def first(frames: int) -> torch.Tensor:
    return torch.arange(frames) == 0


def test_bundle_adjustment_is_robust_to_outliers():
    truth, seen, bad = world()
    start = replace(shaken(truth), log_focal=truth.log_focal + 0.1)
    found = adjust(start, seen, first(12), "shared", steps=40)
    assert found.rotation[0].equal(truth.rotation[0]) and found.translation[0].equal(
        truth.translation[0]
    ), "the first stays at rest"
    assert float(rotation_angle(found.rotation, truth.rotation).max()) < 0.1
    assert found.log_focal.unique().numel() == 1 or float(found.log_focal.std()) < 1e-9, (
        "one for all"
    )
    assert float((found.log_focal[0].exp() / FOCAL - 1).abs()) < 0.005
    _, error = found.reproject(seen)
    assert (
        float(error[~bad].norm(dim=-1).median()) < 0.5
        and float(error[bad].norm(dim=-1).median()) > 10
    )
    kept = adjust(start, seen, first(12), "fixed", steps=10)
    assert kept.log_focal.equal(start.log_focal)


def test_a_focal_length_a_frame_is_found_where_each_has_its_own():
    truth, seen, _ = world(wrong=0.0, noise=0.05)
    zoomed = replace(
        truth, log_focal=truth.log_focal + 0.1 * torch.sin(torch.arange(12.0, dtype=torch.float64))
    )
    _, moved = zoomed.reproject(replace(seen, pixel=torch.zeros_like(seen.pixel)))
    found = adjust(
        shaken(truth), replace(seen, pixel=moved), first(12), "each", sigma=0.2, steps=60
    )
    # Lengths, positions and depths can still be scaled together along the axis; ratios cannot.
    off = found.log_focal - zoomed.log_focal
    assert float((off - off.mean()).abs().max()) < 0.02


def test_adjustment_solves_what_a_dense_solver_solves():
    """One damped step of the sparse system equals numpy's dense least squares.

    The scale is free.
    """
    truth, seen, _ = world(frames=4, points=30, wrong=0.0)
    start = shaken(truth, 0.001, 0.002)
    order = (seen.frame * 30 + seen.point).argsort()
    seen = seen[order]
    free = torch.ones(4, 8, dtype=torch.float64)
    free[0, :6] = 0
    free[:, 6:] = 0
    residuals = Residuals(seen, 1.0, 0.0, None, start.log_focal, 0.0, free)
    pattern = BlockPattern(seen.frame, seen.point, 4, 30)
    system = NormalEquations(residuals.linearize(start), pattern, False)
    cameras, points = system.solve(0.05)

    def residual(step):
        cameras, points = torch.zeros(4, 8, dtype=torch.float64), step[18:].view(30, 3)
        cameras = torch.cat(
            [
                cameras[:1],
                torch.cat([step[:18].view(3, 6), torch.zeros(3, 2, dtype=torch.float64)], 1),
            ]
        )
        return residuals.evaluate(apply_step(start, cameras, points))[1].flatten()

    zero = torch.zeros(108, dtype=torch.float64)
    matrix, error = torch.autograd.functional.jacobian(residual, zero), residual(zero)
    sqrt_weights = (
        (1 / (1 + error.view(-1, 3)[:, :2].square().sum(-1)))[:, None]
        .expand(-1, 3)
        .flatten()
        .sqrt()
    )
    left, right = sqrt_weights[:, None] * matrix, -sqrt_weights * error
    normal = left.T @ left
    normal = normal + 0.05 * torch.diag(normal.diagonal())
    best = np.linalg.lstsq(normal.numpy(), (left.T @ right).numpy(), rcond=None)[0]
    torch.testing.assert_close(
        cameras[1:, :6].flatten(), torch.from_numpy(best[:18]), rtol=0.02, atol=2e-5
    )
    torch.testing.assert_close(points.flatten(), torch.from_numpy(best[18:]), rtol=0.02, atol=2e-4)


@pytest.mark.parametrize("focal", ["fixed", "shared", "each"])
def test_few_and_many_frames_are_adjusted_alike(focal, monkeypatch):
    truth, seen, _ = world()
    start = shaken(truth)
    few = adjust(start, seen, first(12), focal, focal_prior_sigma=0.2, steps=40)
    monkeypatch.setattr(normal_equations, "MAX_DENSE_FRAMES", 0)
    many = adjust(start, seen, first(12), focal, focal_prior_sigma=0.2, steps=40)
    assert float(rotation_angle(few.rotation, many.rotation).max()) < 0.02
    torch.testing.assert_close(few.log_focal, many.log_focal, rtol=0, atol=1e-3)


def test_a_plan_that_is_believed_holds_what_pixels_do_not():
    truth, seen, _ = world(shown=0.02, points=200, wrong=0.0)  # a handful of points a frame
    start = shaken(truth)
    weak = adjust(start, seen, first(12), steps=30)
    held = adjust(
        start,
        seen,
        first(12),
        prior=PosePrior(truth.rotation, truth.translation, 1e-3, 1e-3),
        steps=30,
    )
    apart = [
        float(rotation_angle(scene.rotation, truth.rotation)[1:].median()) for scene in (weak, held)
    ]
    assert apart[1] < 0.2 * apart[0]


def test_measured_depth_fixes_the_scale_that_pixels_leave_open():
    truth, seen, _ = world(wrong=0.0)
    local, _ = truth.reproject(seen)
    scales = torch.linspace(-0.3, 0.3, 12, dtype=torch.float64)
    seen = replace(seen, log_depth=local[:, 2].log() - scales[seen.frame])
    seen.log_depth[::3] = torch.nan
    doubled = replace(truth, points=2 * truth.points, translation=2 * truth.translation)
    found = adjust(doubled, seen, first(12), depth_sigma=0.05, steps=30)
    spread = (found.log_scale - scales) - (found.log_scale - scales).mean()
    assert float(spread.abs().max()) < 0.02, "of each frame up to what all have in common"


@pytest.mark.parametrize("guess", [1.0, 1.25])
def test_registration_needs_no_plan(guess):
    truth, seen, _ = world(wrong=0.15)
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
    truth, seen, _ = world(wrong=0.0)
    alien = seen.frame == 7
    seen.pixel[alien] = 600 * torch.rand(
        int(alien.sum()), 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    found = incremental_mapping(seen, truth.log_focal, truth.principal_point, max_error=4.0).state
    assert not bool(found.registered[7]) and int(found.registered.sum()) == 11


def test_frames_from_one_spot_begin_with_the_depth_of_the_input():
    truth, seen, _ = world(wrong=0.0, aside=0.0)
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


def test_chains_show_a_frame_once_and_the_surest_first():
    keypoints = [torch.rand(3, 2) * 100 for _ in range(3)]
    pairs = [
        Matches(0, 1, torch.tensor([[0, 0], [1, 1]]), torch.tensor([0.9, 0.8])),
        Matches(1, 2, torch.tensor([[0, 0], [1, 1]]), torch.tensor([0.9, 0.8])),
        Matches(
            0, 2, torch.tensor([[0, 1], [2, 2]]), torch.tensor([0.5, 0.7])
        ),  # the first would bring two points of a frame together
    ]
    seen = build_tracks(keypoints, pairs)
    chains = sorted(
        tuple(sorted(seen.frame[seen.point == p].tolist())) for p in seen.point.unique()
    )
    assert chains == [(0, 1, 2), (0, 1, 2), (0, 2)]
    for point in seen.point.unique():
        own = seen.frame[seen.point == point]
        assert len(own) == len(own.unique())
    assert len(build_tracks(keypoints, [])) == 0


def test_thinning_leaves_each_frame_what_it_needs():
    _, seen, _ = world(points=2000)
    few = thin_observations(seen, 50)
    assert len(few) < 0.4 * len(seen)
    assert int(torch.bincount(few.frame, minlength=12).min()) >= 50
    before = torch.bincount(seen.point).double().mean()
    assert float(torch.bincount(few.point).double().mean()) > float(before), "the longest stay"


def test_sampson_measures_pixels():
    truth, seen, _ = world(frames=2, shown=1.1, noise=0.0, wrong=0.0)
    lens = torch.tensor([[FOCAL, 0, 300.0], [0, FOCAL, 300], [0, 0, 1]], dtype=torch.float64)
    a, b = seen.pixel[seen.frame == 0], seen.pixel[seen.frame == 1]
    moved = truth.translation[1] - truth.rotation[1] @ truth.rotation[0].T @ truth.translation[0]
    essential = torch.linalg.cross(
        moved[:, None].expand(3, 3), truth.rotation[1] @ truth.rotation[0].T, dim=0
    )
    matrix = torch.linalg.inv(lens).T @ essential @ torch.linalg.inv(lens)
    assert float(sampson_error(a, b, matrix).max()) < 1e-6
    line = torch.nn.functional.normalize(
        (torch.cat([a, torch.ones_like(a[:, :1])], -1) @ matrix.T)[:, :2], dim=-1
    )
    off = sampson_error(a, b + 3 * line, matrix)
    assert 1.5 < float(off.median()) < 3.01, (
        "3 pixels off its line in one picture, shared between both"
    )


def test_pairs_that_agree_with_nothing_are_reported():
    truth, seen, _ = world(frames=3, shown=1.1, noise=0.2, wrong=0.0)
    keypoints = [seen.pixel[seen.frame == frame] for frame in range(3)]
    every = torch.arange(400)
    right = Matches(0, 1, torch.stack([every, every], -1), torch.ones(400))
    wrong = Matches(1, 2, torch.stack([every, every.roll(7)], -1), torch.ones(400))
    assert inconsistent_pairs(truth, [right, wrong], keypoints, 4.0) == [(1, 2)]


def plan(clips: int = 4) -> tuple[Trajectory, Depth]:
    camera = pinhole(64, 48, 60.0)
    depth = Depth(torch.full((48, 64), 3.0), torch.ones(48, 64, dtype=torch.bool), "metric")
    return Articulated(frames=clips)(camera, depth, None), depth


def test_pairs_follow_the_tree_and_grow_with_the_frames():
    counts = []
    for frames in (4, 8, 16):
        trajectory, depth = plan(frames)
        pairs = planned_pairs(trajectory, depth.typical, exhaustive_limit=20)
        before = parent_frames(trajectory)
        chosen = set(map(tuple, pairs.tolist()))
        assert all(a < b for a, b in chosen)
        assert all(
            (min(before[v], v), max(before[v], v)) in chosen for v in range(1, len(before))
        ), "each with the one it goes on from"
        clip_of = [0, *(1 + k for k, span in enumerate(trajectory.spans) for _ in span)]
        across = [
            1
            for a, b in chosen
            if a
            and trajectory.clips[clip_of[b] - 1].source not in (a, 0)
            and clip_of[a] != clip_of[b]
        ]
        assert len(across) > len(before), "loops are closed between branches"
        counts.append(len(chosen) / len(before))
    assert counts[2] < 1.6 * counts[0], "so many a frame, however many frames"
    trajectory, depth = plan(2)
    assert (
        len(planned_pairs(trajectory, depth.typical, exhaustive_limit=100)) > 0.9 * 33 * 32 / 2
    ), "few frames that all overlap: all pairs"


def test_what_is_planned_to_look_the_other_way_does_not_overlap():
    start = pinhole(64, 48, 60.0)
    turned = replace(start, world_to_camera=torch.diag(torch.tensor([-1.0, 1, -1, 1]))[None])
    across = turned.map(lambda value: value.clone())
    across.world_to_camera[0, 2, 3] = (
        6.0  # at the other side of what the input sees, looking back at it
    )
    share = view_overlap(Cameras.cat([start, turned, across, start]), 3.0)
    assert share.equal(share.T) and float(share[0, 3]) == 1.0
    assert float(share[0, 1]) == 0 and float(share[0, 2]) == 0


def test_the_plan_gives_place_scale_and_what_was_not_seen():
    """Cameras are in the plan's world, with the input's camera exact and the input depth's scale.

    A frame without matches keeps its planned motion from the frame before it.
    """
    truth, seen, _ = world(frames=6, wrong=0.0, noise=0.1)
    seen = seen[seen.frame != 4]
    start = Cameras(
        torch.eye(4)[None],
        torch.tensor([[FOCAL, 0, 300], [0, FOCAL, 300], [0, 0, 1.0]])[None],
        600,
        600,
    )
    start.world_to_camera[0, :3, 3] = torch.tensor([0.3, -0.2, 0.1])
    poses = start.map(lambda value: value.expand(5, *value.shape[1:]).clone())
    poses.world_to_camera[:, 0, 3] += torch.arange(1, 6) * 0.5
    trajectory = Trajectory(start, (Clip("right", 0, poses),))
    depth = torch.zeros(600, 600)
    own = seen.frame == 0
    local, _ = truth.reproject(seen[own])
    column, row = seen.pixel[own].long().clamp(0, 599).unbind(-1)
    depth[row, column] = 1.7 * local[:, 2].float()
    found = align_to_plan(seen, trajectory, Depth(depth, depth > 0, "metric"), 4.0, "fixed", 0.0)
    assert found.cameras.world_to_camera[0].equal(start.world_to_camera[0])
    assert found.registered.tolist() == [True, True, True, True, False, True]
    apart = (found.cameras.centers[1] - found.cameras.centers[0]).norm()
    assert float(apart) == pytest.approx(
        1.7 * float((truth.centers[1] - truth.centers[0]).norm()), rel=0.02
    )
    beside = found.cameras.world_to_camera[4] @ torch.linalg.inv(found.cameras.world_to_camera[3])
    torch.testing.assert_close(
        beside,
        poses.world_to_camera[3] @ torch.linalg.inv(poses.world_to_camera[2]),
        atol=1e-5,
        rtol=1e-5,
    )


def test_frames_from_one_spot_keep_the_lens_with_one_warning(caplog):
    truth, seen, _ = world(frames=6, wrong=0.0, aside=0.0)
    lens = torch.tensor([[FOCAL, 0, 300], [0, FOCAL, 300], [0, 0, 1.0]])[None]
    start = Cameras(torch.eye(4)[None], lens, 600, 600)
    same = start.map(lambda value: value.expand(5, *value.shape[1:]).clone())
    trajectory = Trajectory(start, (Clip("frames", 0, same),), "sequence")
    depth = torch.zeros(600, 600)
    own = seen.frame == 0
    column, row = seen.pixel[own].long().clamp(0, 599).unbind(-1)
    depth[row, column] = truth.reproject(seen[own])[0][:, 2].float()
    found = align_to_plan(seen, trajectory, Depth(depth, depth > 0, "metric"), 4.0, "shared", 0.0)
    assert bool(found.registered.all())
    torch.testing.assert_close(found.cameras.intrinsics, trajectory.cameras.intrinsics)
    assert len(caplog.records) == 1 and "move too little" in caplog.text


def test_support_is_low_where_nothing_was_found_again():
    g = torch.Generator().manual_seed(0)
    points = torch.rand(3000, 2, generator=g) * torch.tensor([320.0, 240.0])
    again = points[(points[:, 0] < 200) & (torch.rand(3000, generator=g) < 0.5)]
    share = match_support(points, again, 320, 240)
    assert share.shape == (240, 320) and float(share.min()) >= 0 and float(share.max()) <= 1
    assert float(share[:, :150].mean()) > 0.9 and float(share[:, 270:].mean()) < 0.3
    assert float(match_support(points, points[:0], 320, 240).max()) == 0


@pytest.mark.parametrize("seed", range(4))
def test_frame_registered_and_lost_again_does_not_loop(seed, monkeypatch):
    from lift.poses.sfm import mapper

    _, seen, _ = world(frames=3, points=100, shown=0.9, wrong=0.0, noise=0.4, seed=1)
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
    truth, seen, bad = world(wrong=0.0)
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
    truth, seen, _ = world()
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
    truth, seen, _ = world(frames=16, points=600, wrong=0.0)
    rare = (seen.frame >= 12) & (seen.point >= 200)
    seen = seen[~rare]  # the last frames show fewer points than all pairs that are tried first
    mapper = IncrementalMapper(seen, truth.log_focal, truth.principal_point, 4.0, "fixed", 0.2, 0.1)
    mapper.initialize_from_pair(covered=torch.arange(16) < 12)
    assert bool(mapper.state.registered[12:].any())


def test_a_scene_without_the_input_gives_way_to_a_start_with_it(monkeypatch):
    truth, seen, _ = world()
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


def test_unobservable_focal_length_is_not_estimated():
    truth, seen, _ = world(wrong=0.0, aside=0.6)
    off = truth.log_focal + 0.3
    found = incremental_mapping(seen, off, truth.principal_point, 4.0, "shared")
    assert explains_better(found, adjust_with_focal(found, seen, off), seen), (
        "here the focal length is observable"
    )
    same = incremental_mapping(seen, truth.log_focal, truth.principal_point, 4.0, "shared")
    fixed = adjust_with_focal(same, seen, truth.log_focal)
    assert not explains_better(same, fixed, seen), "nothing is gained"


@pytest.mark.parametrize(
    ("focal", "known", "expected"),
    [
        ("auto", True, "fixed"),
        ("auto", False, "shared"),
        ("each", True, "each"),
        ("fixed", False, "fixed"),
    ],
)
def test_auto_estimates_a_focal_length_that_is_only_assumed(focal, known, expected):
    assert resolve_focal(focal, known) == expected


def test_sequences_are_compared_close_in_time_and_with_keyframes():
    camera = pinhole(64, 48, 60.0)
    count = 60
    cameras = Cameras(
        camera.world_to_camera.expand(count, 4, 4),
        camera.intrinsics.expand(count, 3, 3),
        64,
        48,
    )
    trajectory = Trajectory(camera, (Clip("frames", 0, cameras),), "sequence")
    pairs = {tuple(pair) for pair in matching_pairs(trajectory, 1.0, 40, 6, False).tolist()}
    assert all((frame, frame + 1) in pairs for frame in range(count))
    assert all((0, frame) in pairs for frame in range(1, count + 1))
    assert len(pairs) < 0.5 * count * count / 2
    few = matching_pairs(trajectory, 1.0, 100, 6, False)
    assert len(few) == (count + 1) * count // 2


def test_known_cameras_in_any_order_are_paired_by_overlap():
    count = 60
    angle = torch.arange(count) * 2 * torch.pi / count
    eye = 3 * torch.stack([angle.sin(), torch.zeros(count), -angle.cos()], -1)
    down = torch.tensor([0.0, 1.0, 0.0]).expand(count, 3)
    camera = pinhole(128, 96, 120.0)
    intrinsics = camera.intrinsics.expand(count, 3, 3)
    ring = Cameras(look_at(eye, torch.zeros(count, 3), down), intrinsics, 128, 96)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    cameras = ring[order]
    trajectory = Trajectory(cameras[0], (Clip("pictures", 0, cameras[1:]),), "known")
    pairs = order[matching_pairs(trajectory, 3.0, 40, 6, True)]
    apart = (pairs[:, 0] - pairs[:, 1]).abs()
    apart = torch.minimum(apart, count - apart)
    assert int((apart == 1).sum()) == count
    assert int((apart == 2).sum()) == count
    assert len(pairs) < 10 * count
