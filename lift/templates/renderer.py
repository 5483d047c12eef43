"""The renderer `new_renderer`."""

from dataclasses import replace
from typing import Annotated

from annotated_types import Interval
from jaxtyping import Float
from torch import Tensor

from lift.renderers import Renderer, Sums, renderers
from lift.renderers.reference import Reference
from lift.types import Cameras, Gaussians


@renderers.register("new_renderer")
class NewRenderer(Renderer):
    """Render with `reference`, without faint Gaussians.

    Args:
        min_opacity: Opacity below which a Gaussian is not drawn, from 0 to 0.99.
    """

    def __init__(self, min_opacity: Annotated[float, Interval(ge=0, le=0.99)] = 0.0) -> None:
        self.min_opacity = min_opacity
        # To run on a GPU, take the keyword-only parameter `device` and set `self.device`.
        self.inner = Reference()

    def rasterize(
        self, gaussians: Gaussians, colors: Float[Tensor, "view gaussian 3"], cameras: Cameras
    ) -> Sums:
        """Sum colour, coverage and z-depth over black. See `Renderer`.

        Args:
            gaussians: The scene, shared by the views or one set a view.
            colors: Colours of the Gaussians in every view.
            cameras: The cameras, one a view.
        """
        opacities = gaussians.opacities
        drawn = opacities.where(opacities >= self.min_opacity, 0.0)
        return self.inner.rasterize(replace(gaussians, opacities=drawn), colors, cameras)
