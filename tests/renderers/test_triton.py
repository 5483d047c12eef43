"""CUDA kernels of the renderer, compared with plain torch.

Without CUDA, Triton's interpreter runs them if Triton is installed.
"""

import pytest
import torch

from lift import spherical_harmonics
from lift.geometry import look_at
from lift.types import Cameras, Gaussians


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
