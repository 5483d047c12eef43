"""How soft each frame is."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import conv2d, pad

from lift.distortions import Distortion, distortions
from lift.distortions.chain import PerFrame
from lift.types import Render, Trajectory

UNIT = 1 / 256
"""Of standard deviations, in picture widths."""


@distortions.register("blur")
class Blur(Distortion):
    """The frame is softer than the scene: a Gaussian blur a frame.

    Its variance is what is learned: at a variance of 0 a change of it still shows, of a standard deviation it would not. The discrete
    Gaussian (Lindeberg, PAMI 1990) is exact below a pixel, too. Settings:
    - most: the largest standard deviation, in 1/256 of the picture's width;
    - learning_rate: of the variance, in squares of that unit;
    - weight: of the penalty, the mean variance: blur that all frames could share stays at zero;
    - chained: whether changes from frame to frame are learned (`lift.distortions.chain`), not every frame for itself.
    """

    steps = 1000

    def __init__(
        self, most: float = 2.5, learning_rate: float = 2e-2, weight: float = 1e-3, chained: bool = True,
        *, num_views: int, trajectory: Trajectory,
    ) -> None:  # fmt: skip
        super().__init__()
        if not most > 0:
            raise ValueError(f"distortion.most is {most:g}; choose more than 0")
        self.most, self.learning_rate, self.weight = most, learning_rate, weight
        self.variance = PerFrame(num_views, (), trajectory, chained)

    def image(self, render: Render, view: Int[Tensor, "view"]) -> Render:
        width = render.rgb.shape[2]
        pixels = self.variances(view) * (UNIT * width) ** 2
        widest = self.most * UNIT * width
        if not pixels.is_cuda:  # there it would have to be waited for
            widest = min(widest, float(pixels.detach().max()) ** 0.5)
        reach = math.ceil(3 * widest) + 1
        angles = 2 * math.pi * torch.arange(8 * reach, device=view.device) / (8 * reach)
        waves = (torch.arange(reach + 1, device=view.device)[:, None] * angles).cos()
        # As differences from a variance of 0, so that there nothing is blurred at all; what the reach cuts off stays at the centre.
        sides = (torch.expm1(pixels[:, None, None] * (angles.cos() - 1)) * waves).mean(-1)[:, 1:]
        kernel = torch.cat([sides.flip(1), 1 - 2 * sides.sum(1, keepdim=True), sides], dim=1)
        return replace(render, rgb=_blurred(render.rgb, kernel, reach))

    def variances(self, view: Int[Tensor, "view"]) -> Float[Tensor, "view"]:
        """In squares of `UNIT`; none for the input."""
        asked = self.variance(view)
        # A number that was pushed below zero still has a gradient: one noisy step must not end a frame's blur for good.
        return asked + (asked.clamp(0, self.most**2) - asked).detach()

    def penalty(self) -> Float[Tensor, ""]:
        return self.weight * self.variance.values.abs().mean()


def _blurred(rgb: Float[Tensor, "view height width 3"], kernel: Float[Tensor, "view tap"], reach: int) -> Float[Tensor, "view height width 3"]:
    """Across, then down; beyond the border its pixels go on."""
    views, height, width = rgb.shape[:3]
    planes = pad(rgb.permute(0, 3, 1, 2), (reach,) * 4, mode="replicate").reshape(1, 3 * views, height + 2 * reach, width + 2 * reach)
    taps = kernel.repeat_interleave(3, dim=0)[:, None]
    across = conv2d(planes, taps[:, :, None, :], groups=3 * views)
    return conv2d(across, taps[:, :, :, None], groups=3 * views).reshape(views, 3, height, width).permute(0, 2, 3, 1)
