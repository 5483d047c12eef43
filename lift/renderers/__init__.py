"""Renderers: from 3D Gaussians to pictures.

All renderers share one image model, that of 3D Gaussian splatting (Kerbl et al. 2023) with the
constants of gsplat 1.5.3, so that scenes look alike in other viewers:

- A Gaussian in front of NEAR_PLANE is projected with the local affine approximation (EWA). Its
  offset is clamped to 1.3 times the field of view before the Jacobian is computed, and EPS2D is
  added to the diagonal of its 2D covariance.
- A pixel's alpha is min(MAX_ALPHA, opacity * exp(-0.5 d^T cov2d^-1 d)). Below MIN_ALPHA it is
  dropped.
- Compositing goes front to back by z-depth of the means. It stops before the transmittance
  would fall to MIN_TRANSMITTANCE or below.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from lift.registry import Registry
from lift.runtime.jit import can_use_triton
from lift.spherical_harmonics import evaluate_from
from lift.types import Cameras, Gaussians, Render

NEAR_PLANE = 0.01
"""Smallest z-depth of a visible Gaussian, in units of the scene."""

EPS2D = 0.3
"""Variance added to every Gaussian in the picture, in squared pixels."""

MIN_ALPHA = 1 / 255
"""Alpha below which a Gaussian does not contribute to a pixel."""

MAX_ALPHA = 0.999
"""Largest alpha of a Gaussian at a pixel."""

MIN_TRANSMITTANCE = 1e-4
"""Transmittance that compositing leaves at least."""

MIN_COVERAGE = 1e-6
"""Smallest divisor of depth sums. Where nothing was hit, the sum and the depth are 0."""

Sums = tuple[
    Float[Tensor, "view height width 3"],
    Float[Tensor, "view height width"],
    Float[Tensor, "view height width"],
    dict,
]
"""Alpha-weighted sums of colour, of one (coverage) and of z-depth; and further information."""


def compose(
    rgb: Float[Tensor, "view height width 3"],
    alpha: Float[Tensor, "view height width"],
    depth_sum: Float[Tensor, "view height width"],
    background: Float[Tensor, "*view 3"] | None,
) -> tuple[
    Float[Tensor, "view height width 3"],
    Float[Tensor, "view height width"],
    Float[Tensor, "view height width"],
]:
    """Compose sums with a background.

    Args:
        rgb: Alpha-weighted sum of colour, over black.
        alpha: Coverage in [0, 1].
        depth_sum: Alpha-weighted sum of z-depth.
        background: Colour behind everything, one or one a view; None is black.

    Returns:
        Colour over the background, coverage, and expected z-depth.
    """
    if background is not None:
        rgb = rgb + (1 - alpha)[..., None] * background[..., None, None, :]
    return rgb, alpha, depth_sum / alpha.clamp(min=MIN_COVERAGE)


class Renderer(ABC):
    """Render Gaussians, shared or one set a view, from every camera.

    Renders are differentiable in Gaussians and cameras. A constructor may take the keyword-only
    parameter `device` (torch.device), which the pipeline passes.
    """

    device = torch.device("cpu")
    """Device that the inputs must be on."""

    has_thread_pool = False
    """Whether the renderer runs threads of its own, for which torch should use fewer."""

    compose: Callable[..., tuple[Tensor, Tensor, Tensor]] = staticmethod(compose)
    """The function above, or a faster equivalent."""

    evaluate_colors: Callable[..., Tensor] = staticmethod(evaluate_from)
    """`lift.spherical_harmonics.evaluate_from`, or a faster equivalent."""

    def __call__(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        background: Float[Tensor, "*view 3"] | None = None,
    ) -> Render:
        """Render one picture a camera.

        Args:
            gaussians: The scene, shared by the views or one set a view.
            cameras: The cameras, one a view.
            background: Colour behind everything, one or one a view; None is black.

        Returns:
            The renders. `info["radii"]` [view gaussian] are radii in pixels, 0 where culled.
        """
        if can_use_triton(*gaussians.tensors().values()):
            from lift.renderers.cuda import shading as shading

            colors = shading.evaluate_from(gaussians.sh_coeffs, gaussians.means, cameras.centers)
            rgb, alpha, depth_sum, info = self.rasterize(gaussians, colors, cameras)
            rgb, depth = shading.compose(
                rgb, alpha, depth_sum, rgb.new_zeros(3) if background is None else background
            )
            return Render(rgb, alpha, depth, info)
        colors = self.evaluate_colors(gaussians.sh_coeffs, gaussians.means, cameras.centers)
        rgb, alpha, depth_sum, info = self.rasterize(gaussians, colors, cameras)
        return Render(*self.compose(rgb, alpha, depth_sum, background), info)

    @abstractmethod
    def rasterize(
        self, gaussians: Gaussians, colors: Float[Tensor, "view gaussian 3"], cameras: Cameras
    ) -> Sums:
        """Sum colour, coverage and z-depth over black.

        Args:
            gaussians: The scene, shared by the views or one set a view; its `sh_coeffs` are not
                used.
            colors: Colours of the Gaussians in every view.
            cameras: The cameras, one a view.

        Returns:
            Alpha-weighted sums of colour, of one (coverage) and of z-depth; and a dictionary
            with `radii` [view gaussian] in pixels, 0 where culled.
        """

    def warm_up(self) -> None:  # noqa: B027
        """Compile or load what the first render needs; called when a run starts."""


renderers: Registry[Renderer] = Registry("renderer", Renderer)
