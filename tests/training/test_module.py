"""The module of a fit: draws of the input, weights of frames and learning rates."""

from types import SimpleNamespace

import pytest
import torch

from lift.registry import ComponentError
from lift.training.model import INPUT_ERROR_TARGET
from lift.training.optimisers import decay_rates
from lift.training.scene_scale import depth_unit
from lift.types import Render
from tests.helpers.fits import module, scene, settings


def test_a_bad_input_view_is_drawn_more_often():
    fitted = module(settings(input_fraction=0.1))
    assert fitted.input_fraction() == 0.1, "nothing is known yet"
    fitted.errors[:] = torch.tensor([0.01, 0.01, 0.02, 0.03])
    assert fitted.input_fraction() == 0.1, "it is explained well"
    fitted.errors[0] = 0.025
    assert fitted.input_fraction() == pytest.approx(0.1 * (0.025 / INPUT_ERROR_TARGET) ** 2)
    fitted.errors[0] = 0.5
    assert fitted.input_fraction() == 0.4
    assert module(settings(input_fraction=0.0)).input_fraction() == 0.0, "it is not drawn at all"
    fitted = module(settings(input_fraction=0.1, max_input_fraction=0.1))
    fitted.errors[:] = torch.tensor([0.5, 0.01, 0.02, 0.03])
    assert fitted.input_fraction() == 0.1, "a fixed fraction"


def test_robust_weights_reduce_badly_explained_frames():
    fitted = module(settings(robust={"frames": 2.0, "pixels": 3.0}))
    fitted.errors.copy_(torch.tensor([0.4, 0.1, 0.1, 0.4]))
    views = torch.tensor([0, 1, 3])
    rgb = fitted.images[views].float() / 255 + 0.01
    rgb[:, :6, :6] += 0.8
    weights = fitted.combined_weights(
        Render(rgb, torch.ones(rgb.shape[:3]), torch.ones(rgb.shape[:3])), views
    )
    assert (weights[0] == 1).all(), "the input keeps full weight"
    assert weights[1, -1, -1] > 0.9 and weights[1, 2, 2] < 0.01
    torch.testing.assert_close(weights[2], weights[1] * (1 + 0.5**6) / (1 + 2.0**6))
    fitted = module(settings(robust={"frames": 0.0, "pixels": 0.0}))
    assert (
        fitted.combined_weights(
            Render(rgb, torch.ones(rgb.shape[:3]), torch.ones(rgb.shape[:3])), views
        )
        is None
    )


@pytest.mark.parametrize(
    ("steps", "views", "share"), [(500, 1, 1.0), (1000, 4, 0.5), (4000, 1, 0.25), (4000, 4, 0.125)]
)
@pytest.mark.parametrize("world", [1, 4])
def test_what_is_learned_a_frame_goes_as_far_in_any_fit(steps, views, share, world):
    fitted = module(settings(steps=steps, batch_size=views))
    fitted.trainer = SimpleNamespace(world_size=world)
    views *= world
    share = min(1.0, share * world**0.5)  # fewer steps, each as much larger
    optimisers = splats, distorting = fitted.configure_optimizers()
    (group,) = distorting.param_groups
    assert group["start"] == pytest.approx(share * fitted.distortion.learning_rate * views**0.5)
    assert "steps" not in group
    group["start"] = splats.param_groups[0]["start"] = (
        99.0  # as a checkpoint of another number of processes leaves them
    )
    fitted.trainer.optimizers = optimisers
    fitted.on_train_start()
    assert (
        group["start"] == pytest.approx(share * fitted.distortion.learning_rate * views**0.5)
        and splats.param_groups[0]["start"] < 1
    )
    fitted.distortion.steps = None
    assert fitted.configure_optimizers()[1].param_groups[0]["start"] == pytest.approx(
        fitted.distortion.learning_rate * views**0.5
    )
    fitted.distortion.learning_rate = -5.0
    with pytest.raises(ComponentError, match="the distortion is -5; choose 0 or more"):
        fitted.configure_optimizers()


def test_rates_may_be_meant_for_several_views():
    fitted = module(settings(batch_size=4, learning_rate={"views": 4}, adam={"betas": [0.8, 0.9]}))
    fitted.trainer = SimpleNamespace(world_size=1)
    groups = {group["name"]: group for group in fitted.configure_optimizers()[0].param_groups}
    assert groups["scales"]["lr"] == 0.01 and groups["scales"]["betas"] == (0.8, 0.9)
    fitted.trainer = SimpleNamespace(world_size=4)
    groups = {group["name"]: group for group in fitted.configure_optimizers()[0].param_groups}
    assert groups["scales"]["lr"] == 0.02 and groups["scales"]["betas"] == (0.8**4, 0.9**4)


def test_rates_decay_to_their_own_fractions():
    fitted = module(settings(learning_rate={"decay": {"colors": 0.25, "distortion": 0.5}}))
    fitted.trainer = SimpleNamespace(world_size=1)
    optimisers = fitted.configure_optimizers()
    decay_rates(optimisers, 0.5, fitted.settings.learning_rate.decay)
    ratios = {g["name"]: g["lr"] / g["start"] for g in optimisers[0].param_groups}
    assert ratios == pytest.approx(
        {"means": 0.1, "scales": 1, "quats": 1, "opacities": 1, "sh0": 0.5, "shN": 0.5}
    )
    (group,) = optimisers[1].param_groups
    assert group["lr"] / group["start"] == pytest.approx(0.5**0.5)


def test_terms_of_the_loss_have_their_weights():
    fitted = module(settings(loss={"l1": 0.8, "ssim": 0.4, "depth": 0.5, "opacity": 0, "scale": 0}))
    views = torch.tensor([1])
    render = fitted.render(views)
    fitted.depth_ratio = 0.25
    total, terms, _ = fitted.loss(render, views)
    expected = 0.8 * terms["l1"] + 0.4 * terms["dssim"] + 0.125 * terms["depth"]
    torch.testing.assert_close(total, expected)


def test_depth_may_be_measured_in_the_unit_of_the_points():
    views = torch.tensor([1])
    by_unit = []
    for unit in ("typical", "points"):
        fitted = module(settings(loss={"depth_unit": unit}))
        render = fitted.render(views)
        by_unit.append(fitted.loss(render, views)[1]["depth"])
    ratio = depth_unit("points", scene()[1], 3.0) / 3.0
    torch.testing.assert_close(by_unit[1], ratio * by_unit[0])


def test_degrees_above_the_current_one_have_zero_gradients():
    fitted = module(settings(sh_degree=2))
    gaussians = fitted.splats.gaussians(1)
    assert gaussians.sh_degree == 1
    gaussians.sh_coeffs.sum().backward()
    gradient = fitted.splats["shN"].grad
    assert (gradient[:, :3] == 1).all() and not gradient[:, 3:].any()
    fitted.splats.zero_grad()
    fitted.splats.gaussians(0).sh_coeffs.sum().backward()
    assert not fitted.splats["shN"].grad.any(), "zeros, so that Adam counts the step"
