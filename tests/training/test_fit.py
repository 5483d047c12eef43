"""Fits of a small scene: growth, logs, checkpoints and errors."""

import json

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lift.config import compose_run
from lift.distortions.hexplane import HexPlane
from lift.distortions.rigid import Rigid
from lift.registry import ComponentError
from lift.renderers import renderers
from lift.runtime.serialization import load
from lift.training.data import ViewSampler
from lift.training.fit import CHECKPOINT, _finite_gaussians, fit
from lift.training.initial import initial_gaussians
from lift.training.module import SceneModule
from lift.types import Clip, Trajectory
from tests.helpers.fits import SIZE, KilledError, module, scene, settings

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


PUBLISHED = {
    "canonical_steps": 7,
    "batch_size": 2,
    "sh_degree": 2,
    "sh_degree_interval": 4,
    "loss": {"depth": 0.01, "depth_final": 0.001, "depth_steps": 9},
    "learning_rate": {"views": 2, "decay": {"steps": 25}},
    "densify": {
        "strategy": "gradient",
        "stop": 1.0,
        "gradient": {"prune_every": 6, "reset_every": 7, "grow_grad2d": 1e-3},
    },
}
"""Settings of the published fit, for 20 steps."""


@pytest.mark.slow
def test_a_resumed_fit_by_gradients_equals_a_whole_one(tmp_path):
    how = settings(**PUBLISHED)
    whole, broken, resumed = module(how), module(how), module(how)
    fit(whole, [1, 2, 3], tmp_path / "whole", how, CPU, 0)
    step = broken.optimise

    def fail(views):
        if int(broken.step) == 6:  # in the stage of the canonical Gaussians
            raise KilledError
        return step(views)

    broken.optimise = fail
    with pytest.raises(KilledError):
        fit(broken, [1, 2, 3], tmp_path / "broken", how, CPU, 0)
    fit(resumed, [1, 2, 3], tmp_path / "broken", how, CPU, 0)
    assert resumed.splats.count == whole.splats.count > 100
    for (name, a), (_, b) in zip(
        whole.state_dict().items(), resumed.state_dict().items(), strict=True
    ):
        assert a.equal(b), name


@pytest.mark.slow
def test_the_published_fit_works_in_small(tmp_path):
    """All settings of the experiment, with fewer steps and Gaussians."""
    small = ["steps=18", "canonical_steps=6", "sh_degree_interval=2", "checkpoint_every=18"]
    small += ["initial_gaussians=400", "max_gaussians=500", "densify.every=2", "densify.start=3"]
    small += [f"densify.gradient.{name}=6" for name in ("prune_every", "prune_size_start")]
    small += [
        "densify.gradient.reset_every=6",
        "loss.depth_steps=28",
        "learning_rate.decay.steps=40",
    ]
    overrides = [f"fit.{setting}" for setting in small]
    how = compose_run(["image=coffee", "experiment=liftimage3d", *overrides]).fit
    frames, reconstruction = scene(4)
    start = initial_gaussians(frames, reconstruction, how)
    trajectory = Trajectory(
        reconstruction.cameras[0], (Clip("right", 0, reconstruction.cameras[1:]),)
    )
    field = HexPlane(True, num_views=4, trajectory=trajectory, points=reconstruction.points)
    renderer = renderers.build({"name": "numba"})
    fitted = SceneModule(start, field, renderer, frames, reconstruction, how, 3.0, seed=7)
    fit(fitted, [1, 2, 3], tmp_path, how, CPU, 0)
    assert len(start) > 100 and fitted.step == 18
    assert 50 < fitted.splats.count <= 500 and fitted.splats.count != len(start)
    moved = field.gaussians(fitted.splats.gaussians(), torch.tensor([1])).means[0]
    assert not torch.equal(moved, fitted.splats["means"])


def test_the_canonical_stage_has_its_own_optimiser(tmp_path):
    how = settings(steps=10, canonical_steps=6, checkpoint_every=10)
    fitted, seen = module(how), []
    plain = fitted.optimise

    def watch(views):
        is_zero = not fitted.distortion.motions.values.any()
        state = fitted.trainer.optimizers[0].state
        seen.append((is_zero, next((int(s["step"]) for s in state.values()), 0)))
        return plain(views)

    fitted.optimise = watch
    fit(fitted, [1, 2, 3], tmp_path, how, CPU, 0)
    assert [is_zero for is_zero, _ in seen[:7]] == [True] * 7
    assert fitted.distortion.motions.values.any(), "it learns afterwards"
    assert [count for _, count in seen] == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]


def test_a_checkpoint_loads_without_pickled_code(tmp_path):
    how = settings(steps=5)
    fit(module(how), [1, 2, 3], tmp_path, how, CPU, 0)
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["shapes"]["means"][1] == 3


def test_pictures_grow_by_phases(tmp_path):
    """Each phase renders at its own size, against frames of that size. The last is full size."""
    how = settings(steps=10, coarse_to_fine={"scales": [0.25, 0.5], "until": [0.2, 0.6]})
    fitted, seen = module(how), []
    plain = fitted.picture_loss
    fitted.picture_loss = lambda render, *rest: (
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
