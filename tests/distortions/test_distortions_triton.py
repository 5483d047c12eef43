"""CUDA kernels of the distortions, compared with plain torch.

Without CUDA, Triton's interpreter runs them if Triton is installed.
"""

import pytest
import torch

from lift.geometry import look_at


@pytest.mark.parametrize("size, numbers", [(0.0, 7), (1e-5, 6), (0.05, 7), (0.2, 6), (2.0, 7)])
def test_rigid_motion_of_cameras_and_gradient_match_torch(device, size, numbers):
    from lift.distortions.kernels.rigid_triton import apply_corrections
    from lift.geometry import rigid, rotation_from_vector

    generator = torch.Generator().manual_seed(0)
    motions = (
        size * torch.nn.functional.normalize(torch.randn(4, numbers, generator=generator), dim=-1)
    ).to(device)
    motions[1] = 0
    motions.requires_grad_()
    exact = motions.detach().double().requires_grad_()
    eye, target, down = torch.randn(3, 4, 3, generator=generator)
    before, outer = (
        look_at(eye, target, down).to(device),
        torch.randn(4, 4, 4, generator=generator).to(device),
    )
    intrinsics, by_intrinsics = torch.rand(2, 4, 3, 3, generator=generator).to(device)
    after, zoomed = apply_corrections(before, intrinsics, motions, 3.0)
    (gradient,) = torch.autograd.grad((after, zoomed), motions, (outer, by_intrinsics))
    truth = rigid(rotation_from_vector(exact[:, :3]), 3.0 * exact[:, 3:6]) @ before.double()
    ones = torch.ones_like(exact[:, 0])
    factors = exact[:, 6].exp() if numbers == 7 else ones
    true_zoomed = intrinsics.double() * torch.stack([factors, factors, ones], dim=-1)[:, None]
    zoom = (true_zoomed * by_intrinsics.double()).sum() if numbers == 7 else 0
    (true_gradient,) = torch.autograd.grad((truth * outer.double()).sum() + zoom, exact)
    torch.testing.assert_close(after, truth.float(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(zoomed, true_zoomed.float(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(gradient, true_gradient.float(), atol=1e-5, rtol=1e-5)
    assert torch.equal(after[1], before[1])


def test_warped_image_and_gradients_match_torch(device):
    from lift.distortions.image_warp import sample_displaced
    from lift.distortions.kernels.warp_triton import warp

    generator = torch.Generator().manual_seed(0)
    sizes = {
        "rgb": (3, 20, 31, 3),
        "alpha": (3, 20, 31),
        "depth": (3, 20, 31),
    }  # more than a block, not a multiple of one
    inputs = {
        name: torch.rand(size, generator=generator).to(device).requires_grad_()
        for name, size in sizes.items()
    }
    flow = (3 * torch.randn(3, 2, 20, 31, generator=generator)).to(device)
    flow[0] = 0
    flow[1, :, :4] *= 20  # far beyond the border
    flow.requires_grad_()
    exact = {name: value.detach().double().requires_grad_() for name, value in inputs.items()}
    exact_flow = flow.detach().double().requires_grad_()
    found = warp(*inputs.values(), flow)
    truth = sample_displaced(*exact.values(), exact_flow)
    assert found[0][0].equal(inputs["rgb"][0]) and found[2][0].equal(inputs["depth"][0]), (
        "exactly itself where nothing moves"
    )
    assert 0 < float(found[3].mean()) < 1 and not found[3].requires_grad
    outers = [torch.rand(value.shape, generator=generator).to(device) for value in found[:3]]
    for value, other in zip(found, truth, strict=False):
        torch.testing.assert_close(value, other.float(), atol=2e-5, rtol=2e-5)
    sum((value * outer).sum() for value, outer in zip(found, outers, strict=False)).backward()
    sum(
        (value * outer.double()).sum() for value, outer in zip(truth, outers, strict=False)
    ).backward()
    for name in inputs:
        torch.testing.assert_close(
            inputs[name].grad, exact[name].grad.float(), atol=1e-4, rtol=1e-4, msg=name
        )
    # Where a sample lies exactly on a pixel or the border, the bilinear one has two slopes.
    torch.testing.assert_close(flow.grad[1:], exact_flow.grad[1:].float(), atol=1e-4, rtol=1e-4)


def test_color_change_and_gradients_match_torch(device):
    from lift.distortions.kernels.color_triton import map_colors

    generator = torch.Generator().manual_seed(0)
    rgb, maps = (
        torch.rand(2, 20, 31, 3, generator=generator).to(device).requires_grad_(),
        torch.randn(2, 3, 4, generator=generator).to(device).requires_grad_(),
    )
    exact, exact_maps = (
        rgb.detach().double().requires_grad_(),
        maps.detach().double().requires_grad_(),
    )
    outer = torch.randn(2, 20, 31, 3, generator=generator).to(device)
    found = map_colors(rgb, maps)
    truth = (
        exact
        + torch.einsum("voi,vhwi->vhwo", exact_maps[..., :3], exact)
        + exact_maps[:, None, None, :, 3]
    )
    torch.testing.assert_close(found, truth.float())
    assert map_colors(rgb, torch.zeros_like(maps)).equal(rgb)
    (found * outer).sum().backward()
    (truth * outer.double()).sum().backward()
    torch.testing.assert_close(rgb.grad, exact.grad.float())
    torch.testing.assert_close(maps.grad, exact_maps.grad.float(), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_blurred_image_and_gradients_match_torch(device):
    from lift.distortions.blur import _GaussianBlur
    from lift.distortions.kernels.blur_triton import gaussian_blur

    generator = torch.Generator().manual_seed(0)
    rgb = (
        torch.rand(4, 20, 31, 3, generator=generator).to(device).requires_grad_()
    )  # more than a block, not a multiple of one
    variance = torch.tensor([0.0, 0.02, 1.5, 11.0], device=device, requires_grad=True)
    exact, exact_variance = (
        rgb.detach().double().requires_grad_(),
        variance.detach().double().requires_grad_(),
    )
    outer = torch.randn(4, 20, 31, 3, generator=generator).to(device)
    found = gaussian_blur(rgb, variance, 18)
    truth = _GaussianBlur.apply(exact, exact_variance, 18)
    assert found[0].equal(rgb[0]), "exactly itself at a variance of 0"
    torch.testing.assert_close(found, truth.float(), atol=1e-5, rtol=1e-5)
    (found * outer).sum().backward()
    (truth * outer.double()).sum().backward()
    torch.testing.assert_close(rgb.grad, exact.grad.float(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(variance.grad, exact_variance.grad.float(), atol=1e-4, rtol=1e-4)


def test_parameter_norm_and_gradient_match_torch(device):
    from lift.distortions.kernels.chain_triton import norm

    generator = torch.Generator().manual_seed(0)
    numbers = (
        torch.randn(5, 300, generator=generator).to(device)
        * torch.tensor([0, 1e-5, 1e-4, 1e-2, 1], device=device)[:, None]
    )
    numbers.requires_grad_()
    exact = numbers.detach().double().requires_grad_()
    square = exact.square().mean(1)
    truth = 3 * (square / ((square + 1e-8).sqrt() + 1e-4)).mean()
    found = norm(numbers, 1e-4, 3.0)
    torch.testing.assert_close(found, truth.float())
    (2 * found).backward()
    (2 * truth).backward()
    torch.testing.assert_close(numbers.grad, exact.grad.float())
