"""Alignment of pairwise point maps in one world, with an oracle that has errors."""

from functools import partial

import pytest
import torch

from lift.evaluation.pairs import Oracle
from lift.geometry import rotation_angle
from lift.poses.sfm.canonical import CanonicalDepth
from lift.poses.sfm.correspondence import PairMaps, find_matches, refine_matches
from lift.poses.sfm.global_alignment import align_globally
from lift.poses.sfm.monocular import align_like_liftimage3d, fill_with_monocular
from lift.poses.sfm.pair_matches import order_pairs
from lift.poses.sfm.pointmaps import PointMapPoses
from lift.types import Cameras, Depth, Frames, Trajectory
from tests.helpers import walls
from tests.helpers.branches import NOISE
from tests.helpers.walls import Truth


def small(cameras: Cameras) -> Cameras:
    return cameras.resized(160, 120)


def build(
    true_cameras: Cameras,
    frames: Frames,
    depth: torch.Tensor | None = None,
    estimator=None,
    settings=None,
    **errs,
) -> PointMapPoses:
    maps = walls.render(small(true_cameras)).depth if depth is None else depth
    settings = {
        "alignment": "bundle_adjustment",
        "monocular": "low_confidence",
        "exhaustive_limit": 40,
        "loop_closures": 4,
        "focal": "fixed",
        "plan_weight": 1.0,
        "min_registered": 0.5,
        "tolerance": 0.05,
        "max_points": 20_000,
    } | (settings or {})
    first = Depth(frames.depth[0], frames.depth[0] > 0, "metric")
    return PointMapPoses(
        Oracle(small(true_cameras), maps, **errs),
        160,
        8,
        depth=first,
        estimator=estimator,
        device=torch.device("cpu"),
        **settings,
    )


def off(found: Cameras, true_cameras: Cameras) -> tuple[torch.Tensor, torch.Tensor]:
    angle = rotation_angle(
        found.world_to_camera[:, :3, :3].double(), true_cameras.world_to_camera[:, :3, :3].double()
    )
    return angle, (found.centers - true_cameras.centers).norm(dim=-1)


@pytest.mark.parametrize(
    "errs",
    [
        {"has_descriptors": True, "failure_rate": 0.3, "outlier_rate": 0.15},
        *(pytest.param({"has_descriptors": how}, marks=pytest.mark.slow) for how in (True, False)),
    ],
)
def test_cameras_depth_and_points_are_found(case, errs):
    trajectory, true_cameras, frames = case
    found = build(true_cameras, frames, **errs)(Frames(frames.images), trajectory)
    angle, away = off(found.cameras, true_cameras)
    planned, _ = off(trajectory.cameras, true_cameras)
    assert planned[1:].min() > 2 and angle.max() < 0.5 and away.max() < 0.04
    assert torch.equal(found.cameras.world_to_camera[0], trajectory.start.world_to_camera[0])
    known = frames.depth > 0
    assert ((found.depth / frames.depth.clamp(min=1e-3)).log().abs()[known]).median() < 0.025
    assert (
        5_000 < len(found.points) <= 20_000 and float((found.confidence > 0.5).float().mean()) > 0.5
    )


@pytest.mark.slow
def test_published_alignment_is_exact_without_errors(case, monkeypatch):
    quick = partial(align_globally, steps=300)
    monkeypatch.setattr("lift.poses.sfm.pointmaps.align_globally", quick)
    trajectory, true_cameras, frames = case
    for errs, most, far in (({"noise": 0.0, "outlier_rate": 0.0}, 0.1, 0.01), ({}, 2.0, 0.15)):
        found = build(true_cameras, frames, settings={"alignment": "global_alignment"}, **errs)(
            Frames(frames.images), trajectory
        )
        angle, away = off(found.cameras, true_cameras)
        assert angle.max() < most and away.max() < far
        assert torch.equal(found.cameras.world_to_camera[0], trajectory.start.world_to_camera[0])
        assert float((found.cameras.intrinsics[:, 0, 0] / 290 - 1).abs().max()) < 0.05


def test_frame_without_confidence_keeps_its_planned_motion(case):
    trajectory, true_cameras, frames = case
    depth = walls.render(small(true_cameras)).depth
    depth[NOISE] = 0
    found = build(true_cameras, frames, depth)(Frames(frames.images), trajectory)
    angle, _ = off(found.cameras, true_cameras)
    assert (
        angle[:NOISE].max() < 0.5
        and found.confidence[NOISE].max() == 0 < found.confidence[NOISE - 1].max()
    )
    plan = trajectory.cameras.world_to_camera
    beside = found.cameras.world_to_camera[NOISE] @ torch.linalg.inv(
        found.cameras.world_to_camera[NOISE - 1]
    )
    torch.testing.assert_close(
        beside, plan[NOISE] @ torch.linalg.inv(plan[NOISE - 1]), atol=1e-4, rtol=1e-4
    )


@pytest.mark.slow
def test_single_frame_has_its_depth_at_the_input_scale(case):
    trajectory, true_cameras, frames = case
    for alignment in ("bundle_adjustment", "global_alignment"):
        found = build(true_cameras, frames, settings={"alignment": alignment})(
            Frames(frames.images[:1]), Trajectory(trajectory.start, ())
        )
        assert torch.equal(found.cameras.world_to_camera, trajectory.start.world_to_camera)
        assert ((found.depth[0] / frames.depth[0]).log().abs()[frames.depth[0] > 0]).median() < 0.03


@pytest.mark.slow
def test_all_that_contradicts_itself_ends_in_one_line(case):
    trajectory, true_cameras, frames = case
    with pytest.raises(ValueError, match="too little in common.*choose pose=planned"):
        build(true_cameras, frames, torch.zeros(7, 120, 160))(Frames(frames.images), trajectory)
    with pytest.raises(ValueError, match="6 frames do not fit a trajectory of 7"):
        build(true_cameras, frames)(frames[:6], trajectory)


def test_each_pair_runs_once_and_each_frame_is_first_in_one():
    star, line = [(0, k) for k in range(1, 6)], [(k, k + 1) for k in range(5)]
    for pairs in (star, line, star + line, []):
        way = order_pairs(sorted(set(pairs)), 6)
        assert {a for a, _ in way} == set(range(6))
        assert {frozenset(pair) for pair in pairs} <= {frozenset(pair) for pair in way}
        assert len(way) == len(set(way)) <= max(6, len(set(pairs)))
        assert [a for a, _ in way[:6]] == list(range(6)), "each once, before any is twice"


def test_depth_is_the_mean_of_pairs_of_any_scale():
    true = 1 + torch.rand(30, 40, generator=torch.Generator().manual_seed(0))
    depth = CanonicalDepth(3)
    maps = [
        scale * true * torch.where(torch.arange(40) < 8, error, 0.0).exp()
        for scale, error in ((1.0, 0.1), (3.0, -0.1), (0.2, 0.0))
    ]
    sure = torch.full((30, 40), 4.0)
    depth.add([2, 0, 2], torch.stack([maps[0], 5 * true, maps[1]]), sure.expand(3, -1, -1))
    depth.add([2], maps[2][None], sure[None])
    for view, most in ((0, 1e-6), (2, 1e-4)):
        ratio = depth.log_depth[view] - true.log()
        assert (ratio - ratio.median()).abs().max() < most
        assert float(depth.normalized_confidence(view).max()) == pytest.approx(0.6)
    assert depth.count.tolist() == [1, 0, 3]


def test_monocular_depth_takes_the_place_of_what_is_not_trusted():
    true = (1 + torch.rand(40, 50, generator=torch.Generator().manual_seed(0))).cumsum(1) / 10
    certainty = torch.where(torch.arange(50) < 30, 0.8, 0.1).expand(40, 50)
    noisy = torch.where(certainty > 0.5, true, 7.0)
    depth, confidence = fill_with_monocular(noisy, certainty, 1 / (0.3 / true + 0.05), 0.05)
    torch.testing.assert_close(depth[:, :30], true[:, :30])
    assert (
        ((depth / true).log().abs()[:, 30:]).median() < 0.03
        and float(confidence[:, 30:].min()) > 0.9
    )
    unchanged, _ = fill_with_monocular(noisy, torch.zeros_like(certainty), true, 0.05)
    assert torch.equal(unchanged, noisy), "there is nothing to go by"


def test_published_monocular_fit_fails_for_varying_depth():
    depth = torch.linspace(1, 6, 3000).view(50, 60)
    guess = 1 / (0.3 / depth + 0.05)  # right but for scale and shift of its inverse
    theirs, ours = (
        align_like_liftimage3d(guess, depth),
        fill_with_monocular(depth, torch.full_like(depth, 0.4).where(depth > 3, 0.9), guess, 0.05)[
            0
        ],
    )
    assert (
        ((ours / depth).log().abs()).max()
        < 0.02
        < 0.1
        < (theirs / depth)[theirs > 0].log().abs().mean()
    )
    m = (
        255 * (1 / guess - (1 / guess).min()) / ((1 / guess).max() - (1 / guess).min())
    ).round() / 65535
    there = theirs.flatten() > 0
    basis = torch.stack([m.flatten(), torch.ones(3000)], -1).double()[there]
    left = (
        basis @ torch.linalg.lstsq(basis, theirs.flatten()[there, None].double()).solution
        - theirs.flatten()[there, None]
    )
    assert left.abs().max() < 1e-3, "affine in 255 steps of inverse depth"
    nearly = 3 + 0.01 * torch.rand(50, 60, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(align_like_liftimage3d(nearly, nearly), nearly, atol=1e-3, rtol=0)


@pytest.mark.slow
def test_published_monocular_depth_stands_in_all_frames(case):
    trajectory, true_cameras, frames = case
    settings = {"monocular": "everywhere"}
    found = build(true_cameras, frames, estimator=Truth(frames), settings=settings)(
        Frames(frames.images), trajectory
    )
    plain = build(true_cameras, frames)(Frames(frames.images), trajectory)
    assert torch.equal(
        found.cameras.world_to_camera, plain.cameras.world_to_camera
    ) and not torch.equal(found.depth, plain.depth)
    theirs = align_like_liftimage3d(frames.depth[2], plain.depth[2])
    assert ((found.depth[2] - theirs).abs() > 1e-4).float().mean() < 1e-3, (
        "but for a step of 255 here and there"
    )
    with pytest.raises(
        ValueError, match="pose.monocular is 'everywhere', which takes a depth estimator"
    ):
        build(true_cameras, frames, settings=settings)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("has_descriptors", [True, False])
def test_places_are_looked_for_in_many_pairs_at_once(device, has_descriptors, request):
    if device == "cuda":
        request.getfixturevalue("cuda")
    rng = torch.Generator().manual_seed(0)
    first = torch.rand(20, 30, 8 if has_descriptors else 3, generator=rng) + 1
    first = torch.nn.functional.normalize(first, dim=-1) if has_descriptors else first
    moves = [(2, 3), (0, -5), (4, 0)]
    second = torch.stack([first.roll(move, (0, 1)) for move in moves]).to(device)
    first, sure = first.expand(3, -1, -1, -1).to(device), torch.ones(3, 20, 30, device=device)
    points = first[..., :3]
    maps = (
        PairMaps(points, sure, points, sure, (first, second), (sure, sure))
        if has_descriptors
        else PairMaps(first, sure, second, sure)
    )
    row, column = torch.meshgrid(torch.arange(6, 14, 3), torch.arange(6, 24, 4), indexing="ij")
    anchors = (row * 30 + column).flatten()
    for backwards, sign in ((False, 1), (True, -1)):
        for (down, right), (index, pixel, score) in zip(
            moves, find_matches(maps, anchors, backwards), strict=True
        ):
            assert index.tolist() == list(range(len(anchors))) and score.tolist() == [1.0] * len(
                anchors
            )
            there = (
                torch.stack([column.flatten() + sign * right, row.flatten() + sign * down], -1)
                + 0.5
            )
            assert (pixel - there).abs().max() <= 0.5, (
                "half a pixel, by neighbours that are anything"
            )


def test_a_match_is_found_between_pixels():
    i, j = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    there = torch.stack([j, i], -1).flatten(0, 1)
    at = torch.tensor([[5 * 30 + 7, 12 * 30 + 20]])
    found = refine_matches(torch.tensor([[[7.3, 4.8], [20.0, 12.4]]]), there[None], at, 20, 30)
    torch.testing.assert_close(
        found[0], torch.tensor([[7.8, 5.3], [20.5, 12.9]], dtype=torch.float64), atol=1e-4, rtol=0
    )


def test_error_names_frames_without_a_connecting_pair():
    from lift.poses.sfm.spanning_tree import PairPointMaps

    points = torch.rand(8, 10, 3) + 1
    sure = torch.full((8, 10), 3.0)
    with pytest.raises(ValueError, match="the pairs tie 2 of 3 frames"):
        align_globally([PairPointMaps(0, 1, points, sure, points, sure)], 1, 3)
