"""Exposure, white balance and their drift across each frame."""

from dataclasses import replace

from jaxtyping import Float, Int
from torch import Tensor

from lift.distortions import Distortion, distortions
from lift.distortions.chain import PerFrame
from lift.distortions.spline import surface
from lift.runtime.jit import fused
from lift.types import Render, Trajectory


@distortions.register("appearance")
class Appearance(Distortion):
    """The frame's colours are off: an affine map of colour a frame, which may vary smoothly over the picture.

    Settings:
    - cells: of the grid of maps along the picture's longer side (a bilateral grid with one level of brightness); 0 is one map a frame;
    - learning_rate: of the maps' twelve numbers;
    - weight: of the penalty, the mean over frames of the deviation from the identity (if chained, of its change): a colour that all could share
      stays the input's;
    - chained: whether changes from frame to frame are learned (`lift.distortions.chain`), not every frame for itself.
    Cf. exposure correction in 3DGS (Kerbl et al. 2024) and bilateral guided radiance fields (Wang et al., SIGGRAPH 2024).
    """

    steps = 1000

    def __init__(
        self,
        cells: int = 0,
        learning_rate: float = 1e-3,
        weight: float = 0.1,
        chained: bool = True,
        *,
        num_views: int,
        size: tuple[int, int],
        trajectory: Trajectory,
    ) -> None:
        super().__init__()
        if cells < 0:
            raise ValueError(f"distortion.cells is {cells}; choose 0 or more")
        self.learning_rate, self.weight = learning_rate, weight
        nodes = (
            [max(1, round(side * cells / max(size))) + 3 for side in size[::-1]]
            if cells
            else [1, 1]
        )
        self.maps = PerFrame(num_views, (3, 4, *nodes), trajectory, chained)
        """[frame out in node node]: what is added to the identity; the last of `in` is added itself."""

    def image(self, render: Render, view: Int[Tensor, "view"]) -> Render:
        maps, rgb = self.maps(view), render.rgb
        if maps.shape[-1] == 1 and fused(rgb, maps):
            from lift.distortions.kernels.image_triton import tinted

            return replace(render, rgb=tinted(rgb, maps[..., 0, 0]))
        if maps.shape[-1] == 1:
            maps = maps[:, None, :, :, 0, 0]
            change = (maps[..., :3] @ rgb.mT).mT + maps[..., 3][:, :, None]
        else:
            maps = surface(maps, *rgb.shape[1:3]).movedim(1, -1)
            change = (maps[:, :3] * rgb.movedim(-1, 1)[..., None]).sum(1) + maps[:, 3]
        return replace(render, rgb=rgb + change)

    def penalty(self) -> Float[Tensor, ""]:
        return self.maps.norm(1e-3, self.weight)
