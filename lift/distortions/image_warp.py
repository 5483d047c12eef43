"""A smooth displacement of each frame's pixels."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import grid_sample

from lift.distortions import Distortion, distortions
from lift.distortions.chain import PerFrame
from lift.distortions.spline import bending, surface
from lift.runtime.jit import fused
from lift.types import Render, Trajectory


@distortions.register("image_warp")
class ImageWarp(Distortion):
    """The frame's picture is bent: a smooth displacement of its pixels, a uniform cubic B-spline on a grid.

    The canonical scene is rendered straight and then bent, so that it stays straight itself; its colours by bicubic sampling, since a
    bilinear one blurs what falls between pixels, which the scene would make up for. Pixels that would come from beyond the picture's border
    count for nothing. Settings:
    - cells: of the grid along the picture's longer side;
    - learning_rate: of the displacements, in picture widths;
    - weight: of the penalty, the mean over frames of the displacement (if chained, of its change): what all frames could share stays at zero;
    - bending: of the mean squared second difference between neighbouring nodes, in hundredths of the width;
    - chained: whether changes from frame to frame are learned (`lift.distortions.chain`), not every frame for itself.
    Displacement fields on a coarse grid against what generated frames get wrong: cf. arXiv 2503.16611.
    """

    steps = 1000
    begins = 0.1

    def __init__(
        self,
        cells: int = 10,
        learning_rate: float = 1e-4,
        weight: float = 0.6,
        bending: float = 1e-3,
        chained: bool = True,
        *,
        num_views: int,
        size: tuple[int, int],
        trajectory: Trajectory,
    ) -> None:
        super().__init__()
        if cells < 2:
            raise ValueError(f"distortion.cells is {cells}; choose 2 or more")
        self.learning_rate, self.weight, self.bending = learning_rate, weight, bending
        cell = max(size) / cells
        across, down = (max(2, round(side / cell)) for side in size)
        self.grid = PerFrame(num_views, (2, down + 3, across + 3), trajectory, chained)
        """[frame x/y node node], in widths of the picture; nodes reach beyond the border as cubic splines need them to."""

    def image(self, render: Render, view: Int[Tensor, "view"]) -> Render:
        height, width = render.rgb.shape[1:3]
        return bent(render, self.flow(view, width, height))

    def flow(
        self, view: Int[Tensor, "view"], width: int, height: int
    ) -> Float[Tensor, "view 2 height width"]:
        """Where in the straight picture each pixel of the frame comes from, relative to itself and in pixels."""
        return width * surface(self.grid(view), height, width)

    def penalty(self) -> Float[Tensor, ""]:
        return self.grid.norm(1e-4, self.weight) + bending(self.grid.values, 1e4 * self.bending)


def bent(render: Render, moved: Float[Tensor, "view 2 height width"]) -> Render:
    """Pictures as seen `moved` pixels away; what is beyond the border counts for nothing (`info["weight"]`)."""
    if fused(render.rgb, moved):
        from lift.distortions.kernels import image_triton

        rgb, alpha, depth, weight = image_triton.bent(render.rgb, render.alpha, render.depth, moved)
    else:
        rgb, alpha, depth, weight = sampled(render.rgb, render.alpha, render.depth, moved)
    if "weight" in render.info:
        weight = weight * render.info["weight"]
    return Render(rgb, alpha, depth, {**render.info, "weight": weight})


def sampled(
    rgb: Float[Tensor, "view height width 3"],
    alpha: Float[Tensor, "view height width"],
    depth: Float[Tensor, "view height width"],
    moved: Float[Tensor, "view 2 height width"],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Colours, alpha and depth from `moved` pixels away, and 1 where that is within the picture, else 0."""
    height, width = moved.shape[2:]
    x = torch.arange(width, device=moved.device) + moved[:, 0]
    y = torch.arange(height, device=moved.device)[:, None] + moved[:, 1]
    places = torch.stack(
        [x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1], dim=-1
    )
    with torch.no_grad():
        still = (moved == 0).all(1, keepdim=True)
        weight = ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).to(moved.dtype)
    rgb = _sample(rgb.permute(0, 3, 1, 2), places, still, "bicubic").permute(0, 2, 3, 1)
    alpha, depth = _sample(torch.stack([alpha, depth], dim=1), places, still, "bilinear").unbind(1)
    return rgb, alpha, depth, weight


def _sample(
    planes: Float[Tensor, "view plane height width"],
    places: Float[Tensor, "view height width 2"],
    still: Bool[Tensor, "view 1 height width"],
    how: str,
) -> Float[Tensor, "view plane height width"]:
    """Planes at `places` (from -1 to 1 between the middles of outer pixels), exactly themselves where `still`; beyond the border its pixels go on."""
    found = grid_sample(planes, places, how, "border", align_corners=True)
    with torch.no_grad():
        rounding = (found - planes) * still
    return found - rounding
