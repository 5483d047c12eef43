"""Gaussians to pictures.

The image model, the same in every renderer (3D Gaussian splatting, Kerbl et al. 2023, with the constants of gsplat 1.5.3, so that
scenes look alike wherever they are shown):
- a Gaussian in front of NEAR is projected with the local affine approximation (EWA), its offset clamped to 1.3 times the field of
  view before the Jacobian, and BLUR is added to the diagonal of its 2D covariance;
- a pixel's alpha is min(MAX_ALPHA, opacity * exp(-0.5 d^T cov2d^-1 d)); below MIN_ALPHA it is dropped;
- compositing goes front to back by z-depth of the means and stops before transmittance would fall to MIN_TRANSMITTANCE or below.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from lift.registry import Registry
from lift.runtime.jit import fused
from lift.spherical_harmonics import seen_from
from lift.types import Cameras, Gaussians, Render

NEAR = 0.01
BLUR = 0.3
MIN_ALPHA = 1 / 255
MAX_ALPHA = 0.999
MIN_TRANSMITTANCE = 1e-4
MIN_COVERAGE = 1e-6
"""What a sum of depths is at least divided by: where nothing was hit it is 0."""

Sums = tuple[
    Float[Tensor, "view height width 3"],
    Float[Tensor, "view height width"],
    Float[Tensor, "view height width"],
    dict,
]


def finish(
    rgb: Float[Tensor, "view height width 3"],
    alpha: Float[Tensor, "view height width"],
    depth_sum: Float[Tensor, "view height width"],
    background: Float[Tensor, "*view 3"] | None,
) -> tuple[
    Float[Tensor, "view height width 3"],
    Float[Tensor, "view height width"],
    Float[Tensor, "view height width"],
]:
    """Sums as a picture over a background, its coverage and its expected depth."""
    if background is not None:
        rgb = rgb + (1 - alpha)[..., None] * background[..., None, None, :]
    return rgb, alpha, depth_sum / alpha.clamp(min=MIN_COVERAGE)


class Renderer(ABC):
    """Renders canonical Gaussians, or one set a view, from every camera; differentiable in Gaussians and cameras.

    A constructor may ask for (keyword-only) `device` (torch.device).
    """

    device = torch.device("cpu")
    """Where its inputs must lie."""

    own_threads = False
    """Whether its loops run on threads of their own, for which torch's had better make room."""

    finish: Callable[..., tuple[Tensor, Tensor, Tensor]] = staticmethod(finish)
    """A renderer may bring a faster twin of the function above."""

    colors: Callable[..., Tensor] = staticmethod(seen_from)
    """A renderer may bring a faster twin of `lift.spherical_harmonics.seen_from`."""

    def __call__(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        background: Float[Tensor, "*view 3"] | None = None,
    ) -> Render:
        """background: colour behind everything, black if None; one, or one a view."""
        if fused(*gaussians.tensors().values()):
            from lift.renderers.cuda import shading as shading

            colors = shading.seen_from(gaussians.sh_coeffs, gaussians.means, cameras.centers)
            rgb, alpha, depth_sum, info = self.rasterize(gaussians, colors, cameras)
            rgb, depth = shading.compose(
                rgb, alpha, depth_sum, rgb.new_zeros(3) if background is None else background
            )
            return Render(rgb, alpha, depth, info)
        colors = self.colors(gaussians.sh_coeffs, gaussians.means, cameras.centers)
        rgb, alpha, depth_sum, info = self.rasterize(gaussians, colors, cameras)
        return Render(*self.finish(rgb, alpha, depth_sum, background), info)

    @abstractmethod
    def rasterize(
        self, gaussians: Gaussians, colors: Float[Tensor, "view gaussian 3"], cameras: Cameras
    ) -> Sums:
        """Alpha-weighted sums of colour, of one (alpha) and of z-depth, all over black. The Gaussians' own sh_coeffs are not looked at."""

    def warm_up(self) -> None:  # noqa: B027
        """Whatever must be compiled or loaded before the first picture; called when a run starts."""


renderers: Registry[Renderer] = Registry("renderer", Renderer)
