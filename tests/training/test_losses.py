"""Losses, compared with independent computations."""

import pytest
import torch

from lift.training import losses


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


def test_weighted_means_and_their_gradients_are_exact():
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
