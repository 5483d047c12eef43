import copy
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lift.distortions.rigid import Rigid
from lift.registry import ComponentError
from lift.runtime.serialization import load
from lift.training import densify, losses
from lift.training.data import ViewSampler, split_frames
from lift.training.fit import CHECKPOINT, _finite_gaussians, fit
from lift.training.module import INPUT_ERROR_TARGET, MAX_INPUT_FRACTION
from lift.training.splats import Splats, initialise
from lift.types import (
    Gaussians,
    PointCloud,
    Reconstruction,
    Render,
)
from tests.helpers.fits import SIZE, KilledError, ball, module, scene, settings

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


def test_growth_reaches_the_budget_from_any_start():
    for start in (20, 100):
        fitted = module(
            settings(initial_gaussians=start, steps=20, densify={"start": 2, "growth_until": 0.5})
        )
        fitted.step = 2
        assert fitted.densifier.target_count(fitted.step) == fitted.splats.count
        fitted.step = 10
        assert fitted.densifier.target_count(fitted.step) == 130


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
    with pytest.raises(
        ComponentError,
        match=(
            "distortion.motions.values is NaN or infinite after 2 steps of the fit; "
            "choose smaller learning rates"
        ),
    ):
        fit(fitted, [1, 2, 3], tmp_path, how, CPU, 0)


def test_a_wrong_trainer_argument_is_named(tmp_path):
    how = settings()
    with pytest.raises(ComponentError, match="trainer.max_epoch is not an argument"):
        fit(module(how), [1], tmp_path, how, {**CPU, "max_epoch": 3}, 0)


def test_splats_hold_physical_values():
    gaussians = ball()
    back = Splats.from_gaussians(gaussians).gaussians()
    for name, value in gaussians.tensors().items():
        torch.testing.assert_close(getattr(back, name), value)


def test_initial_gaussians_are_thinned_evenly_in_the_input():
    grid = torch.stack(
        torch.meshgrid(torch.linspace(-1, 1, 80), torch.linspace(-1, 1, 80), indexing="ij"), -1
    ).reshape(-1, 2)
    near = torch.cat([grid, torch.full((6400, 1), 2.0)], -1)
    far = torch.cat([grid * 4, torch.full((6400, 1), 8.0)], -1) + torch.tensor([40.0, 0, 0])
    cloud = PointCloud(torch.cat([near, far]), torch.rand(12800, 3))
    _, reconstruction = scene()
    made = initialise(
        Reconstruction(
            reconstruction.cameras, cloud, reconstruction.depth, reconstruction.confidence
        ),
        2000,
        1,
    )
    assert 1000 < len(made) <= 2000 and made.sh_coeffs.shape[1:] == (4, 3)
    assert made.scales[made.means[:, 2] > 5].mean() > 3 * made.scales[made.means[:, 2] < 5].mean()


def test_shared_gaussians_look_as_the_one_did():
    """Through the centre, n copies transmit as much light as the one before the split."""
    opacities, copies = torch.tensor([0.9, 0.5, 0.9]), torch.tensor([2, 3, 1])
    shared, scales = densify.split_parameters(opacities, torch.ones(3, 3), copies)
    torch.testing.assert_close(1 - (1 - shared) ** copies, opacities)
    torch.testing.assert_close(scales[2], torch.ones(3))
    # Two copies: o / (s + s - s^2 / sqrt 2) with the shared opacity s.
    # It is equation 9 for n = 2.
    s = 1 - 0.1**0.5
    torch.testing.assert_close(scales[0], torch.full((3,), 0.9 / (s + s - s * s / 2**0.5)))


def test_growth_keeps_the_optimiser_in_step():
    splats = Splats.from_gaussians(ball(20))
    optimiser = torch.optim.Adam([{"name": n, "params": [p]} for n, p in splats.items()], lr=0.1)
    splats.gaussians().means.sum().backward()
    (splats["opacities"].sum() + splats["scales"].sum()).backward()
    optimiser.step()
    old = copy.deepcopy(optimiser.state[splats["means"]]["exp_avg"])
    assert (
        densify.grow(splats, optimiser, 27, torch.ones(20), torch.Generator().manual_seed(0)) == 7
    )
    assert splats.count == 27 and optimiser.param_groups[0]["params"][0] is splats["means"]
    moments = optimiser.state[splats["means"]]["exp_avg"]
    assert moments[:20].equal(old) and not moments[20:].any()


def test_the_dead_are_moved_onto_the_living():
    gaussians = ball(20)
    gaussians.opacities[:5] = 0.001
    splats = Splats.from_gaussians(gaussians)
    optimiser = torch.optim.Adam([{"name": n, "params": [p]} for n, p in splats.items()])
    assert (
        densify.relocate(
            splats,
            optimiser,
            0.01,
            lambda: splats["opacities"].detach().sigmoid(),
            torch.Generator().manual_seed(0),
        )
        == 5
    )
    assert (splats.gaussians().opacities > 0.01).all()
    assert all(
        any(torch.equal(place, other) for other in gaussians.means[5:])
        for place in splats["means"][:5]
    )


@pytest.mark.slow
def test_ssim_agrees_with_torchmetrics_away_from_the_border():
    from torchmetrics.functional.image import structural_similarity_index_measure as theirs

    a, b = torch.rand(2, 64, 64, 3), torch.rand(2, 64, 64, 3)
    a[:, :8], a[:, -8:], a[:, :, :8], a[:, :, -8:] = 0, 0, 0, 0
    b[:, :8], b[:, -8:], b[:, :, :8], b[:, :, -8:] = 0, 0, 0, 0
    expected = theirs(
        a.permute(0, 3, 1, 2), b.permute(0, 3, 1, 2), data_range=1.0, return_full_image=True
    )[1]
    assert float(losses.ssim(a, b)) == pytest.approx(float(expected.mean()), abs=2e-3)
    assert float(losses.ssim(a, a)) == pytest.approx(1)


def test_weighted_means_and_their_gradients():
    a, b = torch.rand(5, requires_grad=True), torch.rand(4, 3, requires_grad=True)
    total = losses.weighted_means((0.3, a), (2.0, b))
    torch.testing.assert_close(total, 0.3 * a.mean() + 2 * b.mean())
    (3 * total).backward()
    torch.testing.assert_close(a.grad, torch.full((5,), 0.9 / 5))
    torch.testing.assert_close(b.grad, torch.full((4, 3), 6.0 / 12))


def test_inverse_depth_looks_only_where_both_know():
    rendered, target = torch.tensor([[[2.0, 4.0, 1.0]]]), torch.tensor([[[4.0, 4.0, 0.0]]])
    ones = torch.ones_like(rendered)
    assert float(losses.inverse_depth(rendered, ones, target, ones, 2.0)) == pytest.approx(
        2 * 0.25 / 2
    )
    assert float(losses.inverse_depth(rendered, 0 * ones, target, ones, 2.0)) == 0


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


def test_views_are_drawn_by_seed_epoch_and_rank_alone():
    def drawn(epoch, rank=0, world=1, share=0.2):
        sampler = ViewSampler(
            [1, 2, 3, 4, 5], 2, 50, lambda: share, seed=3, rank=rank, world_size=world
        )
        sampler.set_epoch(epoch)
        return list(sampler)

    assert drawn(1) == drawn(1) != drawn(2)
    flat = [view for batch in drawn(0) for view in batch]
    assert (
        len(flat) == 100
        and 8 <= flat.count(0) <= 35
        and min(flat.count(v) for v in range(1, 6)) >= 10
    )
    ranks = [drawn(0, rank, 2) for rank in (0, 1)]
    together = ViewSampler([1, 2, 3, 4, 5], 2, 100, lambda: 0.2, seed=3)
    assert [batch for pair in zip(*ranks, strict=True) for batch in pair] == list(together)
    assert {v for b in ViewSampler([], 1, 4, lambda: 0.1, 0) for v in b} == {0}


def test_held_out_frames_are_spread_and_never_the_input():
    train, held_out = split_frames(list(range(1, 21)), 8)
    assert held_out == [5, 13] and sorted(train + held_out) == list(range(1, 21))
    assert split_frames([1, 2], 0) == ([1, 2], [])


def test_compiled_losses_match_torch_values_and_gradients():
    from lift.training.similarity import ssim_conv2d
    from lift.training.splats import activate

    rng = torch.Generator().manual_seed(0)
    rgb, frames = (
        torch.rand(2, 37, 29, 3, generator=rng),
        (255 * torch.rand(2, 37, 29, 3, generator=rng)).to(torch.uint8),
    )
    depth, target = 4 * torch.rand(2, 37, 29, generator=rng), torch.rand(2, 37, 29, generator=rng)
    depth[0, :5], target[1, :9] = 0.01, 0  # nearer than what counts; not known
    alpha, confidence = torch.rand(2, 37, 29, generator=rng), torch.rand(2, 37, 29, generator=rng)
    quats = torch.randn(50, 4, generator=rng)

    def values(rgb, depth, quats, to):
        l1, ssim = losses.photometric(rgb, frames)
        if to == torch.float64:
            ssim = ssim_conv2d(rgb, frames.to(to) / 255)
        near = losses.inverse_depth(depth, alpha.to(to), target.to(to), confidence.to(to), 2.0)
        return torch.stack(
            [
                l1 @ torch.tensor([1, 3]).to(to),
                ssim,
                near,
                (activate(quats, quats, quats)[1] * torch.arange(4.0).to(to)).square().sum(),
            ]
        )

    for chosen in range(4):
        found = []
        for to in (torch.float32, torch.float64):
            leaves = [value.to(to, copy=True).requires_grad_() for value in (rgb, depth, quats)]
            made = values(*leaves, to)[chosen]
            made.backward()
            found.append([made.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)])
        for a, b in zip(*found, strict=True):
            assert (a - b).norm() <= 1e-5 * b.norm(), chosen


def test_the_numba_renderers_compose_is_the_general_one():
    from lift.renderers import compose, renderers

    rng = torch.Generator().manual_seed(0)
    rand = lambda *shape: torch.rand(*shape, generator=rng)  # noqa: E731
    inputs, mixed = (
        [rand(2, 9, 7, 3), rand(2, 9, 7), rand(2, 9, 7)],
        [rand(2, 9, 7, 3), rand(2, 9, 7), rand(2, 9, 7)],
    )
    inputs[1][0, 0] = 0  # nothing hit
    for background in (None, rand(3), rand(2, 3)):
        found = []
        for way in (compose, renderers.build({"name": "numba"}).compose):
            leaves = [
                value.clone().requires_grad_()
                for value in (*inputs, *([] if background is None else [background]))
            ]
            made = way(*leaves[:3], None if background is None else leaves[3])
            sum((a * b).sum() for a, b in zip(made, mixed, strict=True)).backward()
            found.append([*(value.detach() for value in made), *(leaf.grad for leaf in leaves)])
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b)


def test_loops_that_start_within_leave_torch_on_one_thread():
    """numba sets torch's thread count when it starts, perhaps in the fit's first loop.

    Results must not depend on that.
    """
    code = (
        "import numba, torch, numpy\n"
        "from lift.runtime.parallel import torch_on_one_thread\n"
        "torch.set_num_threads(2)\n"
        "@numba.njit(parallel=True)\n"
        "def fill(x):\n"
        "    for i in numba.prange(len(x)):\n"
        "        x[i] = 1\n"
        "with torch_on_one_thread():\n"
        "    fill(numpy.zeros(100))\n"
        "    print(torch.get_num_threads())\n"
        "print(torch.get_num_threads())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "NUMBA_NUM_THREADS": "2"},
    )
    assert done.stdout.split() == ["1", "2"], done.stderr


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


def test_raw_parameters_are_contiguous_for_fused_adam():
    count = 7
    quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(count, 1)
    scales, opacities = torch.full((count, 1), 0.1).expand(-1, 3), torch.full((count,), 0.5)
    gaussians = Gaussians(torch.rand(count, 3), quats, scales, opacities, torch.rand(count, 16, 3))
    splats = Splats.from_gaussians(gaussians)
    assert all(parameter.is_contiguous() for parameter in splats.values())
    assert torch.equal(splats.gaussians().sh_coeffs, gaussians.sh_coeffs)
