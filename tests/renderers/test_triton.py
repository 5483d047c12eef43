"""CUDA kernels compared with plain torch.

Without CUDA, Triton's interpreter runs them if Triton is installed.
"""

import pytest
import torch

from lift import spherical_harmonics
from lift.distortions import distortions
from lift.geometry import look_at, pinhole
from lift.training import losses
from lift.training.similarity import ssim_conv2d
from lift.training.splats import activate
from lift.types import Cameras, Clip, Gaussians, Render, Trajectory


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_colours_and_their_gradients_are_those_of_plain_torch(device, shared, degree):
    from lift.renderers.cuda import shading

    generator = torch.Generator().manual_seed(degree)
    views, count = 3, 150  # more than a block, not a multiple of one
    one = () if shared else (views,)
    sizes = {
        "sh": (*one, count, (degree + 1) ** 2, 3),
        "means": (*one, count, 3),
        "centers": (views, 3),
    }
    inputs = [
        torch.randn(size, generator=generator).to(device).requires_grad_()
        for size in sizes.values()
    ]
    exact = [value.detach().double().requires_grad_() for value in inputs]
    outer = torch.randn(views, count, 3, generator=generator).to(device)
    colors, truth = shading.evaluate_from(*inputs), spherical_harmonics.evaluate_from(*exact)
    torch.testing.assert_close(colors, truth.float(), atol=1e-5, rtol=1e-5)
    assert (colors == 0).any() and (colors > 0).any()
    colors.backward(outer)
    truth.backward(outer.double())
    for name, value, other in zip(sizes, inputs, exact, strict=False):
        torch.testing.assert_close(
            value.grad,
            torch.zeros_like(value) if other.grad is None else other.grad.float(),
            atol=1e-4,
            rtol=1e-4,
            msg=name,
        )


def test_no_gaussians_have_no_colours(device):
    from lift.renderers.cuda import shading

    means = torch.zeros(0, 3, device=device, requires_grad=True)
    colors = shading.evaluate_from(
        torch.zeros(0, 4, 3, device=device), means, torch.zeros(2, 3, device=device)
    )
    assert colors.shape == (2, 0, 3)
    colors.sum().backward()
    assert means.grad.shape == (0, 3)


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


@pytest.mark.parametrize("per_view", [True, False])
def test_composed_image_and_gradients_match_torch(device, per_view):
    from lift.renderers.cuda import shading

    generator = torch.Generator().manual_seed(0)
    shown = torch.rand(2, 20, 30, 4, generator=generator).to(device).requires_grad_()
    alpha = torch.rand(2, 20, 30, generator=generator).to(device)
    alpha[0, :5] = 0
    alpha.requires_grad_()
    background = torch.rand(*((2,) if per_view else ()), 3, generator=generator).to(device)
    outer = torch.rand(2, 20, 30, 4, generator=generator).to(device)
    rgb, depth = shading.compose(shown[..., :3], alpha, shown[..., 3], background)
    (rgb * outer[..., :3]).sum().add((depth * outer[..., 3]).sum()).backward()
    exact, cover = (
        shown.detach().double().requires_grad_(),
        alpha.detach().double().requires_grad_(),
    )
    true_rgb = exact[..., :3] + (1 - cover)[..., None] * background.double()[..., None, None, :]
    true_depth = exact[..., 3] / cover.clamp(min=1e-6)
    (true_rgb * outer[..., :3]).sum().add((true_depth * outer[..., 3]).sum()).backward()
    torch.testing.assert_close(rgb, true_rgb.float())
    torch.testing.assert_close(depth, true_depth.float())
    torch.testing.assert_close(shown.grad, exact.grad.float())
    torch.testing.assert_close(alpha.grad, cover.grad.float())


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


def splats(shared: bool, device: torch.device) -> tuple[dict[str, torch.Tensor], int, int]:
    """Gaussians and cameras to be projected, and the picture's size."""
    generator = torch.Generator().manual_seed(0)
    views, count, width, height = 3, 150, 40, 30  # more than a block, not a multiple of one
    one = () if shared else (views,)
    eyes = 0.2 * torch.randn(views, 3, generator=generator)
    poses = look_at(
        eyes, torch.tensor([0.0, 0, 2]).expand(views, 3), torch.tensor([0.0, 1, 0]).expand(views, 3)
    )
    intrinsics = torch.tensor([[33.0, 0, 21.3], [0, 37.0, 13.6], [0, 0, 1]]).repeat(views, 1, 1)
    means = torch.randn(*one, count, 3, generator=generator) * torch.tensor(
        [2.0, 2.0, 1.5]
    ) + torch.tensor([0.0, 0, 2])  # some behind, some far aside
    opacities = torch.rand(*one, count, generator=generator) ** 4
    ahead = 2 * torch.linalg.inv(intrinsics[0]) @ torch.tensor([10.5, 8.5, 1.0])
    means[..., 0, :], opacities[..., 0] = (
        (ahead - poses[0, :3, 3]) @ poses[0, :3, :3],
        0.0,
    )  # invisible in the middle of a pixel
    means[..., 1, :] = eyes[0]
    values = {
        "means": means,
        "quats": torch.randn(*one, count, 4, generator=generator),
        "scales": torch.rand(*one, count, 3, generator=generator) ** 3,
        "opacities": opacities,
        "colors": torch.rand(views, count, 3, generator=generator),
        "world_to_camera": poses,
        "intrinsics": intrinsics,
    }
    return {name: value.to(device) for name, value in values.items()}, width, height


@pytest.mark.parametrize("shared", [True, False])
def test_splatting_and_all_gradients_match_torch(device, shared):
    from lift.renderers import reference
    from lift.renderers.cuda import projection

    values, width, height = splats(shared, device)
    inputs = {name: value.clone().requires_grad_() for name, value in values.items()}
    exact = {name: value.double().requires_grad_() for name, value in values.items()}
    places, conics, features, covers, depths, boxes, radii = projection.project(
        *inputs.values(), width, height
    )
    sh_coeffs = exact["colors"].new_zeros(*exact["opacities"].shape, 1, 3)
    gaussians = Gaussians(
        *(exact[name] for name in ("means", "quats", "scales", "opacities")), sh_coeffs
    )
    truth, pixels, true_radii = reference.project(
        gaussians,
        exact["colors"],
        Cameras(exact["world_to_camera"], exact["intrinsics"], width, height),
    )
    seen = radii > 0
    assert seen.equal(true_radii > 0) and 0.1 < float(seen.float().mean()) < 0.9
    torch.testing.assert_close(radii[seen].double(), true_radii[seen], atol=1, rtol=0)
    assert boxes.amax(-1).equal(radii) and depths.equal(features[..., 3].detach())
    left, top, right, bottom = pixels[seen].unbind(-1)
    (x, y), (across, down) = places.detach()[seen].unbind(-1), boxes[seen].unbind(-1)
    assert (
        (x - across <= left + 0.5).all()
        and (x + across >= right + 0.5).all()
        and (y - down <= top + 0.5).all()
        and (y + down >= bottom + 0.5).all()
    )
    found = torch.cat([places, conics, covers[..., None], features], dim=-1)
    torch.testing.assert_close(found[seen], truth[seen].float(), atol=1e-4, rtol=1e-4)
    assert found.isfinite().all()

    outer = torch.randn(found.shape, generator=torch.Generator().manual_seed(1)).to(device)
    (found * outer).sum().backward()
    (truth[seen] * outer[seen].double()).sum().backward()
    for name, value in inputs.items():
        other = exact[name].grad.float()
        if name == "world_to_camera":  # its last row is no parameter
            other[:, 3] = 0
        torch.testing.assert_close(
            value.grad,
            other,
            atol=2e-4 * float(other.abs().max()),
            rtol=1e-3,
            msg=lambda text, name=name: f"{name}: {text}",
        )
    still = {
        name: value.clone().requires_grad_(name not in ("world_to_camera", "intrinsics"))
        for name, value in values.items()
    }
    (projection.project(*still.values(), width, height)[0] * outer[..., :2]).sum().backward()
    moved = {name: value.clone().requires_grad_() for name, value in values.items()}
    (projection.project(*moved.values(), width, height)[0] * outer[..., :2]).sum().backward()
    assert all(still[name].grad.equal(moved[name].grad) for name in ("means", "quats", "scales")), (
        "also without camera gradients"
    )
    with pytest.raises(ValueError, match="2 sets of Gaussians for 3 views"):
        projection.project(
            *(
                value[None].expand(2, *value.shape) if shared else value[:2]
                for value in list(values.values())[:4]
            ),
            *list(values.values())[4:],
            width,
            height,
        )


def test_a_splat_that_is_no_number_is_not_seen_and_owes_nothing(device):
    from lift.renderers.cuda import projection

    values, width, height = splats(True, device)
    wrong = {name: value.clone() for name, value in values.items()}
    (
        wrong["scales"][5],
        wrong["scales"][6],
        wrong["quats"][7],
        wrong["means"][8],
        wrong["means"][9],
    ) = torch.nan, torch.inf, torch.nan, torch.nan, torch.inf
    values["opacities"][5:10] = 0
    gradients = []
    for given in (values, wrong):
        inputs = {name: value.requires_grad_() for name, value in given.items()}
        *found, _, _, radii = projection.project(*inputs.values(), width, height)
        assert (radii[:, 5:10] == 0).all()
        sum(value[radii > 0].sum() for value in found).backward()
        gradients.append([value.grad for value in inputs.values()])
    for one, other in zip(*gradients, strict=True):
        assert other.equal(one)


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
