"""How soft each frame is."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from lift.distortions import Distortion, distortions
from lift.distortions.chain import PerFrame
from lift.distortions.kernels import SIGMAS
from lift.runtime.jit import fused
from lift.types import Render, Trajectory

UNIT = 1 / 256
"""Of standard deviations, in picture widths."""
BLOCK = 64
"""Pixels that are blurred at once."""


@distortions.register("blur")
class Blur(Distortion):
    """The frame is softer than the scene: a Gaussian blur a frame.

    Its variance is what is learned: at a variance of 0 a change of it still shows, of a standard deviation it would not. The discrete
    Gaussian (Lindeberg, PAMI 1990) is exact below a pixel, too. Settings:
    - most: the largest standard deviation, in 1/256 of the picture's width;
    - learning_rate: of the variance, in squares of that unit;
    - weight: of the penalty, the mean variance (if chained, its change from frame to frame): blur that all frames could share stays at zero;
    - chained: whether changes from frame to frame are learned (`lift.distortions.chain`), not every frame for itself.
    """

    steps = 1000

    def __init__(
        self,
        most: float = 2.5,
        learning_rate: float = 2e-2,
        weight: float = 1e-3,
        chained: bool = True,
        *,
        num_views: int,
        trajectory: Trajectory,
    ) -> None:
        super().__init__()
        if not most > 0:
            raise ValueError(f"distortion.most is {most:g}; choose more than 0")
        self.most, self.learning_rate, self.weight = most, learning_rate, weight
        self.variance = PerFrame(num_views, (), trajectory, chained)

    def image(self, render: Render, view: Int[Tensor, "view"]) -> Render:
        square = (UNIT * render.rgb.shape[2]) ** 2  # of the unit, in pixels
        return replace(
            render, rgb=blurred(render.rgb, self.variances(view) * square, self.most**2 * square)
        )

    def variances(self, view: Int[Tensor, "view"]) -> Float[Tensor, "view"]:
        """In squares of `UNIT`; none for the input."""
        asked = self.variance(view)
        # A number that was pushed below zero still has a gradient: one noisy step must not end a frame's blur for good.
        return asked + (asked.clamp(0, self.most**2) - asked).detach()

    def penalty(self) -> Float[Tensor, ""]:
        return self.weight * self.variance.values.abs().mean()


def blurred(
    rgb: Float[Tensor, "view height width 3"], variance: Float[Tensor, "view"], most: float
) -> Float[Tensor, "view height width 3"]:
    """Pictures, each by its own variance in pixels squared, at most `most`; exactly themselves at 0. Beyond the border they are mirrored."""
    if not variance.is_cuda:  # there it would have to be waited for
        most = min(most, float(variance.detach().max()))
    reach = math.ceil(SIGMAS * most**0.5) + 1
    if fused(rgb, variance) and reach <= min(rgb.shape[1:3]):
        from lift.distortions.kernels import image_triton

        return image_triton.blurred(rgb, variance, reach)
    return _Blurred.apply(rgb, variance, reach)


class _Blurred(Function):
    """In plain torch. The blur of a mirrored picture is its own adjoint; and it is diffusion: what a change of the variance changes is half the Laplacian of
    what came out, but for what the reach cuts off. (The gradient of the kernel would be a sum over all pixels for each of its taps.)
    """

    @staticmethod
    def forward(ctx, rgb, variance, reach):
        angles = 2 * math.pi * torch.arange(8 * reach, device=rgb.device) / (8 * reach)
        waves = (torch.arange(reach + 1, device=rgb.device)[:, None] * angles).cos()
        # As differences from a variance of 0, so that there nothing is blurred at all; what the reach cuts off stays at the centre.
        sides = (torch.expm1(variance[:, None, None] * (angles.cos() - 1)) * waves).mean(-1)[:, 1:]
        ctx.kernel = torch.cat([sides.flip(1), 1 - 2 * sides.sum(1, keepdim=True), sides], dim=1)
        out = _filtered(rgb, ctx.kernel)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, outer):
        (out,) = ctx.saved_tensors
        by_variance = -0.5 * sum(
            (outer.diff(dim=axis) * out.diff(dim=axis)).flatten(1).sum(1) for axis in (1, 2)
        )
        return _filtered(outer, ctx.kernel), by_variance, None


def _filtered(
    rgb: Float[Tensor, "view height width 3"], kernel: Float[Tensor, "view tap"]
) -> Float[Tensor, "view height width 3"]:
    """Along rows and columns."""
    return _along(_along(rgb.permute(0, 3, 1, 2), kernel).mT, kernel).mT.permute(0, 2, 3, 1)


def _along(
    planes: Float[Tensor, "view plane line pixel"], kernel: Float[Tensor, "view tap"]
) -> Float[Tensor, "view plane line pixel"]:
    """Block by block as products of matrices, which is what processors of all kinds are quickest at."""
    views, count, lines, pixels = planes.shape
    reach, blocks = kernel.shape[1] // 2, -(-pixels // BLOCK)
    around = BLOCK + 2 * reach
    # In rows that are one shorter than what is repeated, each row has the kernel one further to the right.
    band = pad(kernel, (0, BLOCK)).repeat(1, BLOCK)[:, : BLOCK * around].view(views, BLOCK, around)
    circle = torch.arange(-reach, blocks * BLOCK + reach, device=planes.device) % (
        2 * pixels
    )  # a line and its mirror image, again and again
    mirrored = planes.reshape(views, count * lines, pixels)[
        ..., circle.minimum(2 * pixels - 1 - circle)
    ]
    found = mirrored.unfold(2, around, BLOCK).reshape(views, -1, around) @ band.mT
    return found.view(views, count, lines, blocks * BLOCK)[..., :pixels]
