"""Contract of distortions."""

import math
from typing import Any

import torch
from torch import Tensor

from lift.contracts.samples import (
    CAMERA,
    HEIGHT,
    WIDTH,
    repeat_camera,
    sample_scene,
    shifted_cameras,
)
from lift.contracts.subject import CheckSkipped, Subject, require
from lift.distortions import Distortion
from lift.renderers import renderers
from lift.stages.render_checks import check_render
from lift.types import Cameras, Clip, PointCloud, Render, Trajectory

_VIEWS = 4
_TOLERANCE = 2e-3
"""Largest relative difference between devices."""
_MAX_KINKS = 0.05
"""Largest fraction of a gradient's elements that may differ more than that. Interpolation has two
slopes where a source meets a pixel's centre, and rounding decides between them."""


def _build(subject: Subject) -> Distortion:
    """Build the distortion for frames of a scene. The last frame continues the one before it."""
    cameras = shifted_cameras(_VIEWS - 1)
    clips = (Clip("right", 0, cameras[:-1]), Clip("right/up", _VIEWS - 2, cameras[-1]))
    points = PointCloud(sample_scene().means, torch.full((len(sample_scene()), 3), 0.5))
    return subject.build(
        num_views=_VIEWS,
        extent=3.0,
        size=(WIDTH, HEIGHT),
        trajectory=Trajectory(CAMERA, clips),
        points=points,
        multiview_consistent=False,
    )


def _perturb(distortion: Distortion, amount: float) -> None:
    """Change all parameters at random."""
    for parameter in distortion.parameters():
        parameter.data += amount * torch.randn_like(parameter)


def _apply(distortion: Distortion, view: Tensor) -> list[tuple[str, Tensor, Tensor]]:
    """Apply the three hooks; return names of values, the values before and those after."""
    device = view.device
    cameras = repeat_camera(len(view)).to(device)
    rng = torch.Generator().manual_seed(1)
    rgb = torch.rand(len(view), HEIGHT, WIDTH, 3, generator=rng)
    depth = 1 + torch.rand(len(view), HEIGHT, WIDTH, generator=rng)
    render = Render(rgb.to(device), torch.ones_like(depth).to(device), depth.to(device))
    scene = sample_scene().to(device)
    moved = distortion.cameras(cameras, view)
    shifted = distortion.gaussians(scene, view)
    shown = distortion.image(render, view)
    found = [
        (f"cameras.{key}", value, getattr(moved, key)) for key, value in cameras.tensors().items()
    ]
    found += [
        (f"gaussians.{key}", value.expand_as(getattr(shifted, key)), getattr(shifted, key))
        for key, value in scene.tensors().items()
    ]
    found += [
        (f"render.{key}", getattr(render, key), getattr(shown, key))
        for key in ("rgb", "alpha", "depth")
    ]
    if "weight" in shown.info:
        weight = shown.info["weight"]
        found.append(('render.info["weight"]', torch.ones_like(weight), weight))
    return found


def _penalty(distortion: Distortion) -> float:
    """Return the penalty as a number."""
    return float(torch.as_tensor(distortion.penalty()).detach())


def _require_identity(distortion: Distortion, view: Tensor, when: str) -> None:
    """Require that all hooks return what they got, to the last bit."""
    for name, before, after in _apply(distortion, view):
        change = float((before - after).detach().abs().max())
        require(change == 0, f"{when} changes {name} by up to {change:g}")


def returns_values_of_the_right_shape(subject: Subject) -> None:
    """Return cameras, Gaussians, renders and a penalty of the right type, dtype and shape.

    Args:
        subject: The distortion.
    """
    cameras = Cameras.cat([CAMERA, shifted_cameras(_VIEWS - 1)])
    check_render(
        renderers.build({"name": "reference"}), _build(subject), sample_scene(), cameras, 2
    )


def starts_as_the_identity(subject: Subject) -> None:
    """Be exactly the identity before it has learned, with a penalty of 0.

    Args:
        subject: The distortion.
    """
    torch.manual_seed(0)
    distortion = _build(subject)
    _require_identity(distortion, torch.arange(_VIEWS), "a new distortion")
    penalty = _penalty(distortion)
    require(penalty == 0, f"the penalty of a new distortion is {penalty:g}; it must be 0")


def keeps_the_input(subject: Subject) -> None:
    """Be exactly the identity for view 0, the input, whatever it has learned.

    A distortion whose `keeps_input` is False need not.

    Args:
        subject: The distortion.
    """
    torch.manual_seed(0)
    distortion = _build(subject)
    if not distortion.keeps_input:
        return
    _perturb(distortion, 0.1)
    _require_identity(distortion, torch.tensor([0]), "for view 0, the input, it")
    penalty = _penalty(distortion)
    require(math.isfinite(penalty), f"the penalty is {penalty:g}")


def optimises_all_parameters(subject: Subject) -> None:
    """List every parameter once in `groups`, with a learning rate above 0.

    Args:
        subject: The distortion.
    """
    distortion = _build(subject)
    groups: list[Any] = list(distortion.groups())
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    names = {id(parameter): name for name, parameter in distortion.named_parameters()}
    missing = [name for key, name in names.items() if key not in listed]
    require(not missing, f"groups() leaves out {', '.join(missing)}")
    require(len(set(listed)) == len(listed), "groups() lists a parameter twice")
    rates = [group["lr"] for group in groups]
    require(all(rate > 0 for rate in rates), f"the learning rates are {rates}")


def can_learn_in_a_generated_view(subject: Subject) -> None:
    """Have a finite gradient for a generated frame.

    Args:
        subject: The distortion.
    """
    torch.manual_seed(0)
    distortion = _build(subject)
    if not list(distortion.parameters()):
        raise CheckSkipped("has nothing to learn")
    view = torch.tensor([2])
    renderer = renderers.build({"name": "reference"})
    scene = distortion.gaussians(sample_scene(), view)
    render = renderer(scene, distortion.cameras(CAMERA, view))
    shown = distortion.image(render, view)
    (shown.rgb * torch.rand(1, HEIGHT, WIDTH, 3)).sum().backward()
    gradients = [p.grad for p in distortion.parameters() if p.grad is not None]
    require(any(bool(g.any()) for g in gradients), "no parameter has a gradient in view 2")
    require(all(bool(g.isfinite().all()) for g in gradients), "a gradient is NaN or infinite")


def is_restored_from_its_state(subject: Subject) -> None:
    """Give the same result after its `state_dict` was loaded into a new one.

    Args:
        subject: The distortion.
    """
    torch.manual_seed(0)
    trained = _build(subject)
    _perturb(trained, 0.02)
    restored = _build(subject)
    restored.load_state_dict(trained.state_dict())
    view = torch.arange(_VIEWS)
    pairs = zip(_apply(trained, view), _apply(restored, view), strict=True)
    for (name, _, expected), (_, _, found) in pairs:
        require(bool((expected == found).all()), f"{name} differs after load_state_dict")


def is_the_same_on_cuda(subject: Subject) -> None:
    """Give the same result and gradients on CUDA as on the CPU.

    Args:
        subject: The distortion.
    """
    if not torch.cuda.is_available():
        raise CheckSkipped("needs a CUDA device")
    torch.manual_seed(0)
    on_cpu = _build(subject)
    _perturb(on_cpu, 0.02)
    on_cuda = _build(subject)
    on_cuda.load_state_dict(on_cpu.state_dict())
    on_cuda.to("cuda")
    values, gradients = [], []
    for distortion, device in ((on_cpu, "cpu"), (on_cuda, "cuda")):
        distortion.progress = 1.0
        after = [value for _, _, value in _apply(distortion, torch.arange(_VIEWS, device=device))]
        total = sum((value.sin().sum() for value in after), distortion.penalty())
        if total.requires_grad:
            total.backward()
        values.append([value.detach().cpu() for value in after])
        gradients.append([p.grad.cpu() for p in distortion.parameters() if p.grad is not None])
    require(
        len(gradients[0]) == len(gradients[1]),
        "the CPU and CUDA have gradients of other parameters",
    )
    for name, found, allowed in (("value", values, 0.0), ("gradient", gradients, _MAX_KINKS)):
        for expected, value in zip(*found, strict=True):
            limit = _TOLERANCE * max(1.0, float(expected.abs().max()))
            apart = ~torch.isclose(value, expected, rtol=_TOLERANCE, atol=limit)
            require(
                float(apart.float().mean()) <= allowed,
                f"a {name} of shape {tuple(value.shape)} differs between the CPU and CUDA by up to "
                f"{float((value - expected).abs().max()):.3g}",
            )


CHECKS = (
    returns_values_of_the_right_shape,
    starts_as_the_identity,
    keeps_the_input,
    optimises_all_parameters,
    can_learn_in_a_generated_view,
    is_restored_from_its_state,
    is_the_same_on_cuda,
)
"""The checks, in their order."""
