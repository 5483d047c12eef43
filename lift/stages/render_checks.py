"""Check of a renderer and a distortion: one small render before a fit.

The steps of a fit are not checked. Its result is (`lift.training.fit`).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lift.distortions import Distortion
from lift.renderers import Renderer
from lift.stages.checks import RANGE_TOLERANCE, Output, check_cameras
from lift.types import Cameras, Gaussians, Render

_LONGER_SIDE = 64
"""Length in pixels of the longer side of the render."""

_INPUT_TOLERANCE = 1e-3
"""Largest change of the input by a distortion, relative to values above 1. Devices round."""

_GAUSSIAN_SHAPES: dict[str, tuple[int | str, ...]] = {
    "means": (3,),
    "quats": (4,),
    "scales": (3,),
    "opacities": (),
    "sh_coeffs": ("basis", 3),
}
"""Axes of each field of `Gaussians` after the axis of the Gaussians."""


def check_render(
    renderer: Renderer,
    distortion: Distortion,
    gaussians: Gaussians,
    cameras: Cameras,
    view: int,
    progress: float = 1.0,
) -> None:
    """Render the input and another frame small, and check each value on the way.

    No distortion may change the input. Neither random numbers nor the state of the fit are
    changed.

    Args:
        renderer: The renderer.
        distortion: The distortion, with its parts that are active at `progress`.
        gaussians: The canonical scene.
        cameras: Cameras of all frames.
        view: Index of the other frame.
        progress: Fraction of the steps that are done. 1 checks parts that start later, too.

    Raises:
        OutputError: Something has another type, dtype, shape or range than the protocol says, or
            a distortion changes the input.
    """
    device = renderer.device
    views = torch.tensor([0, view], device=device)
    scale = min(1, _LONGER_SIDE / max(cameras.width, cameras.height))
    size = (max(1, round(cameras.width * scale)), max(1, round(cameras.height * scale)))
    cameras = cameras[[0, view]].to(device).resized(*size)
    canonical = gaussians.to(device).map(lambda value: value.detach().clone().requires_grad_())
    previous_progress = distortion.progress
    home = next((parameter.device for parameter in distortion.parameters()), None)
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(cuda), torch.enable_grad():
        distortion.to(device).progress = progress
        parts = distortion.active_parts()
        cameras = _distort_cameras(parts, cameras, views)
        scene = _deform(parts, canonical, views)
        for part in parts:
            penalty: Any = part.penalty()
            if not isinstance(penalty, (int, float)):
                Output.of("distortion", part).tensor(penalty, (), "penalty")
        render = _render_checked(renderer, scene, cameras)
        for part in parts:
            output = Output.of("distortion", part)
            undistorted = render
            render = part.image(render, views)
            _check_rendered(output, render, size, math.inf)
            if part.keeps_input:
                _check_input(output, undistorted, render)
    if home is not None:
        distortion.to(home)
    distortion.progress = previous_progress


def _distort_cameras(parts: Sequence[Distortion], cameras: Cameras, views: Tensor) -> Cameras:
    """Apply the cameras of all parts, and check each."""
    for part in parts:
        output = Output.of("distortion", part)
        before = cameras
        cameras = part.cameras(before, views)
        check_cameras(output, cameras, len(views), (before.width, before.height), "cameras")
        if part.keeps_input:
            _check_input(output, before, cameras, "cameras.")
    return cameras


def _deform(parts: Sequence[Distortion], canonical: Gaussians, views: Tensor) -> Gaussians:
    """Apply the deformations of all parts, and check each."""
    scene = canonical
    for part in parts:
        output = Output.of("distortion", part)
        before = scene
        scene = part.gaussians(before, views)
        _check_gaussians(output, scene, canonical)
        if part.keeps_input:
            _check_input(output, before, scene, "gaussians.")
    return scene


def _check_input(output: Output, before: Any, after: Any, prefix: str = "") -> None:
    """Check that a hook of a distortion left the input, the first of two views, as it was."""
    changed = _input_tensors(after)
    for name, value in _input_tensors(before).items():
        limit = _INPUT_TOLERANCE * max(1.0, float(value.abs().max()))
        change = float((changed[name] - value).abs().max())
        if change > limit:
            found = f"with a change of view 0, the input, by up to {change:g}"
            output.fail(f"{prefix}{name}", found, "none, whatever was learned")


def _input_tensors(value: Cameras | Gaussians | Render) -> dict[str, Tensor]:
    """Return the tensors of the first view. Gaussians may be shared by the views."""
    items = vars(value).items()
    tensors = {name: item.detach() for name, item in items if isinstance(item, Tensor)}
    shared = {
        name
        for name, item in tensors.items()
        if isinstance(value, Gaussians) and item.dim() == 1 + len(_GAUSSIAN_SHAPES[name])
    }
    return {name: item if name in shared else item[0] for name, item in tensors.items()}


def _check_gaussians(output: Output, gaussians: Any, canonical: Gaussians) -> None:
    """Check deformed Gaussians: shared by the views, or one set for each of two views."""
    output.instance(gaussians, Gaussians, "gaussians")
    count = len(canonical.means)
    for name, last_axes in _GAUSSIAN_SHAPES.items():
        value: Any = getattr(gaussians, name)
        # A field may still be shared if only others are deformed.
        is_shared = isinstance(value, Tensor) and value.dim() == 1 + len(last_axes)
        axes = (count, *last_axes)
        output.tensor(value, axes if is_shared else (2, *axes), f"gaussians.{name}")
    bounds = (0.0, math.inf)
    output.tensor(gaussians.scales.flatten(), ("value",), "gaussians.scales", bounds=bounds)


def _render_checked(renderer: Renderer, scene: Gaussians, cameras: Cameras) -> Render:
    """Render two views over grey, and check the sums and the pictures."""
    output = Output.of("renderer", renderer)
    size = (cameras.width, cameras.height)
    if type(renderer).__call__ is Renderer.__call__:  # it composes what `rasterize` returns
        colors = renderer.evaluate_colors(scene.sh_coeffs, scene.means, cameras.centers)
        sums: Any = renderer.rasterize(scene, colors, cameras)
        if not isinstance(sums, tuple) or len(sums) != 4:
            expected = "a tuple of colour, coverage, z-depth and a dictionary"
            output.fail("sums", f"as {type(sums).__name__}", expected)
        output.instance(sums[3], dict, "info")
        shape = (2, size[1], size[0])
        output.tensor(sums[0], (*shape, 3), "the sum of colours")
        output.tensor(sums[1], shape, "the sum of coverage")
        output.tensor(sums[2], shape, "the sum of z-depth")
    background = torch.full((3,), 0.5, device=renderer.device)
    render: Any = renderer(scene, cameras, background)
    _check_rendered(output, render, size, 1.0)
    if not render.rgb.requires_grad:
        output.fail("rgb", "without a gradient", "one with respect to Gaussians and cameras")
    return render


def _check_rendered(output: Output, render: Any, size: tuple[int, int], max_alpha: float) -> None:
    """Check renders of two views, and the weights of their pixels."""
    output.instance(render, Render, "a value")
    shape = (2, size[1], size[0])
    output.tensor(render.rgb, (*shape, 3), "rgb")
    bounds = (-RANGE_TOLERANCE, max_alpha + RANGE_TOLERANCE)
    output.tensor(render.alpha, shape, "alpha", bounds=bounds)
    output.tensor(render.depth, shape, "depth")
    output.instance(render.info, dict, "info")
    weight = render.info.get("weight")
    if weight is not None:
        output.tensor(weight, ("view", "height", "width"), 'info["weight"]')
        if any(axis not in (1, full) for axis, full in zip(weight.shape, shape, strict=True)):
            output.tensor(weight, shape, 'info["weight"]')
