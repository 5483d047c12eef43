"""Bundle adjustment."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lift.geometry import rotation_angle, rotation_from_vector
from lift.poses.sfm import normal_equations
from lift.poses.sfm.bundle import Residuals, adjust, apply_step
from lift.poses.sfm.normal_equations import BlockPattern, NormalEquations
from lift.poses.sfm.state import PosePrior, SfmState
from tests.helpers.observations import FOCAL, observed_scene


def perturb(scene: SfmState, turn: float = 0.02, shift: float = 0.05) -> SfmState:
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


def first_frame(frames: int) -> torch.Tensor:
    return torch.arange(frames) == 0


def test_bundle_adjustment_is_robust_to_outliers():
    truth, seen, bad = observed_scene()
    start = replace(perturb(truth), log_focal=truth.log_focal + 0.1)
    found = adjust(start, seen, first_frame(12), "shared", steps=40)
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
    kept = adjust(start, seen, first_frame(12), "fixed", steps=10)
    assert kept.log_focal.equal(start.log_focal)


def test_a_focal_length_a_frame_is_found_where_each_has_its_own():
    truth, seen, _ = observed_scene(wrong=0.0, noise=0.05)
    zoomed = replace(
        truth, log_focal=truth.log_focal + 0.1 * torch.sin(torch.arange(12.0, dtype=torch.float64))
    )
    _, moved = zoomed.reproject(replace(seen, pixel=torch.zeros_like(seen.pixel)))
    found = adjust(
        perturb(truth),
        replace(seen, pixel=moved),
        first_frame(12),
        "per_frame",
        sigma=0.2,
        steps=60,
    )
    # Lengths, positions and depths can still be scaled together along the axis; ratios cannot.
    off = found.log_focal - zoomed.log_focal
    assert float((off - off.mean()).abs().max()) < 0.02


def test_adjustment_solves_what_a_dense_solver_solves():
    """One damped step of the sparse system equals numpy's dense least squares.

    The scale is free.
    """
    truth, seen, _ = observed_scene(frames=4, points=30, wrong=0.0)
    start = perturb(truth, 0.001, 0.002)
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


@pytest.mark.parametrize("focal", ["fixed", "shared", "per_frame"])
def test_few_and_many_frames_are_adjusted_alike(focal, monkeypatch):
    truth, seen, _ = observed_scene()
    start = perturb(truth)
    few = adjust(start, seen, first_frame(12), focal, focal_prior_sigma=0.2, steps=40)
    monkeypatch.setattr(normal_equations, "MAX_DENSE_FRAMES", 0)
    many = adjust(start, seen, first_frame(12), focal, focal_prior_sigma=0.2, steps=40)
    assert float(rotation_angle(few.rotation, many.rotation).max()) < 0.02
    torch.testing.assert_close(few.log_focal, many.log_focal, rtol=0, atol=1e-3)


def test_a_plan_that_is_believed_holds_what_pixels_do_not():
    truth, seen, _ = observed_scene(
        shown=0.02, points=200, wrong=0.0
    )  # a handful of points a frame
    start = perturb(truth)
    weak = adjust(start, seen, first_frame(12), steps=30)
    held = adjust(
        start,
        seen,
        first_frame(12),
        prior=PosePrior(truth.rotation, truth.translation, 1e-3, 1e-3),
        steps=30,
    )
    apart = [
        float(rotation_angle(scene.rotation, truth.rotation)[1:].median()) for scene in (weak, held)
    ]
    assert apart[1] < 0.2 * apart[0]


def test_measured_depth_fixes_the_scale_that_pixels_leave_open():
    truth, seen, _ = observed_scene(wrong=0.0)
    local, _ = truth.reproject(seen)
    scales = torch.linspace(-0.3, 0.3, 12, dtype=torch.float64)
    seen = replace(seen, log_depth=local[:, 2].log() - scales[seen.frame])
    seen.log_depth[::3] = torch.nan
    doubled = replace(truth, points=2 * truth.points, translation=2 * truth.translation)
    found = adjust(doubled, seen, first_frame(12), depth_sigma=0.05, steps=30)
    spread = (found.log_scale - scales) - (found.log_scale - scales).mean()
    assert float(spread.abs().max()) < 0.02, "of each frame up to what all have in common"
