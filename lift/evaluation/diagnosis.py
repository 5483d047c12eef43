"""Of what a frame gets wrong, how much is its camera, its geometry, its appearance?"""

from itertools import combinations
from math import factorial

import torch
from torch import Tensor

from lift.distortions import Distortion
from lift.renderers import Renderer
from lift.types import Cameras, Gaussians, Render

CAUSES = ("camera", "geometry", "appearance")
"""Where the frame was taken; what had moved, in the scene or in the picture; colours and sharpness."""


@torch.no_grad()
def diagnose(
    renderer: Renderer,
    distortion: Distortion,
    gaussians: Gaussians,
    camera: Cameras,
    target: Tensor,
    view: int,
    rendered: dict[tuple[bool, bool], Render] | None = None,
) -> dict[str, float]:
    """Shares of the mean squared difference between a frame and the canonical scene seen from where it says it was taken (one view): what
    correcting each cause takes away, and `unexplained`, what is left with all of them. They add up to 1, or are all 0 where there is no difference.

    What a cause takes away depends on which others were corrected before it; its share is the mean over all orders (Shapley, 1953). It
    can be below zero: alone, half of a correction makes things worse. target: [height width 3] in [0, 1], on the renderer's device.
    rendered: what is rendered already, by whether the camera and whether the Gaussians are corrected; the rest is added.
    """
    index = torch.tensor([view], device=target.device)
    rendered = {} if rendered is None else rendered

    def error(corrected: frozenset[str]) -> float:
        seen_from, scene = camera, gaussians
        for part in distortion.acting():
            seen_from = part.cameras(seen_from, index) if "camera" in corrected else seen_from
            scene = part.gaussians(scene, index) if "geometry" in corrected else scene
        differs = (seen_from is not camera, scene is not gaussians)
        if differs not in rendered:
            rendered[differs] = renderer(scene, seen_from)
        shown = rendered[differs]
        for part in distortion.acting():
            changed = part.image(shown, index)
            # Who moves pixels moves their depth along; colours and sharpness leave it alone.
            cause = "appearance" if changed.depth is shown.depth else "geometry"
            shown = changed if cause in corrected else shown
        return float((shown.rgb[0].clamp(0, 1) - target).square().mean())

    if not distortion.acting():
        return dict.fromkeys(CAUSES, 0.0) | {"unexplained": float(error(frozenset()) > 0)}
    errors = {
        corrected: error(corrected)
        for count in range(len(CAUSES) + 1)
        for corrected in map(frozenset, combinations(CAUSES, count))
    }
    whole = errors[frozenset()]
    if whole == 0:
        return dict.fromkeys((*CAUSES, "unexplained"), 0.0)
    shares = {}
    for cause in CAUSES:
        others = [c for c in CAUSES if c != cause]
        shares[cause] = (
            sum(
                factorial(count)
                * factorial(len(others) - count)
                / factorial(len(CAUSES))
                * (errors[frozenset(before)] - errors[frozenset({*before, cause})])
                for count in range(len(others) + 1)
                for before in combinations(others, count)
            )
            / whole
        )
    return shares | {"unexplained": errors[frozenset(CAUSES)] / whole}
