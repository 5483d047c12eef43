"""How soft each frame is."""

import math
from dataclasses import replace
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lift.distortions import Distortion, distortions
from lift.distortions.chain import PerFrame
from lift.types import Render, Trajectory

UNIT = 1 / 256
"""Of standard deviations, in picture widths."""


@distortions.register("blur")
class Blur(Distortion):
    """The frame is softer than the scene: a Gaussian blur a frame.

    Its variance is what is learned: at a variance of 0 a change of it still shows, of a standard deviation it would not. The discrete
    Gaussian (Lindeberg, PAMI 1990) is exact below a pixel, too; pictures go on reflected beyond their border. Settings:
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
        height, width = render.rgb.shape[1:3]
        pixels = self.variances(view) * (UNIT * width) ** 2
        across, down = _softening(pixels, width), _softening(pixels, height)
        planes = render.rgb.permute(0, 3, 1, 2)
        planes = planes + planes @ across[:, None]
        planes = planes + down[:, None] @ planes
        return replace(render, rgb=planes.permute(0, 2, 3, 1))

    def variances(self, view: Int[Tensor, "view"]) -> Float[Tensor, "view"]:
        """In squares of `UNIT`; none for the input."""
        asked = self.variance(view)
        # A number that was pushed below zero still has a gradient: one noisy step must not end a frame's blur for good.
        return asked + (asked.clamp(0, self.most**2) - asked).detach()

    def penalty(self) -> Float[Tensor, ""]:
        return self.weight * self.variance.values.abs().mean()


def _softening(variance: Float[Tensor, "view"], pixels: int) -> Float[Tensor, "view pixels pixels"]:
    """What blurring a line of pixels adds to it, as a symmetric matrix; exactly nothing at a variance of 0."""
    waves, rates = _cosines(pixels, variance.device)
    return (waves * torch.expm1(variance[:, None, None] * rates)) @ waves.T


@lru_cache(maxsize=64)
def _cosines(pixels: int, device: torch.device) -> tuple[Float[Tensor, "pixel wave"], Float[Tensor, "wave"]]:
    """Waves that a line reflected at its ends is made of, orthonormal, and by which exponent of the variance each fades."""
    wave = torch.arange(pixels, dtype=torch.float64)
    angles = math.pi / pixels * wave
    waves = ((wave[:, None] + 0.5) * angles).cos() * (2 / pixels) ** 0.5
    waves[:, 0] = pixels**-0.5
    return waves.to(device, torch.float32), (angles.cos() - 1).to(device, torch.float32)
