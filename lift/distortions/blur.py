"""How soft each frame is."""

import math
from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Interval
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from lift.distortions import Distortion, distortions
from lift.distortions.kernels import RADIUS_IN_SIGMAS
from lift.distortions.parameters.chain import PerFrame
from lift.registry.ranges import LearningRate, Weight
from lift.runtime.jit import can_use_triton
from lift.types import Render, Trajectory

SIGMA_UNIT = 1 / 256
"""Unit of standard deviations, in picture widths."""

BLOCK = 64
"""Number of pixels that one matrix product blurs."""


@distortions.register("blur")
class Blur(Distortion):
    """Blur each frame by a Gaussian, because frames are softer than the scene.

    The variance is learned: at a variance of 0 its gradient is not 0, as a standard deviation's
    would be. The discrete Gaussian is exact below a pixel, too.

    Args:
        max_sigma: Largest standard deviation, in 1/256 of the picture's width; above 0.
        learning_rate: Learning rate of the variance, in squares of that unit.
        weight: Weight of the penalty on the mean variance (if chained, on its change from frame
            to frame). It keeps blur that all frames could share at zero.
        chained: Whether changes from frame to frame are learned, not each frame on its own.
        num_views: Number of frames, the input included.
        trajectory: The tree of clips.

    Raises:
        ValueError: If `max_sigma` is not above 0.

    Reference:
        The discrete Gaussian: Lindeberg, PAMI 1990.
    """

    steps = 1000
    replayable = True

    def __init__(
        self,
        max_sigma: Annotated[float, Interval(ge=1e-6, le=100)] = 2.5,
        learning_rate: LearningRate = 2e-2,
        weight: Weight = 1e-3,
        chained: bool = True,
        *,
        num_views: int,
        trajectory: Trajectory,
    ) -> None:
        super().__init__()
        self.max_sigma = max_sigma
        self.learning_rate = learning_rate
        self.weight = weight
        self.variance = PerFrame(num_views, (), trajectory, chained)

    def image(self, render: Render, view: Int[Tensor, "view"]) -> Render:
        """Blur the renders.

        Args:
            render: Renders of the scene, one a view.
            view: Indices of the frames; 0 is the input.

        Returns:
            The distorted renders.
        """
        square = (SIGMA_UNIT * render.rgb.shape[2]) ** 2  # of the unit, in pixels
        rgb = gaussian_blur(render.rgb, self.variances(view) * square, self.max_sigma**2 * square)
        return replace(render, rgb=rgb)

    def variances(self, view: Int[Tensor, "view"]) -> Float[Tensor, "view"]:
        """Return the variances of some frames.

        Args:
            view: Indices of the frames; 0 is the input.

        Returns:
            Variances in squares of `SIGMA_UNIT`, 0 to `max_sigma` squared; 0 for the input.
        """
        raw = self.variance(view)
        # A number below zero still has a gradient: one noisy step must not end a frame's blur.
        return raw + (raw.clamp(0, self.max_sigma**2) - raw).detach()

    def penalty(self) -> Float[Tensor, ""]:
        """Return the weighted mean variance."""
        return self.weight * self.variance.values.abs().mean()


def gaussian_blur(
    rgb: Float[Tensor, "view height width 3"],
    variance: Float[Tensor, "view"],
    max_variance: float,
) -> Float[Tensor, "view height width 3"]:
    """Blur pictures by discrete Gaussians; pictures are mirrored beyond their border.

    Args:
        rgb: The pictures.
        variance: Variance of each picture's blur in squared pixels. At 0 the picture stays as
            it is, to the last bit.
        max_variance: Upper bound of the variances in squared pixels.

    Returns:
        The blurred pictures.
    """
    if not variance.is_cuda:  # on CUDA, reading the variance would wait for the device
        max_variance = min(max_variance, float(variance.detach().max()))
    radius = math.ceil(RADIUS_IN_SIGMAS * max_variance**0.5) + 1
    if can_use_triton(rgb, variance) and radius <= min(rgb.shape[1:3]):
        from lift.distortions.kernels import blur_triton

        return blur_triton.gaussian_blur(rgb, variance, radius)
    return _GaussianBlur.apply(rgb, variance, radius)


class _GaussianBlur(Function):
    """Blur in plain torch.

    The blur of a mirrored picture is its own adjoint. It is also diffusion: the derivative by
    the variance is half the Laplacian of the result, apart from what the radius cuts off. (The
    gradient through the kernel would be a sum over all pixels for each of its taps.)
    """

    @staticmethod
    def forward(ctx, rgb, variance, radius):
        angles = 2 * math.pi * torch.arange(8 * radius, device=rgb.device) / (8 * radius)
        waves = (torch.arange(radius + 1, device=rgb.device)[:, None] * angles).cos()
        # Taps are differences from a variance of 0, so that nothing is blurred at all there.
        # The weight that the radius cuts off stays at the centre.
        sides = (torch.expm1(variance[:, None, None] * (angles.cos() - 1)) * waves).mean(-1)[:, 1:]
        ctx.kernel = torch.cat([sides.flip(1), 1 - 2 * sides.sum(1, keepdim=True), sides], dim=1)
        out = _convolve(rgb, ctx.kernel)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, outer):
        (out,) = ctx.saved_tensors
        by_variance = -0.5 * sum(
            (outer.diff(dim=axis) * out.diff(dim=axis)).flatten(1).sum(1) for axis in (1, 2)
        )
        return _convolve(outer, ctx.kernel), by_variance, None


def _convolve(
    rgb: Float[Tensor, "view height width 3"], kernel: Float[Tensor, "view tap"]
) -> Float[Tensor, "view height width 3"]:
    """Convolve along rows and columns."""
    rows = _convolve_lines(rgb.permute(0, 3, 1, 2), kernel)
    return _convolve_lines(rows.mT, kernel).mT.permute(0, 2, 3, 1)


def _convolve_lines(
    planes: Float[Tensor, "view plane line pixel"], kernel: Float[Tensor, "view tap"]
) -> Float[Tensor, "view plane line pixel"]:
    """Convolve block by block as matrix products, which all processors are fast at."""
    views, count, lines, pixels = planes.shape
    radius = kernel.shape[1] // 2
    blocks = -(-pixels // BLOCK)
    support = BLOCK + 2 * radius
    # The repeated pattern is one longer than a row, so each row has the kernel one further right.
    band = pad(kernel, (0, BLOCK)).repeat(1, BLOCK)[:, : BLOCK * support]
    band = band.view(views, BLOCK, support)
    # A line and its mirror image, repeated without end.
    position = torch.arange(-radius, blocks * BLOCK + radius, device=planes.device) % (2 * pixels)
    position = position.minimum(2 * pixels - 1 - position)
    mirrored = planes.reshape(views, count * lines, pixels)[..., position]
    out = mirrored.unfold(2, support, BLOCK).reshape(views, -1, support) @ band.mT
    return out.view(views, count, lines, blocks * BLOCK)[..., :pixels]
