"""The rebuilt published recipe (benchmarks/published.py) and its frames (benchmarks/frames.py)."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from frames import load_frame_set, make_frame_set, save_frame_set  # noqa: E402
from published import (  # noqa: E402
    Schedule,
    Trainer,
    initial_gaussians,
    render_view,
    time_step,
    train,
)

from lift.distortions.parameters.planes import TreePlanes, tree_codes  # noqa: E402
from lift.evaluation.metrics import psnr  # noqa: E402
from lift.geometry import pinhole, pixel_centers, project  # noqa: E402
from lift.planners.articulated import Articulated  # noqa: E402
from lift.priors.synthetic import Synthetic  # noqa: E402
from lift.renderers import renderers  # noqa: E402
from lift.spherical_harmonics import C0  # noqa: E402
from lift.types import Cameras, Clip, Depth, Frames, Gaussians, Trajectory  # noqa: E402

pytestmark = pytest.mark.slow

QUICK = Schedule(
    grow_from=5, grow_until=30, grow_every=5, prune_every=15, reset_every=20, degree_every=10
)


@pytest.fixture(scope="module")
def small():
    return make_frame_set((64, 48), frames=3, levels=1, workers=1)


def planned(levels: int, frames: int, *directions: str) -> Trajectory:
    depth = Depth(torch.full((6, 8), 4.0), torch.ones(6, 8, dtype=torch.bool), "metric")
    return Articulated(levels, directions or ("right", "left", "up", "down"), frames)(
        pinhole(8, 6, 8.0), depth, None
    )


def test_codes_of_frames_are_their_positions_in_the_tree():
    trajectory = planned(2, 15)
    codes = tree_codes(trajectory)
    assert len(codes) == 241 and codes[0] == (0.5, 0.5)
    assert (
        len(set(codes)) == 237
    )  # two frames share each of the four corners, as in the released code
    ends = {
        clip.name: codes[span[-1]]
        for clip, span in zip(trajectory.clips, trajectory.spans, strict=False)
    }
    assert ends["right"] == (45 / 60, 0.5) and ends["down"] == (0.5, 15 / 60)
    assert ends["left/left"] == (0.0, 0.5) and ends["left/up"] == ends["up/left"] == (
        15 / 60,
        45 / 60,
    )
    with pytest.raises(ValueError, match="'in'"):
        tree_codes(planned(1, 3, "right", "in"))


def test_both_evaluations_of_the_field_are_one_function():
    torch.manual_seed(3)
    field = TreePlanes(torch.tensor([-3.0, -2, 1]), torch.tensor([4.0, 2, 9]), "plain").double()
    for plane in field.planes:
        plane.data.mul_(3)  # the released initial values are too small to see differences
    means = (
        torch.rand(300, 3, dtype=torch.float64) * 10 - torch.tensor([5.0, 4, 0])
    ).requires_grad_()  # some beyond the border
    codes = [(0.5, 0.5), (0.0, 1.0), (17 / 60, 41 / 60)]
    parameters = [means, *field.parameters()]
    outcomes = []
    for evaluation in ("plain", "factored"):
        field.evaluation = evaluation
        values = torch.cat([delta.flatten() for view in field(means, codes) for delta in view])
        weights = torch.linspace(-1, 1, len(values), dtype=torch.float64)
        outcomes.append((values, torch.autograd.grad((weights * values).sum(), parameters)))
    (plain, plain_gradients), (factored, factored_gradients) = outcomes
    assert (
        plain.std() > 0.01 and (plain[:900] - plain[3000:3900]).abs().max() > 1e-3
    )  # depends on place and on the view
    torch.testing.assert_close(factored, plain)
    for ours, theirs in zip(factored_gradients, plain_gradients, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert all(gradient.abs().max() > 0 for gradient in plain_gradients)


def test_the_field_starts_as_described():
    """Features about zero, a constant offset of about 0.09, 7.08 million numbers in its planes."""
    torch.manual_seed(0)
    offsets = []
    for _ in range(20):
        field = TreePlanes(-10 * torch.ones(3), 10 * torch.ones(3), "factored")
        with torch.no_grad():
            offsets.append(field(20 * torch.rand(50, 3) - 10, [(0.6, 0.5)])[0][0])
    assert 0.06 < torch.stack(offsets).square().mean().sqrt() < 0.12
    assert max(float(offset.std(0).max()) for offset in offsets) < 1e-3
    assert sum(plane.numel() for plane in field.planes) == pytest.approx(7.08e6, rel=0.01)
    with pytest.raises(ValueError, match="'fast'; choose plain or factored"):
        TreePlanes(-torch.ones(3), torch.ones(3), "fast")


def test_regularisers_cover_the_same_planes_as_released():
    field = TreePlanes(-torch.ones(3), torch.ones(3), "plain")
    field.penalty().backward()
    reached = [index for index in range(10) if field.planes[index].grad is not None]
    assert reached == [0, 1, 2, 3, 4, 5]
    for plane in field.planes:
        plane.data.fill_(1.0)
    assert field.penalty().item() == 0
    field.planes[0].data[:, :, 10] = 2.0  # one row: second differences 1, -2, 1 in 3 of 62
    assert field.penalty().item() == pytest.approx(2e-4 * 6 / 62, rel=1e-4)


def scattered(count: int) -> Gaussians:
    generator = torch.Generator().manual_seed(1)
    means = torch.rand(count, 3, generator=generator) * torch.tensor(
        [2.0, 1.5, 2.0]
    ) + torch.tensor([-1.0, -0.75, 3.0])
    quats = torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1)
    return Gaussians(
        means,
        quats,
        torch.full((count, 3), 0.04),
        torch.full((count,), 0.6),
        torch.randn(count, 4, 3, generator=generator),
    )


def test_a_view_has_inverse_depth_and_position_gradients():
    renderer = renderers.build({"name": "numba"})
    camera = pinhole(64, 48, 60.0)
    gaussians = scattered(200)
    camera.intrinsics.requires_grad_()
    rendered = render_view(renderer, gaussians, camera)
    (rendered.rgb * torch.linspace(-1, 1, 64)[:, None]).sum().backward()
    with torch.no_grad():
        alone = render_view(renderer, gaussians[:1], pinhole(64, 48, 60.0))
    assert alone.alpha.max() > 0.1
    torch.testing.assert_close(alone.inverse_depth, alone.alpha / gaussians.means[0, 2])
    # A shift of all image positions is a shift of the principal point,
    # except for a small change of shape.
    gradient = rendered.positions.grad[0].sum(0)
    torch.testing.assert_close(
        gradient,
        camera.intrinsics.grad[0, :2, 2],
        rtol=0.05,
        atol=0.05 * float(gradient.abs().max()),
    )
    assert (rendered.radii > 0).float().mean() > 0.5


def trainer_of(small, schedule=QUICK, field="factored", max_gaussians=3000) -> Trainer:
    start = initial_gaussians(small.frames, small.reconstruction)
    reconstruction = small.reconstruction
    training, _ = small.views
    return Trainer(
        start,
        small.frames,
        reconstruction.cameras,
        reconstruction.depth,
        tree_codes(small.trajectory),
        training,
        field,
        renderers.build({"name": "numba"}),
        schedule,
        max_gaussians,
    )


def test_the_start_is_the_input_view(small):
    start = initial_gaussians(small.frames, small.reconstruction)
    assert len(start) == 64 * 48 and start.sh_degree == 3 and (start.opacities == 0.1).all()
    pixels, depth = project(start.means, small.trajectory.start)
    torch.testing.assert_close(pixels[0], pixel_centers(64, 48).reshape(-1, 2), atol=1e-3, rtol=0)
    torch.testing.assert_close(depth[0], small.frames.depth[0].flatten())
    torch.testing.assert_close(0.5 + C0 * start.sh_coeffs[:, 0], small.frames.rgb[0].reshape(-1, 3))
    squares = torch.cdist(start.means[1000:1001], start.means)[0].sort().values[1:4].square()
    assert float(start.scales[1000, 0]) == pytest.approx(float(squares.mean().sqrt()), rel=1e-2)
    empty = replace(
        small.reconstruction, confidence=torch.zeros_like(small.reconstruction.confidence)
    )
    with pytest.raises(ValueError, match="0 pixels"):
        initial_gaussians(small.frames, empty)


def test_growth_keeps_the_moments_of_the_optimiser(small):
    trainer = trainer_of(small)
    trainer.start_stage("coarse")
    trainer.step(1)
    before = trainer.splats["means"].detach().clone()
    state = trainer.optimiser.state[trainer.splats["means"]]
    moments = state["exp_avg"].clone()
    trainer.gradient_sum[:] = 0
    trainer.visible_count[:] = 1
    trainer.gradient_sum[[3, 5]] = 1.0
    trainer.splats["scales"].data[:] = -9.0
    trainer.splats["scales"].data[5] = torch.tensor(
        [0.0, -9.0, -9.0]
    )  # long: replaced by two along its axis
    with torch.no_grad():
        trainer._grow()
    means = trainer.splats["means"]
    state = trainer.optimiser.state[trainer.splats["means"]]
    count = len(before)
    assert trainer.splats.count == count + 2 and all(
        len(value) == count + 2 for value in trainer.splats.values()
    )
    rest = torch.arange(count) != 5
    assert torch.equal(means[: count - 1], before[rest]) and torch.equal(
        state["exp_avg"][: count - 1], moments[rest]
    )
    assert (state["exp_avg"][count - 1 :] == 0).all()
    assert torch.equal(means[count - 1], before[3])
    halves = means[count:].detach() - before[5]
    assert (
        (halves[:, 0].abs() > 1e-3).all()
        and (halves[:, 1:].abs() < 1e-2).all()
        and halves[0, 0] != halves[1, 0]
    )
    assert trainer.splats["scales"][count, 0].item() == pytest.approx(-0.47, abs=0.01)
    trainer.splats["opacities"].data[:7] = -9.0
    trainer.extent = 100.0  # no Gaussian is too large
    with torch.no_grad():
        trainer._prune()
    assert trainer.splats.count == count + 2 - 7 == len(trainer.radii)
    assert torch.equal(trainer.splats["means"][0], before[8])
    trainer.step(2)  # the optimiser goes on with what there is now


def test_large_gaussians_are_pruned_from_the_first_time_on(small):
    trainer = trainer_of(small)
    trainer.start_stage("coarse")
    trainer.extent = 100.0
    for iteration in range(1, QUICK.prune_every):
        trainer.step(iteration)
    trainer.splats["opacities"].data[:] = 3.0
    trainer.splats["scales"].data[:2] = torch.tensor([[3.8], [4.0]])  # 45 and 55 units
    trainer._grow = lambda: None
    count = trainer.splats.count
    trainer.radii[:] = 0
    trainer._update_statistics = lambda rendered: None
    trainer.step(QUICK.prune_every)
    assert trainer.splats.count == count - 1
    assert QUICK.prune_every < QUICK.reset_every


def test_opacities_are_reset_at_the_end_of_the_coarse_stage(small):
    trainer = trainer_of(small)
    trainer.start_stage("coarse")
    for iteration in range(1, QUICK.reset_every + 1):
        trainer.step(iteration)
        if iteration == QUICK.reset_every - 1:
            assert trainer.splats["opacities"].sigmoid().max() > 0.1
    assert trainer.splats["opacities"].sigmoid().max() < 0.0101
    assert trainer.degree == 2
    first = trainer.field.planes[0].detach().clone()
    trainer.start_stage("fine")
    trainer.step(1)
    assert not torch.equal(trainer.field.planes[0], first)


def test_a_scene_is_trained(small):
    training, held_out = small.views
    truth = (small.true_cameras, small.true_frames)
    reconstruction = small.reconstruction
    result = train(
        small.frames,
        reconstruction,
        small.trajectory,
        training,
        held_out,
        truth=truth,
        coarse=40,
        fine=20,
        field="factored",
        schedule=replace(QUICK, reset_every=1000),
        evaluate_every=10,
        input_copies=3,
        max_gaussians=6000,
    )
    first = result.history[0]
    coarse = result.history[3]
    last = result.history[-1]
    assert [(r.stage, r.iteration) for r in (first, coarse, last)] == [
        ("coarse", 10),
        ("coarse", 40),
        ("fine", 20),
    ]
    assert (
        len(result.history) == 6
        and last.gaussians == len(result.gaussians) > first.gaussians > 3000
    )
    assert (
        last.loss < first.loss
        and last.held_out_psnr > first.held_out_psnr + 2
        and last.true_psnr > first.true_psnr + 2
    )
    assert 0 < first.seconds < coarse.seconds < last.seconds
    shown = [
        psnr(
            renderers.build({"name": "numba"})(result.gaussians, reconstruction.cameras[view])
            .rgb[0]
            .detach(),
            small.frames.rgb[view],
        )
        for view in held_out
    ]
    assert sum(shown) / len(shown) == pytest.approx(
        last.held_out_psnr, abs=0.1
    )  # the result is back in the world of the cameras


def test_a_run_ends_in_time_and_growth_at_its_limit(small):
    training, held_out = small.views
    result = train(
        small.frames,
        small.reconstruction,
        small.trajectory,
        training,
        [],
        coarse=10_000,
        seconds_limit=0.0,
        schedule=QUICK,
        max_gaussians=3000,
    )
    assert [(r.iteration, r.gaussians, r.held_out_psnr, r.true_psnr) for r in result.history] == [
        (10, 64 * 48, None, None)
    ]


def test_a_step_is_timed():
    times = time_step(500, "factored", "fine", size=(64, 48), seconds=0.1)
    assert times["median"] > 0 and times["calls"] >= 3


def test_clips_of_several_processes_are_those_of_a_run(tmp_path):
    result = make_frame_set((32, 24), frames=2, workers=2, seed=4)
    frames = result.frames[:1]
    cameras = result.trajectory.start
    prior = Synthetic(image="room")
    for number, clip in enumerate(result.trajectory.clips):
        frames = Frames.cat([frames, prior(frames, cameras, clip, 4 + number)])
        cameras = Cameras.cat([cameras, clip.cameras])
    assert torch.equal(frames.images, result.frames.images) and torch.equal(
        frames.depth, result.frames.depth
    )
    save_frame_set(result, tmp_path / "set")
    again = load_frame_set(tmp_path / "set")
    assert torch.equal(again.frames.images, result.frames.images) and torch.equal(
        again.true_frames.depth, result.true_frames.depth
    )
    assert [clip.name for clip in again.trajectory.clips] == [
        clip.name for clip in result.trajectory.clips
    ]
    assert (
        isinstance(again.trajectory.clips[0], Clip)
        and again.views == result.views
        and len(again.views[1]) == 4
    )
    nearest = torch.cdist(again.true_cameras.centers, again.trajectory.cameras.centers).amin(1)
    assert (nearest > 0.02).all()  # none of the true views was given


@pytest.mark.gpu
def test_a_view_on_cuda_is_that_on_the_cpu(cuda):
    rendered = {}
    for name, device in (("numba", torch.device("cpu")), ("gsplat", cuda)):
        gaussians = scattered(200).to(device).map(lambda value: value.requires_grad_())
        view = render_view(
            renderers.build({"name": name}, device=device),
            gaussians,
            pinhole(64, 48, 60.0).to(device),
        )
        (
            (view.rgb * torch.linspace(-1, 1, 64, device=device)[:, None]).sum()
            + view.inverse_depth.sum()
        ).backward()
        rendered[name] = [
            value.detach().cpu()
            for value in (
                view.rgb,
                view.inverse_depth,
                view.alpha,
                view.positions.grad,
                gaussians.means.grad,
            )
        ]
    for ours, theirs in list(zip(rendered["gsplat"], rendered["numba"], strict=True))[:3]:
        assert (ours - theirs).abs().mean() < 1e-3
    for ours, theirs in list(zip(rendered["gsplat"], rendered["numba"], strict=True))[3:]:
        assert torch.nn.functional.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.98


@pytest.mark.gpu
@pytest.mark.parametrize("field", ["plain", "factored"])
def test_a_scene_is_trained_on_cuda(cuda, small, field):
    training, held_out = small.views
    result = train(
        small.frames,
        small.reconstruction,
        small.trajectory,
        training,
        held_out,
        coarse=60,
        fine=40,
        field=field,
        device=cuda,
        schedule=replace(QUICK, reset_every=1000),
        evaluate_every=20,
        input_copies=3,
        max_gaussians=6000,
    )
    first = result.history[0]
    last = result.history[-1]
    assert (
        last.gaussians == len(result.gaussians) > 3072
        and last.held_out_psnr > first.held_out_psnr + 1
    )
