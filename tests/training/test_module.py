"""The module of a fit: draws of the input, weights of frames and learning rates."""

from types import SimpleNamespace

import pytest
import torch

from lift.registry import ComponentError
from lift.training.module import INPUT_ERROR_TARGET, MAX_INPUT_FRACTION
from lift.types import Render
from tests.helpers.fits import module, settings


def test_a_bad_input_view_is_drawn_more_often():
    fitted = module(settings(input_fraction=0.1))
    assert fitted.input_fraction() == 0.1, "nothing is known yet"
    fitted.errors[:] = torch.tensor([0.01, 0.01, 0.02, 0.03])
    assert fitted.input_fraction() == 0.1, "it is explained well"
    fitted.errors[0] = 0.025
    assert fitted.input_fraction() == pytest.approx(0.1 * (0.025 / INPUT_ERROR_TARGET) ** 2)
    fitted.errors[0] = 0.5
    assert fitted.input_fraction() == MAX_INPUT_FRACTION
    assert module(settings(input_fraction=0.0)).input_fraction() == 0.0, "it is not drawn at all"


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
