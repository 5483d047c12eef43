"""A smooth displacement of each frame's pixels."""

from typing import Annotated

import torch
from annotated_types import Interval
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import grid_sample

from lift.distortions import Distortion, distortions
from lift.distortions.parameters.chain import PerFrame
from lift.distortions.parameters.spline import bending_energy, spline_surface
from lift.registry.ranges import LearningRate, Weight
from lift.runtime.jit import can_use_triton
from lift.types import Render, Trajectory


@distortions.register("image_warp")
class ImageWarp(Distortion):
    """Warp each frame by a smooth displacement of its pixels.

    The displacement is a uniform cubic B-spline on a grid. The canonical scene is rendered
    straight and then warped, so that it stays straight itself. Colours are sampled bicubically:
    a bilinear sample blurs what falls between pixels, and the scene would make up for that.
    Pixels that would come from beyond the picture's border have weight 0.

    Args:
        cells: Number of cells of the grid along the picture's longer side.
        learning_rate: Learning rate of the displacements, in picture widths.
        weight: Weight of the penalty on the mean displacement over all frames (if chained, on
            its changes). It keeps what all frames could share at zero.
        bending: Weight of the penalty on the mean squared second difference between neighbouring
            nodes, in hundredths of the picture's width.
        chained: Whether changes from frame to frame are learned, not each frame on its own.
        num_views: Number of frames, the input included.
        size: Width and height of the pictures in pixels.
        trajectory: The tree of clips.

    Raises:
        ValueError: If `cells` is below 2.

    Reference:
        Compare displacement fields on a coarse grid against errors of generated frames in
        arXiv 2503.16611.
    """

    steps = 1000
    replayable = True
    start = 0.1

    def __init__(
        self,
        cells: Annotated[int, Interval(ge=2, le=256)] = 10,
        learning_rate: LearningRate = 1e-4,
        weight: Weight = 0.6,
        bending: Weight = 1e-3,
        chained: bool = True,
        *,
        num_views: int,
        size: tuple[int, int],
        trajectory: Trajectory,
    ) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.weight = weight
        self.bending = bending
        cell = max(size) / cells
        across, down = (max(2, round(side / cell)) for side in size)
        self.grid = PerFrame(num_views, (2, down + 3, across + 3), trajectory, chained)
        """[frame x/y node node], in picture widths. As cubic splines need them, some nodes lie
        beyond the border."""

    def image(self, render: Render, view: Int[Tensor, "view"]) -> Render:
        """Warp the renders.

        Args:
            render: Renders of the scene, one a view.
            view: Indices of the frames; 0 is the input.

        Returns:
            The distorted renders.
        """
        height, width = render.rgb.shape[1:3]
        return warp_render(render, self.flow(view, width, height))

    def flow(
        self, view: Int[Tensor, "view"], width: int, height: int
    ) -> Float[Tensor, "view 2 height width"]:
        """Return where in the straight picture each pixel of a frame comes from.

        Args:
            view: Indices of the frames; 0 is the input.
            width: Width of the pictures in pixels.
            height: Height of the pictures in pixels.

        Returns:
            Offsets x and y in pixels, relative to the pixel itself.
        """
        return width * spline_surface(self.grid(view), height, width)

    def penalty(self) -> Float[Tensor, ""]:
        """Return the weighted mean displacement plus the weighted bending energy."""
        return self.grid.norm(1e-4, self.weight) + bending_energy(
            self.grid.values, 1e4 * self.bending
        )


def warp_render(render: Render, flow: Float[Tensor, "view 2 height width"]) -> Render:
    """Sample renders at displaced pixels.

    Args:
        render: The straight renders.
        flow: Offsets x and y in pixels from each pixel to its source.

    Returns:
        The warped renders. `info["weight"]` is 0 where the source is beyond the border.
    """
    if can_use_triton(render.rgb, flow):
        from lift.distortions.kernels import warp_triton

        rgb, alpha, depth, weight = warp_triton.warp(render.rgb, render.alpha, render.depth, flow)
    else:
        rgb, alpha, depth, weight = sample_displaced(render.rgb, render.alpha, render.depth, flow)
    if "weight" in render.info:
        weight = weight * render.info["weight"]
    return Render(rgb, alpha, depth, {**render.info, "weight": weight})


def sample_displaced(
    rgb: Float[Tensor, "view height width 3"],
    alpha: Float[Tensor, "view height width"],
    depth: Float[Tensor, "view height width"],
    flow: Float[Tensor, "view 2 height width"],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sample pictures at displaced pixels, in plain torch.

    Args:
        rgb: Colours, sampled bicubically.
        alpha: Coverage, sampled bilinearly.
        depth: z-depth, sampled bilinearly.
        flow: Offsets x and y in pixels from each pixel to its source.

    Returns:
        Colours, coverage and depth; and 1 where the source is within the picture, else 0.
    """
    height, width = flow.shape[2:]
    x = torch.arange(width, device=flow.device) + flow[:, 0]
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1]
    grid = torch.stack([x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1], dim=-1)
    with torch.no_grad():
        unmoved = (flow == 0).all(1, keepdim=True)
        weight = ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).to(flow.dtype)
    rgb = _sample(rgb.permute(0, 3, 1, 2), grid, unmoved, "bicubic").permute(0, 2, 3, 1)
    alpha, depth = _sample(torch.stack([alpha, depth], dim=1), grid, unmoved, "bilinear").unbind(1)
    return rgb, alpha, depth, weight


def _sample(
    planes: Float[Tensor, "view plane height width"],
    grid: Float[Tensor, "view height width 2"],
    unmoved: Bool[Tensor, "view 1 height width"],
    mode: str,
) -> Float[Tensor, "view plane height width"]:
    """Sample planes on a grid from -1 to 1 between the centres of the outer pixels.

    Where `unmoved`, the result is the plane itself to the last bit. Beyond the border, the
    border's pixels are repeated.
    """
    samples = grid_sample(planes, grid, mode, "border", align_corners=True)
    with torch.no_grad():
        rounding = (samples - planes) * unmoved
    return samples - rounding
