"""Contract of renderers."""

import torch

from lift.contracts.samples import HEIGHT, WIDTH, repeat_camera, sample_scene, shifted_cameras
from lift.contracts.subject import Subject, require
from lift.distortions import distortions
from lift.renderers import Renderer
from lift.stages.render_checks import check_render
from lift.types import Cameras, Gaussians, Render

_TOLERANCE = 1e-5


def _scene(subject: Subject) -> tuple[Renderer, Gaussians, Cameras, torch.Tensor]:
    """Build the renderer, and move a scene, two cameras and a background to its device."""
    renderer = subject.build(device=torch.device("cpu"))
    cameras = repeat_camera(2)
    cameras.world_to_camera[1, 0, 3] = 0.2
    background = torch.tensor([0.2, 0.4, 0.6], device=renderer.device)
    return renderer, sample_scene().to(renderer.device), cameras.to(renderer.device), background


def returns_pictures_of_the_cameras_size(subject: Subject) -> None:
    """Return float32 pictures of the cameras' size, coverage in [0, 1], and a gradient.

    Args:
        subject: The renderer.
    """
    renderer = subject.build(device=torch.device("cpu"))
    identity = distortions.build({"name": "identity"})
    check_render(renderer, identity, sample_scene(), shifted_cameras(2), 1)


def draws_shared_and_single_sets_alike(subject: Subject) -> None:
    """Draw Gaussians that all views share as it draws one set a view.

    Args:
        subject: The renderer.
    """
    renderer, gaussians, cameras, background = _scene(subject)
    shared = renderer(gaussians, cameras, background)
    copies = gaussians.map(lambda value: value.expand(2, *value.shape).clone())
    single = renderer(copies, cameras, background)
    for field in ("rgb", "alpha", "depth"):
        one, other = getattr(shared, field), getattr(single, field)
        same = torch.allclose(one, other, atol=_TOLERANCE, rtol=_TOLERANCE)
        difference = float((one - other).abs().max())
        require(same, f"{field} of shared Gaussians and of a set a view differ by {difference:g}")


def shows_the_scene_at_its_depth(subject: Subject) -> None:
    """Cover what Gaussians hide, at their z-depth.

    Args:
        subject: The renderer.
    """
    renderer, gaussians, cameras, background = _scene(subject)
    render: Render = renderer(gaussians, cameras, background)
    require(tuple(render.rgb.shape) == (2, HEIGHT, WIDTH, 3), "rgb is not [view height width 3]")
    top = float(render.alpha.max())
    require(0.5 < top <= 1, f"the largest alpha is {top:g}; Gaussians of opacity 0.6 overlap")
    middle = float(render.depth[render.alpha > 0.5].median())
    require(2 < middle < 4, f"the median depth is {middle:g}; the scene's centre is at 3")


def has_a_gradient(subject: Subject) -> None:
    """Have a finite gradient with respect to Gaussians and cameras.

    Args:
        subject: The renderer.
    """
    renderer, gaussians, cameras, background = _scene(subject)
    leaves = gaussians.map(lambda value: value.detach().clone().requires_grad_())
    matrices = cameras.world_to_camera.clone().requires_grad_()
    moved = Cameras(matrices, cameras.intrinsics, cameras.width, cameras.height)
    renderer(leaves, moved, background).rgb.square().sum().backward()
    for name, value in {**leaves.tensors(), "world_to_camera": matrices}.items():
        gradient = value.grad
        require(gradient is not None and bool(gradient.any()), f"{name} has no gradient")
        require(bool(torch.as_tensor(gradient).isfinite().all()), f"{name} has a gradient of NaN")


CHECKS = (
    returns_pictures_of_the_cameras_size,
    draws_shared_and_single_sets_alike,
    shows_the_scene_at_its_depth,
    has_a_gradient,
)
"""The checks, in their order."""
