"""Exposure, white balance and their drift across each frame."""

from dataclasses import replace
from typing import Annotated

from annotated_types import Interval
from jaxtyping import Float, Int
from torch import Tensor

from lift.distortions import Distortion, distortions
from lift.distortions.parameters.chain import PerFrame
from lift.distortions.parameters.spline import spline_surface
from lift.registry.ranges import LearningRate, Weight
from lift.runtime.jit import can_use_triton
from lift.types import Render, Trajectory


@distortions.register("appearance")
class Appearance(Distortion):
    """Correct each frame's colours by an affine map, constant or smooth in space.

    Args:
        cells: Number of cells of the grid of maps along the picture's longer side (a bilateral
            grid with one level of brightness). 0 is one map a frame.
        learning_rate: Learning rate of the twelve numbers of each map.
        weight: Weight of the penalty on the mean deviation from the identity over all frames (if
            chained, on its changes). It keeps a colour that all frames could share the input's.
        chained: Whether changes from frame to frame are learned, not each frame on its own.
        num_views: Number of frames, the input included.
        size: Width and height of the pictures in pixels.
        trajectory: The tree of clips.

    Raises:
        ValueError: If `cells` is negative.

    Reference:
        Compare exposure correction in 3DGS (Kerbl et al. 2024) and bilateral guided radiance
        fields (Wang et al., SIGGRAPH 2024).
    """

    steps = 1000
    replayable = True

    def __init__(
        self,
        cells: Annotated[int, Interval(ge=0, le=256)] = 0,
        learning_rate: LearningRate = 1e-3,
        weight: Weight = 0.1,
        chained: bool = True,
        *,
        num_views: int,
        size: tuple[int, int],
        trajectory: Trajectory,
    ) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.weight = weight
        nodes = (
            [max(1, round(side * cells / max(size))) + 3 for side in size[::-1]]
            if cells
            else [1, 1]
        )
        self.maps = PerFrame(num_views, (3, 4, *nodes), trajectory, chained)
        """[frame out in node node], added to the identity. The last of `in` is an offset."""

    def image(self, render: Render, view: Int[Tensor, "view"]) -> Render:
        """Map the colours of the renders.

        Args:
            render: Renders of the scene, one a view.
            view: Indices of the frames; 0 is the input.

        Returns:
            The distorted renders.
        """
        maps = self.maps(view)
        rgb = render.rgb
        if maps.shape[-1] == 1 and can_use_triton(rgb, maps):
            from lift.distortions.kernels.color_triton import map_colors

            return replace(render, rgb=map_colors(rgb, maps[..., 0, 0]))
        if maps.shape[-1] == 1:
            maps = maps[:, None, :, :, 0, 0]
            change = (maps[..., :3] @ rgb.mT).mT + maps[..., 3][:, :, None]
        else:
            maps = spline_surface(maps, *rgb.shape[1:3]).movedim(1, -1)
            change = (maps[:, :3] * rgb.movedim(-1, 1)[..., None]).sum(1) + maps[:, 3]
        return replace(render, rgb=rgb + change)

    def penalty(self) -> Float[Tensor, ""]:
        """Return the weighted mean deviation of the maps from the identity."""
        return self.maps.norm(1e-3, self.weight)
