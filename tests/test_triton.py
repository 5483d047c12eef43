"""CUDA kernels against their twins in plain torch; on a machine without CUDA by Triton's interpreter, where Triton is installed."""

import pytest
import torch

from lift import harmonics
from lift.training import losses
from lift.training.similarity import convolved_ssim


@pytest.fixture(params=[pytest.param("cuda", marks=pytest.mark.gpu), "cpu"])
def device(request) -> torch.device:
    if (request.param == "cuda") != torch.cuda.is_available():
        pytest.skip("needs CUDA" if request.param == "cuda" else "CUDA is there: the kernels run on it")
    pytest.importorskip("triton", reason="Triton is not installed")
    return torch.device(request.param)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_colours_and_their_gradients_are_those_of_plain_torch(device, shared, degree):
    from lift import harmonics_triton

    generator = torch.Generator().manual_seed(degree)
    views, count = 3, 150  # more than a block, not a multiple of one
    one = () if shared else (views,)
    sizes = {"sh": (*one, count, (degree + 1) ** 2, 3), "means": (*one, count, 3), "centers": (views, 3)}
    inputs = [torch.randn(size, generator=generator).to(device).requires_grad_() for size in sizes.values()]
    exact = [value.detach().double().requires_grad_() for value in inputs]
    outer = torch.randn(views, count, 3, generator=generator).to(device)
    colors, truth = harmonics_triton.seen_from(*inputs), harmonics.seen_from(*exact)
    torch.testing.assert_close(colors, truth.float(), atol=1e-5, rtol=1e-5)
    assert (colors == 0).any() and (colors > 0).any()
    colors.backward(outer)
    truth.backward(outer.double())
    for name, value, other in zip(sizes, inputs, exact):
        torch.testing.assert_close(value.grad, torch.zeros_like(value) if other.grad is None else other.grad.float(), atol=1e-4, rtol=1e-4, msg=name)


def test_no_gaussians_have_no_colours(device):
    from lift import harmonics_triton

    means = torch.zeros(0, 3, device=device, requires_grad=True)
    colors = harmonics_triton.seen_from(torch.zeros(0, 4, 3, device=device), means, torch.zeros(2, 3, device=device))
    assert colors.shape == (2, 0, 3)
    colors.sum().backward()
    assert means.grad.shape == (0, 3)


@pytest.mark.parametrize("views, height, width, apart", [(2, 20, 50, False), (1, 37, 181, True), (1, 3, 4, False)])
def test_the_loss_and_its_gradient_are_those_of_plain_torch(device, views, height, width, apart):
    from lift.training import similarity_triton

    generator = torch.Generator().manual_seed(0)
    render = torch.rand(views, height, width, 4 if apart else 3, generator=generator).to(device)
    rgb = render[..., :3].requires_grad_()  # of four channels: pixels lie apart
    frames = torch.randint(0, 256, (views, height, width, 3), generator=generator).to(device, torch.uint8)
    l1, ssim = similarity_triton.photometric(rgb, frames)
    exact, target = rgb.detach().double().requires_grad_(), frames.double() / 255
    true_l1, true_ssim = (exact - target).abs().mean(), convolved_ssim(exact, target)
    torch.testing.assert_close(l1, true_l1.float())
    torch.testing.assert_close(ssim, true_ssim.float())
    (gradient,) = torch.autograd.grad(0.8 * l1 - 0.2 * ssim, rgb)
    (truth,) = torch.autograd.grad(0.8 * true_l1 - 0.2 * true_ssim, exact)
    torch.testing.assert_close(gradient, truth.float(), atol=1e-5 * float(truth.abs().max()), rtol=1e-4)


@pytest.mark.gpu
def test_cuda_takes_the_kernels(cuda):
    """What a training step calls is the fused path, in value and in gradient."""
    rgb = torch.rand(1, 16, 16, 3, device=cuda, requires_grad=True)
    frames = torch.randint(0, 256, (1, 16, 16, 3), device=cuda, dtype=torch.uint8)
    assert "Photometric" in type(losses.photometric(rgb, frames)[0].grad_fn.next_functions[0][0]).__name__
    means = torch.randn(5, 3, device=cuda, requires_grad=True)
    assert "SeenFrom" in type(harmonics.seen_from(torch.randn(5, 4, 3, device=cuda), means, torch.zeros(1, 3, device=cuda)).grad_fn).__name__
