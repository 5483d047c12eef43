"""Steps whose pictures are replayed as a CUDA graph."""

import logging

import pytest
import torch

from lift.distortions import Distortion, distortions
from lift.distortions.identity import Identity
from lift.geometry import pinhole
from lift.training.picture_graph import EAGER_STEPS, PictureGraph, PictureTerms
from lift.types import Cameras, Clip, PointCloud, Render, Trajectory
from tests.training.test_training_gpu import GPU, room


class FromNumbers(torch.nn.Module):
    """Terms that depend on a parameter, as a distortion's do."""

    def __init__(self, reads: bool = False) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(2.0))
        self.unused = torch.nn.Parameter(torch.tensor(1.0))
        self.reads = reads
        self.calls = 0

    def forward(self, render: Render, views, depth_ratio) -> PictureTerms:
        self.calls += 1
        factor = float(self.gain) if self.reads else self.gain
        error = factor * render.rgb.square().mean((1, 2, 3)) * (1 + views)
        depth = depth_ratio * render.depth.mean()
        penalty = self.gain.square()
        total = error.sum() + depth + penalty
        return PictureTerms(render, total, penalty, {"depth": depth}, error.detach())


def pictures(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    rgb = torch.rand(2, 3, 4, 3, generator=rng).cuda().requires_grad_()
    alpha = torch.rand(2, 3, 4, generator=rng).cuda().requires_grad_()
    return rgb, alpha, (2 * alpha.detach()).requires_grad_()


@pytest.mark.gpu
def test_a_replay_has_the_terms_and_gradients_of_the_step() -> None:
    function, plain = FromNumbers().cuda(), FromNumbers().cuda()
    graph = PictureGraph(function, function)
    for step in range(6):
        views = torch.tensor([step, 7 - step], device="cuda")
        ratio = 1.0 if step < 4 else 0.5
        with torch.no_grad():
            function.gain.fill_(step + 1)  # as an optimiser does, in place
            plain.gain.fill_(step + 1)
        rgb, alpha, depth = pictures(step)
        others = pictures(step)
        found = graph("kind", Render(rgb, alpha, depth), views, ratio)
        expected = plain(Render(*others[:3]), views, ratio)
        for name in ("total", "penalty", "differences"):
            torch.testing.assert_close(getattr(found, name), getattr(expected, name))
        torch.testing.assert_close(found.terms["depth"], expected.terms["depth"])
        torch.testing.assert_close(found.render.rgb, rgb)
        (3 * found.total).backward()
        (3 * expected.total).backward()
        torch.testing.assert_close(rgb.grad, others[0].grad)
        torch.testing.assert_close(depth.grad, others[2].grad)
        assert alpha.grad is None
        torch.testing.assert_close(function.gain.grad, plain.gain.grad)
        assert function.unused.grad is None
        function.zero_grad()
        plain.zero_grad()
    assert function.calls == EAGER_STEPS + 1  # the last one is captured


@pytest.mark.gpu
def test_another_kind_is_another_graph() -> None:
    function = FromNumbers().cuda()
    graph = PictureGraph(function, function)
    views = torch.tensor([0, 1], device="cuda")
    for kind in ("a", "a", "a", "a", "b", "b", "b", "b", None, None, None, None):
        # As in a fit, the first backward pass comes before a capture.
        graph(kind, Render(*pictures(0)), views, 1.0).total.backward()
    assert function.calls == 2 * (EAGER_STEPS + 1) + 4


@pytest.mark.gpu
def test_what_cannot_be_captured_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    function = FromNumbers(reads=True).cuda()
    graph = PictureGraph(function, function)
    views = torch.tensor([0, 1], device="cuda")
    with caplog.at_level(logging.WARNING):
        totals = [float(graph("a", Render(*pictures(0)), views, 1.0).total) for _ in range(6)]
    assert len(set(totals)) == 1
    assert caplog.text.count("without CUDA graphs") == 1
    # Nothing is left behind: neither in the random numbers, nor in the allocator.
    drawn = torch.rand(5, device="cuda")
    assert len(drawn.unique()) == 5
    later = FromNumbers().cuda()
    graph = PictureGraph(later, later)
    for seed in range(5):
        graph("a", Render(*pictures(seed)), views, 1.0).total.backward()
    assert graph.captures == 1


@pytest.mark.gpu
def test_a_fit_with_graphs_is_that_without(cuda, tmp_path) -> None:
    from lift.training.fit import fit

    parts = {"name": "composed", "starts": (0.1, 0.1, 0.3, 0.3), "prune_after": 0.0}
    until = {"scales": [0.5], "until": [0.3]}
    results = []
    for replayed in (True, False):
        module, settings = room(
            64, 8, "gsplat", cuda, distortion=parts, steps=60, coarse_to_fine=until
        )
        module._picture_graph._fails = not replayed
        fit(module, list(range(1, 8)), tmp_path / str(replayed), settings, GPU, 0)
        results.append(module)
    with_graphs, without = results
    assert with_graphs._picture_graph.captures == 3  # without parts, with two, and with four
    assert without._picture_graph.captures == 0
    others = dict(without.distortion.named_parameters())
    for name, value in with_graphs.distortion.named_parameters():
        assert value.abs().max() > 1e-6, name
        # The rasteriser adds in another order each time.
        alike = torch.cosine_similarity(value.flatten(), others[name].flatten(), dim=0)
        assert alike > 0.9, name


def test_only_distortions_that_say_so_are_replayed() -> None:
    class Plain(Distortion):
        pass

    class Overrides(Identity):
        def penalty(self) -> torch.Tensor:
            return torch.tensor(self.progress)

    class SaysSo(Overrides):
        replayable = True

    class Inherits(Identity):
        pass

    assert Identity().is_replayable() and SaysSo().is_replayable() and Inherits().is_replayable()
    assert not Plain().is_replayable() and not Overrides().is_replayable()


def test_parameters_are_replaced_by_others_of_the_same_memory() -> None:
    from lift.training.picture_graph import _aliased

    module = FromNumbers()
    module.unused.requires_grad_(False)
    gain = module.gain
    with _aliased(module) as aliases:
        assert module.gain is not gain and module.gain.data_ptr() == gain.data_ptr()
        assert len(aliases) == 1 and aliases[0] is module.gain
        assert not module.unused.requires_grad
        module.gain.square().backward()
    assert module.gain is gain
    assert gain.grad is None


@pytest.mark.parametrize("name", ["rigid", "image_warp", "appearance", "blur", "field", "composed"])
def test_distortions_read_parameters_through_their_modules(name: str) -> None:
    from lift.training.picture_graph import _aliased, _check_parameters

    camera = pinhole(20, 16, 18.0)
    cameras = Cameras.cat([camera, camera])
    distortion = distortions.build(
        {"name": name},
        num_views=3,
        extent=2.0,
        size=(20, 16),
        trajectory=Trajectory(camera, (Clip("right", 0, cameras),)),
        points=PointCloud(torch.rand(50, 3) + torch.tensor([-0.5, -0.5, 2.0]), torch.rand(50, 3)),
        multiview_consistent=False,
    )
    assert distortion.is_replayable()
    originals = list(distortion.parameters())
    render = Render(torch.rand(2, 16, 20, 3), torch.rand(2, 16, 20), torch.rand(2, 16, 20) + 1)
    views = torch.tensor([1, 2])
    with _aliased(distortion):
        total = distortion.image(render, views).rgb.sum() + distortion.penalty()
        assert total.requires_grad
        _check_parameters(total, originals)


def test_a_parameter_in_a_list_is_noticed() -> None:
    from lift.training.picture_graph import _aliased, _check_parameters

    module = FromNumbers()
    kept = [module.gain]
    originals = list(module.parameters())
    with _aliased(module), pytest.raises(RuntimeError, match="keeps a parameter in a list"):
        _check_parameters(3 * kept[0].square(), originals)
