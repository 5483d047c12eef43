"""Steps whose pictures are replayed as a CUDA graph."""

import logging

import pytest
import torch

from lift.distortions import Distortion, distortions
from lift.training.picture_graph import EAGER_STEPS, PictureGraph, PictureTerms
from lift.types import Render
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
        graph(kind, Render(*pictures(0)), views, 1.0)
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
    assert not with_graphs._picture_graph._fails
    for name, value in with_graphs.distortion.named_parameters():
        other = dict(without.distortion.named_parameters())[name]
        # The rasteriser adds in another order each time.
        torch.testing.assert_close(value, other, atol=2e-3, rtol=0.05, msg=name)
    assert any(value.abs().max() > 1e-5 for value in with_graphs.distortion.parameters())


def test_only_distortions_that_say_so_are_replayed() -> None:
    class Plain(Distortion):
        pass

    assert not Plain().is_replayable()
    assert distortions.build({"name": "identity"}).is_replayable()


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
