"""Attribute the error of a frame to its camera, its geometry and its appearance."""

from itertools import combinations
from math import factorial

import torch
from torch import Tensor

from lift.distortions import Distortion
from lift.renderers import Renderer
from lift.types import Cameras, Gaussians, Render

CAUSES = ("camera", "geometry", "appearance")
"""Causes of an error.

camera: the frame was taken from another pose. geometry: the scene or parts of the picture moved.
appearance: colours and sharpness differ.
"""


@torch.no_grad()
def diagnose(
    renderer: Renderer,
    distortion: Distortion,
    gaussians: Gaussians,
    camera: Cameras,
    target: Tensor,
    view: int,
    renders: dict[tuple[bool, bool], Render] | None = None,
) -> dict[str, float]:
    """Attribute the squared difference between a frame and the canonical scene to its causes.

    The fraction of a cause is the error that its correction removes. It depends on which other
    causes were corrected before, so it is averaged over all orders (Shapley, 1953). It can be
    negative, because a part of a correction alone may increase the error.

    Args:
        renderer: Renders on its own device.
        distortion: The learned distortion of all frames.
        gaussians: The canonical scene.
        camera: The frame's nominal camera, one view.
        target: The frame [height width 3] in [0, 1], on the renderer's device.
        view: Index of the frame.
        renders: Renders by whether the camera and whether the Gaussians are corrected. Missing
            ones are added.

    Returns:
        Fractions of the error for each cause, and `unexplained`, the error that remains. Their sum
        is 1, or 0 if there is no difference.
    """
    view_index = torch.tensor([view], device=target.device)
    renders = renders if renders is not None else {}

    def error(corrected: frozenset[str]) -> float:
        corrected_camera = camera
        corrected_gaussians = gaussians
        for part in distortion.active_parts():
            if "camera" in corrected:
                corrected_camera = part.cameras(corrected_camera, view_index)
            if "geometry" in corrected:
                corrected_gaussians = part.gaussians(corrected_gaussians, view_index)
        is_corrected = (corrected_camera is not camera, corrected_gaussians is not gaussians)
        if is_corrected not in renders:
            renders[is_corrected] = renderer(corrected_gaussians, corrected_camera)
        render = renders[is_corrected]
        for part in distortion.active_parts():
            corrected_render = part.image(render, view_index)
            # A hook that moves pixels also moves their depth. Colours and sharpness do not.
            cause = "appearance" if corrected_render.depth is render.depth else "geometry"
            render = corrected_render if cause in corrected else render
        return float((render.rgb[0].clamp(0, 1) - target).square().mean())

    if not distortion.active_parts():
        return dict.fromkeys(CAUSES, 0.0) | {"unexplained": float(error(frozenset()) > 0)}
    subsets = [frozenset(c) for count in range(4) for c in combinations(CAUSES, count)]
    errors: dict[frozenset[str], float] = {subset: error(subset) for subset in subsets}
    total = errors[frozenset()]
    if total == 0:
        return dict.fromkeys((*CAUSES, "unexplained"), 0.0)
    fractions = {cause: _removed_error(errors, cause) / total for cause in CAUSES}
    return fractions | {"unexplained": errors[frozenset(CAUSES)] / total}


def _removed_error(errors: dict[frozenset[str], float], cause: str) -> float:
    """Average the error that a correction removes over all orders of corrections."""
    others = [c for c in CAUSES if c != cause]
    return sum(
        factorial(count)
        * factorial(len(others) - count)
        / factorial(len(CAUSES))
        * (errors[frozenset(earlier)] - errors[frozenset({*earlier, cause})])
        for count in range(len(others) + 1)
        for earlier in combinations(others, count)
    )
