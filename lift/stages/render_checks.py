"""Check of a renderer and a distortion: one small render before a fit.

The steps of a fit are not checked. Its result is (`lift.training.fit`).
"""

import math
from typing import Any

import torch

from lift.distortions import Distortion
from lift.renderers import Renderer
from lift.stages.checks import RANGE_TOLERANCE, Output, check_cameras
from lift.types import Cameras, Gaussians, Render

_LONGER_SIDE = 64
"""Length in pixels of the longer side of the render."""

_GAUSSIAN_SHAPES: dict[str, tuple[int | str, ...]] = {
    "means": (3,),
    "quats": (4,),
    "scales": (3,),
    "opacities": (),
    "sh_coeffs": ("basis", 3),
}
"""Axes of each field of `Gaussians` after the axis of the Gaussians."""


def check_render(
    renderer: Renderer, distortion: Distortion, gaussians: Gaussians, cameras: Cameras, view: int
) -> None:
    """Render the input and another frame small, and check each value on the way.

    Neither random numbers nor the state of the fit are changed.

    Args:
        renderer: The renderer.
        distortion: The distortion. All its parts are checked, those that start later too.
        gaussians: The canonical scene.
        cameras: Cameras of all frames.
        view: Index of the other frame.

    Raises:
        OutputError: Something has another type, dtype, shape or range than the protocol says.
    """
    device = renderer.device
    views = torch.tensor([0, view], device=device)
    scale = min(1, _LONGER_SIDE / max(cameras.width, cameras.height))
    size = (max(1, round(cameras.width * scale)), max(1, round(cameras.height * scale)))
    cameras = cameras[[0, view]].to(device).resized(*size)
    canonical = gaussians.to(device).map(lambda value: value.detach().clone().requires_grad_())
    progress = distortion.progress
    home = next((parameter.device for parameter in distortion.parameters()), None)
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(cuda), torch.enable_grad():
        distortion.to(device).progress = 1.0
        parts = distortion.active_parts()
        for part in parts:
            output = Output.of("distortion", part)
            cameras = part.cameras(cameras, views)
            check_cameras(output, cameras, 2, size, "cameras")
        scene = canonical
        for part in parts:
            scene = part.gaussians(scene, views)
            _check_gaussians(Output.of("distortion", part), scene, canonical)
        for part in parts:
            penalty: Any = part.penalty()
            if not isinstance(penalty, (int, float)):
                Output.of("distortion", part).tensor(penalty, (), "penalty")
        render = _render_checked(renderer, scene, cameras)
        for part in parts:
            render = part.image(render, views)
            _check_rendered(Output.of("distortion", part), render, size, math.inf)
    if home is not None:
        distortion.to(home)
    distortion.progress = progress


def _check_gaussians(output: Output, gaussians: Any, canonical: Gaussians) -> None:
    """Check deformed Gaussians: shared by the views, or one set for each of two views."""
    output.instance(gaussians, Gaussians, "gaussians")
    count = len(canonical.means)
    for name, last_axes in _GAUSSIAN_SHAPES.items():
        value: Any = getattr(gaussians, name)
        # A field may still be shared if only others are deformed.
        is_shared = isinstance(value, torch.Tensor) and value.dim() == 1 + len(last_axes)
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
