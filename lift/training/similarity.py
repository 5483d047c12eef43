"""Structural similarity as a loss. For the CPU, where torch's small convolutions are slow, it has a compiled twin."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d

from lift.training.kernels.ssim_window import C1, C2, WINDOW

Pictures = Float[Tensor, "view height width 3"]


def ssim(a: Pictures, b: Pictures) -> Float[Tensor, ""]:
    """Mean structural similarity with an 11-tap Gaussian window of sigma 1.5 (Wang et al., 2004), zero padding as in 3DGS trainers.

    Differentiable in `a`; in `b` too where no compiled path applies (CUDA, double precision).
    """
    if a.device.type == "cpu" and a.dtype == b.dtype == torch.float32 and not b.requires_grad:
        from lift.training.kernels import (
            loss_numba,  # compiles, or loads what was compiled, on first use
        )

        return loss_numba.photometric(a, b)[1]
    return convolved_ssim(a, b)


def convolved_ssim(a: Pictures, b: Pictures) -> Float[Tensor, ""]:
    """The same by torch's convolutions, on any device."""
    views, height, width, channels = a.shape
    window = torch.from_numpy(WINDOW).to(a)
    x, y = a.permute(0, 3, 1, 2), b.permute(0, 3, 1, 2)
    maps = torch.stack([x, y, x * x, y * y, x * y]).reshape(-1, 1, height, width)
    blurred = conv2d(
        conv2d(maps, window[None, None, :, None], padding=(5, 0)),
        window[None, None, None],
        padding=(0, 5),
    )
    mx, my, xx, yy, xy = blurred.reshape(5, views, channels, height, width)
    top = (2 * mx * my + C1) * (2 * (xy - mx * my) + C2)
    bottom = (mx * mx + my * my + C1) * (xx - mx * mx + yy - my * my + C2)
    return (top / bottom).mean()
