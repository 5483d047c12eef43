"""CUDA kernels of the fit, compared with plain torch.

Without CUDA, Triton's interpreter runs them if Triton is installed.
"""

import pytest
import torch

from lift.distortions import distortions
from lift.geometry import pinhole
from lift.training import losses
from lift.training.similarity import ssim_conv2d
from lift.training.splats import activate
from lift.types import Clip, Render, Trajectory


@pytest.mark.parametrize(
    "views, height, width, apart", [(2, 10, 50, False), (1, 9, 181, True), (1, 3, 4, False)]
)
def test_the_loss_and_its_gradient_are_those_of_plain_torch(device, views, height, width, apart):
    from lift.training.kernels import loss_triton

    generator = torch.Generator().manual_seed(0)
    render = torch.rand(views, height, width, 4 if apart else 3, generator=generator).to(device)
    rgb = render[..., :3].requires_grad_()  # of four channels: pixels lie apart
    frames = torch.randint(0, 256, (views, height, width, 3), generator=generator).to(
        device, torch.uint8
    )
    l1, ssim = loss_triton.photometric(rgb, frames)
    exact, target = rgb.detach().double().requires_grad_(), frames.double() / 255
    true_l1, true_ssim = (exact - target).abs().mean((1, 2, 3)), ssim_conv2d(exact, target)
    weights = torch.linspace(0.5, 1, views, device=device)
    torch.testing.assert_close(l1, true_l1.float())
    torch.testing.assert_close(ssim, true_ssim.float())
    (gradient,) = torch.autograd.grad(weights @ l1 - 0.2 * ssim, rgb)
    (truth,) = torch.autograd.grad(weights.double() @ true_l1 - 0.2 * true_ssim, exact)
    torch.testing.assert_close(
        gradient, truth.float(), atol=1e-5 * float(truth.abs().max()), rtol=1e-4
    )


def test_depth_loss_and_gradient_match_torch(device):
    from lift.training.kernels import loss_triton

    generator = torch.Generator().manual_seed(0)
    rendered, alpha, target, confidence = (
        torch.rand(2, 40, 30, generator=generator).to(device) for _ in range(4)
    )
    rendered, target = 3 * rendered, 3 * target
    target[:, :5] = 0
    rendered[:, 5:8] = 0.01  # below the resolution of the loss
    rendered[:, 8:10], alpha[:, 8:10] = 0, 0  # nothing was hit
    rendered.requires_grad_()
    exact = rendered.detach().double().requires_grad_()
    loss = loss_triton.inverse_depth(rendered, alpha, target, confidence, 2.0)
    truth = losses.inverse_depth(exact, alpha.double(), target.double(), confidence.double(), 2.0)
    torch.testing.assert_close(loss, truth.float())
    (3 * loss).backward()
    (3 * truth).backward()
    torch.testing.assert_close(rendered.grad, exact.grad.float())


def test_physical_values_and_gradients_match_torch(device):
    from lift.training.kernels import splats_triton

    generator = torch.Generator().manual_seed(0)
    raw = [
        torch.randn(300, *size, generator=generator).to(device).requires_grad_()
        for size in ((3,), (4,), ())
    ]
    exact = [value.detach().double().requires_grad_() for value in raw]
    outer = [torch.randn(value.shape, generator=generator).to(device) for value in raw]
    physical, truth = splats_triton.activate(*raw), activate(*exact)
    for value, other in zip(physical, truth, strict=True):
        torch.testing.assert_close(value, other.float())
    torch.autograd.backward(physical, outer)
    torch.autograd.backward(truth, [value.double() for value in outer])
    for value, other in zip(raw, exact, strict=True):
        torch.testing.assert_close(value.grad, other.grad.float())


def test_adam_steps_as_torchs_and_goes_on_from_its_state(device):
    from lift.training.kernels.splats_triton import Adam

    generator = torch.Generator().manual_seed(0)
    first = [
        torch.randn(size, generator=generator).to(device) for size in ((1500, 3), (7,), (0, 3))
    ]
    gradients = [
        [torch.randn(value.shape, generator=generator).to(device) for value in first]
        for _ in range(6)
    ]

    def run(kinds: list[type]) -> list[torch.Tensor]:
        parameters = [torch.nn.Parameter(value.clone()) for value in first]
        state = None
        for kind, steps in zip(kinds, (gradients[:3], gradients[3:]), strict=True):
            optimiser = kind(
                [{"params": [p], "lr": 0.1 * (k + 1)} for k, p in enumerate(parameters)],
                betas=(0.8, 0.99),
                eps=1e-15,
            )
            if state:
                optimiser.load_state_dict(state)
            for step in steps:
                for parameter, gradient in zip(parameters, step, strict=True):
                    parameter.grad = gradient.clone()
                optimiser.step()
            state = optimiser.state_dict()
        return parameters

    truth = run([torch.optim.Adam, torch.optim.Adam])
    for kinds in ([Adam, Adam], [torch.optim.Adam, Adam], [Adam, torch.optim.Adam]):
        for value, other in zip(run(kinds), truth, strict=True):
            torch.testing.assert_close(value, other)


@pytest.mark.gpu
def test_cuda_takes_the_kernels(cuda):
    """What a training step calls is the fused path."""
    rgb = torch.rand(1, 16, 16, 3, device=cuda, requires_grad=True)
    frames = torch.randint(0, 256, (1, 16, 16, 3), device=cuda, dtype=torch.uint8)
    assert "Photometric" in _names(losses.photometric(rgb, frames)[0])
    depth = rgb[..., 0]
    assert "InverseDepth" in _names(
        losses.inverse_depth(
            depth, torch.ones_like(depth), depth.detach(), torch.ones_like(depth), 1.0
        )
    )
    raw = [torch.randn(5, *size, device=cuda, requires_grad=True) for size in ((3,), (4,), ())]
    assert "Activate" in _names(activate(*raw)[0])
    view, tree = (
        torch.tensor([1], device=cuda),
        Trajectory(pinhole(16, 16, 16.0), (Clip("right", 0, pinhole(16, 16, 16.0)),)),
    )
    for name, used in (("image_warp", "_Warp"), ("appearance", "_MapColors")):
        distortion = distortions.build(
            {"name": name}, num_views=2, size=(16, 16), trajectory=tree
        ).to(cuda)
        assert used in _names(distortion.image(Render(rgb, depth, depth), view).rgb)


def _names(value: torch.Tensor) -> str:
    """Of all functions that made it."""
    todo, names = [value.grad_fn], []
    while todo:
        node = todo.pop()
        names.append(node.name())
        todo += [before for before, _ in node.next_functions if before is not None]
    return " ".join(names)


@pytest.mark.parametrize("known", [0, 1, 6, 21])
def test_frame_weights_match_torch(device, known):
    from lift.training.kernels import loss_triton
    from lift.training.robust import robust_weight

    errors = torch.rand(21, generator=torch.Generator().manual_seed(known)).to(device) ** 2
    errors[torch.randperm(21, generator=torch.Generator().manual_seed(0))[known:].to(device)] = 0
    views = torch.arange(21, device=device)
    typical = torch.where(errors > 0, errors, torch.nan).nanmedian()
    truth = robust_weight((errors[views] / (1.5 * typical))[:, None, None], views)[:, 0, 0]
    torch.testing.assert_close(loss_triton.frame_weights(errors, views, 1.5), truth)
    errors[4] = torch.nan
    assert loss_triton.frame_weights(errors, views, 1.5)[4] == 1
