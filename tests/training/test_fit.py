"""Fits of a small scene: growth, logs, checkpoints and errors."""

import json

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lift.distortions.rigid import Rigid
from lift.registry import ComponentError
from lift.runtime.serialization import load
from lift.training.data import ViewSampler
from lift.training.fit import CHECKPOINT, _finite_gaussians, fit
from tests.helpers.fits import SIZE, KilledError, module, settings

CPU = {"accelerator": "cpu", "devices": 1}


def test_a_fit_grows_learns_and_logs(tmp_path):
    how = settings(steps=60, checkpoint_every=30)
    fitted = module(how)
    with torch.no_grad():
        before = fitted.loss(fitted.render(torch.arange(4)), torch.arange(4))[1]["l1"]
    fit(fitted, [1, 2, 3], tmp_path, how, CPU, 0)
    with torch.no_grad():
        after = fitted.loss(fitted.render(torch.arange(4)), torch.arange(4))[1]["l1"]
    assert after < 0.75 * before
    assert 100 < fitted.splats.count <= 130
    assert load(tmp_path)["gaussians"].means.equal(fitted.splats["means"])
    assert json.loads((tmp_path / "split.json").read_text()) == {"train": [1, 3], "held_out": [2]}
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {
        "loss",
        "l1",
        "dssim",
        "depth",
        "psnr",
        "gaussians",
        "val/input_psnr",
        "val/held_out_psnr",
    } <= set(events.Tags()["scalars"])
    assert events.Scalars("val/held_out_psnr")[-1].step == events.Scalars("psnr")[-1].step == 60
    assert events.Tags()["images"]


@pytest.mark.parametrize("at", [3, 13])
def test_a_resumed_fit_equals_an_uninterrupted_one(tmp_path, at):
    how = settings()
    whole, broken, resumed = module(how), module(how), module(how)
    fit(whole, [1, 2, 3], tmp_path / "whole", how, CPU, 0)

    step = broken.optimise

    def fail(views):
        if int(broken.step) == at:
            raise KilledError
        return step(views)

    broken.optimise = fail
    with pytest.raises(KilledError):
        fit(broken, [1, 2, 3], tmp_path / "broken", how, CPU, 0)
    assert (tmp_path / "broken" / CHECKPOINT).exists() == (at > 5)
    fit(resumed, [1, 2, 3], tmp_path / "broken", how, CPU, 0)
    assert int(resumed.step) == int(whole.step) == 20
    assert resumed.splats.count == whole.splats.count > 100
    for (name, a), (_, b) in zip(
        whole.state_dict().items(), resumed.state_dict().items(), strict=True
    ):
        assert a.equal(b), name


def test_a_checkpoint_loads_without_pickled_code(tmp_path):
    how = settings(steps=5)
    fit(module(how), [1, 2, 3], tmp_path, how, CPU, 0)
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["shapes"]["means"][1] == 3


def test_pictures_grow_by_phases(tmp_path):
    """Each phase renders at its own size, against frames of that size. The last is full size."""
    how = settings(steps=10, coarse_to_fine={"scales": [0.25, 0.5], "until": [0.2, 0.6]})
    fitted, seen = module(how), []
    plain = fitted.loss
    fitted.loss = lambda render, *rest: (
        seen.append(tuple(render.rgb.shape[1:3])) or plain(render, *rest)
    )
    fit(fitted, [1, 2, 3], tmp_path, how, CPU, 0)
    assert seen == [(SIZE // 4, SIZE // 4)] * 2 + [(SIZE // 2, SIZE // 2)] * 4 + [(SIZE, SIZE)] * 4
    small, full = fitted.targets((SIZE // 2, SIZE // 2)), fitted.targets((SIZE, SIZE))
    blocks = full.images.float().reshape(-1, SIZE // 2, 2, SIZE // 2, 2, 3).mean((2, 4))
    assert (small.images.float() - blocks).abs().max() <= 0.5
    assert torch.isin(small.depth, full.depth).all()


def test_frames_that_are_worse_explained_are_drawn_more_often(tmp_path):
    how = settings(steps=20, checkpoint_every=10, importance_power=2.0, test_every=0)
    fitted, weights_by_epoch = module(how), []
    plain = fitted.draw_weights
    fitted.draw_weights = lambda: weights_by_epoch.append(plain()) or weights_by_epoch[-1]
    fit(fitted, [1, 2, 3], tmp_path, how, CPU, 0)
    assert (fitted.errors > 0).all()
    # One entry an epoch. Frames that were not drawn yet have no error.
    first, second = weights_by_epoch
    assert (first == 1).all() and second.std() > 0
    drawn = list(
        ViewSampler(
            [1, 2, 3],
            1,
            700,
            lambda: 0.0,
            seed=0,
            weights=lambda: torch.tensor([9.0, 1.0, 2.0, 4.0]),
        )
    )
    counts = torch.bincount(torch.tensor(drawn)[:, 0]).tolist()
    assert counts[0] == 0 and 70 < counts[1] < 140 < counts[2] < 270 < counts[3]


def test_non_finite_gaussians_are_dropped_or_an_error(tmp_path):
    how = settings(steps=2, densify={"start": 100, "noise_scale": 0.0})
    fitted = module(how)
    with torch.no_grad():
        fitted.splats["scales"][3] = torch.nan
    with pytest.warns(
        UserWarning, match=f"1 of {fitted.splats.count} Gaussians are NaN or infinite"
    ):
        assert len(_finite_gaussians(fitted)) == fitted.splats.count - 1
    with torch.no_grad():
        fitted.splats["scales"].fill_(torch.nan)
    with pytest.raises(
        ComponentError, match="the scene is NaN or infinite after 0 steps of the fit"
    ):
        _finite_gaussians(fitted)
    fitted = module(how)
    with torch.no_grad():
        fitted.distortion.motions.values[2] = torch.nan
    message = (
        "the loss is NaN or infinite at step 1 of the fit, and so is distortion.motions.values; "
        "choose smaller learning rates"
    )
    with pytest.raises(ComponentError, match=message):
        fit(fitted, [1, 2, 3], tmp_path, how, CPU, 0)


def test_a_wrong_trainer_argument_is_named(tmp_path):
    how = settings()
    with pytest.raises(ComponentError, match="trainer.max_epoch is not an argument"):
        fit(module(how), [1], tmp_path, how, {**CPU, "max_epoch": 3}, 0)


def test_distortion_gets_the_frame_errors(tmp_path):
    heard = []

    class Listening(Rigid):
        def prune(self, errors):
            if len(heard) < 2:
                heard.append(errors())

    how = settings(steps=20)
    fitted = module(how)
    fitted.distortion.__class__ = Listening
    fit(fitted, [1, 2, 3], tmp_path, how, CPU, 0)
    first, second = heard
    assert (
        first.shape == (2,) and not first.requires_grad and bool((first > 0).all())
    )  # of the two that are trained on
    assert not torch.equal(first, second)
