"""Pose estimators put frames and depths into the plan's world."""

from dataclasses import replace

import pytest
import torch

from lift.depths import DepthEstimator
from lift.geometry import pinhole, project
from lift.multiview.depth_alignment import align_depth, fit_scale_shift, visible_depth
from lift.poses import poses
from lift.types import Depth, Frames
from tests.helpers.tours import HEIGHT, tour


class Skewed(DepthEstimator):
    """The true depth with a random scale and shift of inverse depth in each picture."""

    def __init__(self, frames: Frames, wrong: slice = slice(0)) -> None:
        self.frames, self.wrong, self.calls = frames, wrong, 0

    def __call__(self, image: torch.Tensor) -> Depth:
        self.calls += 1
        view = next(i for i, other in enumerate(self.frames.images) if torch.equal(image, other))
        depth = self.frames.depth[view]
        skewed = 1 / ((0.3 + 0.1 * view) / depth.clamp(min=1e-3) + 0.05 * view)
        skewed[self.wrong] *= 3
        return Depth(torch.where(depth > 0, skewed, 1.0), depth > 0, "affine-invariant")


def input_depth(frames: Frames) -> Depth:
    return Depth(frames.depth[0], frames.depth[0] > 0, "metric")


def error(found: torch.Tensor, truth: torch.Tensor, where: torch.Tensor) -> float:
    return float(((found - truth).abs() / truth.clamp(min=1e-3))[where].median())


def test_fit_finds_scale_and_shift_among_outliers():
    g = torch.Generator().manual_seed(0)
    source = torch.rand(500, generator=g) + 0.1
    target = 0.7 * source + 0.2
    target[:150] = torch.rand(150, generator=g) * 2 + 0.05
    assert fit_scale_shift(source, target) == pytest.approx((0.7, 0.2), abs=2e-3)
    assert fit_scale_shift(source, 2 * source + 0.0, shift=False) == pytest.approx((2, 0))
    assert fit_scale_shift(torch.full((50,), 0.5), torch.full((50,), 1.0)) == pytest.approx(
        (2, 0)
    )  # a wall
    assert (
        fit_scale_shift(source, 1.3 - source)[0] > 0
        and fit_scale_shift(source, 1.3 - source)[1] == 0
    )  # never turned over


def test_alignment_ignores_depth_outliers():
    truth = torch.linspace(1, 4, 60)[None].repeat(40, 1)
    known = truth.clone()
    known[:, ::2] = 0
    known[:5, 1::2] = 1.0  # something else was there
    aligned = align_depth(1 / (3 / truth + 0.5), known, tolerance=0.05)
    assert aligned.success
    torch.testing.assert_close(aligned.depth, truth, rtol=1e-3, atol=1e-3)
    assert aligned.confidence[10:].min() > 0.99 and aligned.confidence[:5, 31::2].max() < 0.1
    nothing = align_depth(truth, torch.zeros_like(truth), tolerance=0.05)
    assert not nothing.success and nothing.confidence.max() == 0


def test_place_confidence_is_half_at_the_tolerance():
    truth = torch.linspace(1, 4, 60)[None].repeat(40, 1)
    known = truth.clone()
    known[0] *= 1.1
    aligned = align_depth(truth, known, tolerance=0.0953)  # ln 1.1
    assert aligned.confidence[0].mean() == pytest.approx(0.5, abs=0.01)


def test_points_do_not_show_through_what_is_before_them():
    camera = pinhole(32, 24, 30.0)
    y, x = torch.meshgrid(
        torch.linspace(-0.5, 0.5, 40), torch.linspace(-0.5, 0.5, 40), indexing="ij"
    )
    far = torch.stack([2 * x, 2 * y, torch.full_like(x, 2.0)], -1).reshape(-1, 3)
    near = torch.stack([x, y, torch.full_like(x, 1.0)], -1).reshape(-1, 3)[::2]  # with gaps
    depth = visible_depth(torch.cat([far, near, -near]), camera)
    assert set(depth.unique().tolist()) <= {0.0, 1.0, 2.0} and (depth == 1).float().mean() > 0.5
    assert not (depth[1:-1, 4:-4] == 2).any()


def test_planned_takes_the_priors_depth():
    trajectory, frames = tour()
    planned = poses.build(
        {"name": "planned", "max_points": 5000}, depth=input_depth(frames), estimator=None
    )
    found = planned(frames, trajectory)
    assert torch.equal(found.cameras.world_to_camera, trajectory.cameras.world_to_camera)
    assert torch.equal(found.depth, frames.depth) and torch.equal(
        found.confidence, (frames.depth > 0).float()
    )
    assert 4000 < len(found.points) <= 5000
    # every frame has its share, and a point has the colour of the picture where it lies
    view = trajectory.cameras[0]
    pixels, depth = project(found.points.points[:50], view)
    column, row = pixels[0].long().unbind(-1)
    torch.testing.assert_close(found.points.colors[:50], frames.rgb[0][row, column])
    torch.testing.assert_close(depth[0], frames.depth[0][row, column], rtol=1e-4, atol=1e-4)


def test_planned_aligns_estimates_to_what_was_seen():
    trajectory, frames = tour()
    estimator = Skewed(frames)
    planned = poses.build({"name": "planned"}, depth=input_depth(frames), estimator=estimator)
    found = planned(Frames(frames.images), trajectory)
    assert estimator.calls == len(frames) - 1
    known = frames.depth > 0
    assert torch.equal(found.depth[0], frames.depth[0])
    for view in range(1, len(frames)):
        assert error(found.depth[view], frames.depth[view], known[view]) < 0.02, view
        assert found.confidence[view][known[view]].median() > 0.8
    assert found.confidence.min() >= 0 and found.confidence.max() <= 1


def test_planned_doubts_what_disagrees():
    trajectory, frames = tour()
    planned = poses.build(
        {"name": "planned"},
        depth=input_depth(frames),
        estimator=Skewed(frames, slice(0, HEIGHT // 4)),
    )
    confidence = planned(Frames(frames.images), trajectory).confidence[1:]
    assert confidence[:, : HEIGHT // 4].median() < 0.2 < 0.8 < confidence[:, HEIGHT // 4 :].median()


@pytest.mark.parametrize("hint", ["sequence", "unordered"])
def test_planned_refuses_placeholder_cameras(hint):
    trajectory, frames = tour()
    planned = poses.build({"name": "planned"}, depth=input_depth(frames), estimator=None)
    with pytest.raises(ValueError, match="none are known of these frames.*pose=matching"):
        planned(frames, replace(trajectory, hint=hint))


def test_planned_refusals():
    trajectory, frames = tour()
    planned = poses.build({"name": "planned"}, depth=input_depth(frames), estimator=None)
    with pytest.raises(ValueError, match="2 frames do not fit a trajectory of 9"):
        planned(frames[:2], trajectory)
    with pytest.raises(ValueError, match="needs a depth estimator"):
        planned(Frames(frames.images), trajectory)
    with pytest.raises(ValueError, match="pose.tolerance is 0"):
        poses.build(
            {"name": "planned", "tolerance": 0.0}, depth=input_depth(frames), estimator=None
        )
