"""Structural similarity as a loss."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d

from lift.training.kernels.ssim_window import C1, C2, WINDOW

Pictures = Float[Tensor, "view height width 3"]
"""Colours in [0, 1]."""


def ssim(a: Pictures, b: Pictures) -> Float[Tensor, ""]:
    """Return the mean structural similarity of two sets of pictures.

    The window is Gaussian with 11 taps and a standard deviation of 1.5 pixels. Outside the picture
    values are zero, as in trainers of 3D Gaussian splatting.

    Reference: Wang et al., "Image Quality Assessment: From Error Visibility to Structural
    Similarity", IEEE TIP 2004.

    Args:
        a: Colours in [0, 1]. The result is differentiable in them.
        b: Colours in [0, 1]. The result is differentiable in them on CUDA and in double precision.
    """
    if a.device.type == "cpu" and a.dtype == b.dtype == torch.float32 and not b.requires_grad:
        # The first import compiles the kernels, or loads them from numba's cache.
        from lift.training.kernels import loss_numba

        return loss_numba.photometric(a, b)[1]
    return ssim_conv2d(a, b)


def ssim_conv2d(a: Pictures, b: Pictures) -> Float[Tensor, ""]:
    """Compute `ssim` by torch's convolutions, on any device.

    Args:
        a: Colours in [0, 1].
        b: Colours in [0, 1].
    """
    views, height, width, channels = a.shape
    window = torch.from_numpy(WINDOW).to(a)
    x = a.permute(0, 3, 1, 2)
    y = b.permute(0, 3, 1, 2)
    maps = torch.stack([x, y, x * x, y * y, x * y]).reshape(-1, 1, height, width)
    blurred = conv2d(
        conv2d(maps, window[None, None, :, None], padding=(5, 0)),
        window[None, None, None],
        padding=(0, 5),
    )
    mx, my, xx, yy, xy = blurred.reshape(5, views, channels, height, width)
    numerator = (2 * mx * my + C1) * (2 * (xy - mx * my) + C2)
    denominator = (mx * mx + my * my + C1) * (xx - mx * mx + yy - my * my + C2)
    return (numerator / denominator).mean()
