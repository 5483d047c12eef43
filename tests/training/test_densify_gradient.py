"""Densification by gradients in the picture."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from lift.geometry import project
from lift.renderers import renderers
from lift.training.densify_gradient import (
    RESET_OPACITY,
    GradientDensifier,
    clone_and_split,
    reset_opacities,
)
from lift.training.splats import Splats
from lift.types import Cameras, Gaussians, Render
from tests.helpers.fits import ball, scene, settings

GRADIENT = {"strategy": "gradient", "start": 0, "every": 10, "stop": 1.0, "min_opacity": 0.05}


def densifier(count: int, max_gaussians: int = 1000, **gradient) -> GradientDensifier:
    how = settings(
        steps=10_000,
        max_gaussians=max_gaussians,
        densify={**GRADIENT, "gradient": {"reset_every": 0, **gradient}},
    )
    return GradientDensifier(how, count, scene_scale=2.0, size=(24, 24))


def splats_with_adam(gaussians: Gaussians) -> tuple[Splats, torch.optim.Optimizer]:
    """Raw parameters, and an optimiser that has taken a step of size zero."""
    splats = Splats.from_gaussians(gaussians)
    optimiser = torch.optim.Adam([{"name": n, "params": [p]} for n, p in splats.items()], lr=0.0)
    sum(parameter.square().sum() for parameter in splats.values()).backward()
    optimiser.step()
    optimiser.zero_grad()
    return splats, optimiser


def record(
    strategy: GradientDensifier, splats: Splats, weights: torch.Tensor, cameras: Cameras
) -> None:
    """Record a step whose loss is the mean over views of weighted positions in the picture."""
    gaussians = strategy.watch(splats.gaussians(), len(weights), 0)
    means = gaussians.means.expand(len(weights), -1, -1)
    pixels = torch.cat([project(means[v], cameras[v])[0] for v in range(len(weights))])
    (weights * pixels).sum(-1).sum(1).mean().backward()
    empty = torch.zeros(len(weights), 1, 1)
    radii = torch.full(weights.shape[:2], 4.0)
    render = Render(empty[..., None].expand(-1, -1, -1, 3), empty, empty, {"radii": radii})
    strategy.record(splats, cameras, render)


def rounds(strategy: GradientDensifier, splats, optimiser, step: int) -> None:
    with torch.no_grad():
        strategy.update(splats, optimiser, step - 1, step, torch.Generator().manual_seed(0))


def test_gradients_are_those_of_positions_in_the_picture():
    cameras = scene(2)[1].cameras
    splats, _ = splats_with_adam(ball(9))
    weights = torch.randn(2, 9, 2, generator=torch.Generator().manual_seed(1))
    strategy = densifier(9)
    record(strategy, splats, weights, cameras)
    torch.testing.assert_close(strategy._recent.gradients, 12 * weights.norm(dim=-1).sum(0))
    assert strategy._recent.visible.tolist() == [2] * 9


def test_views_of_a_step_may_be_added_before_the_norm():
    cameras = scene(2)[1].cameras
    splats, _ = splats_with_adam(ball(9))
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])[:, None].expand(2, 9, 2)
    strategy = densifier(9, per_view=False)
    record(strategy, splats, opposite, cameras)
    assert strategy._recent.gradients.abs().max() < 1e-4
    assert strategy._recent.visible.tolist() == [1] * 9


def rendered_gradients(name: str, device: torch.device) -> torch.Tensor:
    """The gradients of a step on two views, by a renderer."""
    frames, reconstruction = scene(2)
    splats, _ = splats_with_adam(replace(ball(30), scales=torch.full((30, 3), 0.05)))
    splats = splats.to(device)
    cameras = reconstruction.cameras.to(device)
    strategy = densifier(30)
    renderer = renderers.build({"name": name}, device=device)
    render = renderer(strategy.watch(splats.gaussians(), 2, 0), cameras)
    (render.rgb - frames.rgb.to(device)).abs().mean().backward()
    strategy.record(splats, cameras, render)
    return strategy._recent.gradients.cpu()


@pytest.fixture(scope="module")
def reference_gradients() -> torch.Tensor:
    gradients = rendered_gradients("reference", torch.device("cpu"))
    assert gradients.max() > 1e-3
    return gradients


def test_numba_gives_the_gradients_of_the_reference(reference_gradients):
    gradients = rendered_gradients("numba", torch.device("cpu"))
    torch.testing.assert_close(gradients, reference_gradients, rtol=1e-3, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["gsplat", "reference"])
def test_gpus_give_the_gradients_of_the_reference(cuda, name, reference_gradients):
    gradients = rendered_gradients(name, cuda)
    torch.testing.assert_close(gradients, reference_gradients, rtol=1e-2, atol=1e-4)


def test_small_ones_are_cloned_and_large_ones_split():
    gaussians = ball(6)
    splats, optimiser = splats_with_adam(gaussians)
    selected = torch.tensor([True, True, False, False, True, False])
    is_large = torch.tensor([False, True, True, False, False, False])
    rng = torch.Generator().manual_seed(0)
    index = clone_and_split(splats, optimiser, selected, is_large, rng)
    assert index.tolist() == [0, 2, 3, 4, 5, 0, 4, 1, 1]
    after = splats.gaussians()
    assert after.means[:7].equal(gaussians.means[index[:7]])
    torch.testing.assert_close(after.scales[7:], gaussians.scales[[1, 1]] / 1.6)
    offsets = (after.means[7:] - gaussians.means[1]).norm(dim=-1)
    assert (offsets > 0).all() and (offsets < 4 * 3**0.5 * 0.12).all()
    moments = optimiser.state[splats["means"]]["exp_avg"]
    assert moments[:5].abs().min() > 0 and not moments[5:].any()
    assert all(group["params"][0] is splats[group["name"]] for group in optimiser.param_groups)


def test_growth_stops_at_the_limit_with_the_largest_gradients():
    splats, optimiser = splats_with_adam(ball(10))
    strategy = densifier(10, max_gaussians=13, grow_scale3d=1.0, prune_scale3d=0)
    weights = torch.zeros(1, 10, 2)
    weights[0, :, 0] = torch.tensor([1.0, 5, 2, 7, 3, 6, 0, 4, 8, 0])
    record(strategy, splats, weights, scene(1)[1].cameras)
    rounds(strategy, splats, optimiser, 10)
    assert splats.count == 13
    assert splats["means"][10:].equal(splats["means"][[3, 5, 8]])


def test_transparent_and_large_gaussians_are_removed():
    gaussians = ball(8)
    gaussians.opacities[:2] = 0.01
    gaussians.scales[2] = 0.9
    splats, optimiser = splats_with_adam(gaussians)
    strategy = densifier(8, prune_scale3d=0.4, prune_size_start=20)
    rounds(strategy, splats, optimiser, 10)
    assert splats["means"].equal(gaussians.means[2:]), "sizes count from a later step on"
    rounds(strategy, splats, optimiser, 20)
    assert splats["means"].equal(gaussians.means[3:])
    assert optimiser.state[splats["means"]]["exp_avg"].shape == (5, 3)


def test_gaussians_with_large_radii_are_removed():
    splats, optimiser = splats_with_adam(ball(8))
    strategy = densifier(8, prune_radius=3.0, prune_size_start=0, grow_grad2d=1e6)
    record(strategy, splats, torch.ones(1, 8, 2), scene(1)[1].cameras)
    strategy._recent.radii[:5] = 2.0
    rounds(strategy, splats, optimiser, 10)
    assert splats.count == 5
    strategy._recent.radii[:] = 9.0
    rounds(strategy, splats, optimiser, 20)
    assert splats.count == 1, "a scene is never empty"


def test_opacities_are_reset_at_their_own_interval():
    splats, optimiser = splats_with_adam(ball(5))
    strategy = densifier(5, reset_every=25, prune_scale3d=0)
    rounds(strategy, splats, optimiser, 24)
    assert splats.gaussians().opacities.min() > 0.5
    rounds(strategy, splats, optimiser, 25)
    torch.testing.assert_close(splats.gaussians().opacities, torch.full((5,), 0.1))
    assert not optimiser.state[splats["opacities"]]["exp_avg"].any()
    assert optimiser.state[splats["means"]]["exp_avg"].any()


def test_a_reset_lowers_opacities_alone():
    splats, optimiser = splats_with_adam(ball(3))
    splats["opacities"].data[0] = math.log(0.002)
    reset_opacities(splats, optimiser, RESET_OPACITY)
    assert splats["opacities"][0] == math.log(0.002)
    torch.testing.assert_close(splats.gaussians().opacities[1:], torch.full((2,), 0.01))


def test_the_schedule_ends_and_starts_anew_in_the_next_stage(monkeypatch):
    strategy = densifier(5)
    strategy.fit = SimpleNamespace(steps=100, canonical_steps=30, max_gaussians=1000)
    strategy.settings = settings(densify={**GRADIENT, "start": 20, "stop": 0.4}).densify
    seen = []
    monkeypatch.setattr(strategy, "_grow", lambda *_: seen.append(step))
    splats, optimiser = splats_with_adam(ball(5))
    for step in range(1, 101):
        rounds(strategy, splats, optimiser, step)
    assert seen == [20, 30, 50, 60, 70]


def test_no_gradients_are_kept_after_the_last_round():
    strategy = densifier(5)
    strategy.settings = settings(densify={**GRADIENT, "stop": 0.5}).densify
    gaussians = ball(5)
    assert strategy.watch(gaussians, 2, 5000) is gaussians


def test_statistics_survive_a_checkpoint():
    splats, _ = splats_with_adam(ball(9))
    strategy, other = densifier(9), densifier(9)
    record(strategy, splats, torch.ones(1, 9, 2), scene(1)[1].cameras)
    state = {**strategy.state(splats), "shapes": {"means": [9, 3]}}
    other.load_state(state, torch.device("cpu"))
    assert other._total.gradients.equal(strategy._total.gradients)
    assert float(other._total.gradients.min()) > 0 and float(other._total.radii[0]) == 4.0


def test_radii_of_small_pictures_count_at_full_size():
    splats, _ = splats_with_adam(ball(9))
    strategy = densifier(9)
    cameras = scene(1)[1].cameras.resized(12, 12)
    record(strategy, splats, torch.ones(1, 9, 2), cameras)
    assert strategy._recent.radii.tolist() == [8.0] * 9
