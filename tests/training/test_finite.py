"""A fit that becomes NaN stops at once, and leaves no checkpoint of it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from lift.training.finite import LossCheck, NonFiniteError, check_parameters
from lift.training.fit import CHECKPOINT, fit
from tests.helpers.fits import module, settings

CPU = {"accelerator": "cpu", "devices": 1}
VIEWS = torch.tensor([2])


def divide(fitted, step: int, divisor: float):
    """Divide the colours of a step's render."""
    image = fitted.distortion.image

    def changed(render, view):
        render = image(render, view)
        return replace(render, rgb=render.rgb / divisor) if fitted.step == step else render

    fitted.distortion.image = changed


def test_the_fit_stops_at_the_step_whose_loss_is_nan(tmp_path):
    how = settings(steps=20, log_every=10)
    fitted = module(how)
    divide(fitted, 7, 0.0)
    with pytest.raises(NonFiniteError, match="the loss is NaN or infinite at step 8 of the fit"):
        fit(fitted, [1, 2, 3], tmp_path, how, CPU, 0)
    assert fitted.step == 7


def test_no_checkpoint_of_a_nan_fit_is_continued(tmp_path):
    how = settings(steps=20)
    fitted = module(how)
    divide(fitted, 7, 0.0)
    with pytest.raises(NonFiniteError):
        fit(fitted, [1, 2, 3], tmp_path, how, CPU, 0)
    assert not (tmp_path / CHECKPOINT).exists()
    mended = module(how)
    fit(mended, [1, 2, 3], tmp_path, how, CPU, 0)
    assert mended.step == 20


def test_losses_between_two_readings_are_checked_too():
    check = LossCheck()
    layer = nn.Linear(1, 1)
    check.update(torch.tensor(1.0), VIEWS, 0, layer, False)
    check.update(torch.tensor(torch.nan), VIEWS, 1, layer, False)
    check.update(torch.tensor(1.0), VIEWS, 2, layer, False)
    with pytest.raises(NonFiniteError, match="at steps 2 to 4 of the fit; choose smaller"):
        check.update(torch.tensor(1.0), VIEWS, 3, layer, True)


def test_parameters_are_checked_before_a_checkpoint():
    layer = nn.Linear(1, 1)
    check_parameters(layer, 5)
    nn.init.constant_(layer.bias, torch.inf)
    with pytest.raises(NonFiniteError, match="distortion.bias is NaN or infinite after 5 steps"):
        check_parameters(layer, 5)
