"""Robust weights: frames and pixels with large errors count less in the loss."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d

from lift.runtime.jit import can_use_triton

WINDOW = 9
"""Side in pixels of the window in which a pixel's error is averaged."""

_MAX_SORTED = 1024
"""Largest number of frames for the Triton kernel. Sorting more takes long to compile."""


def robust_weight(
    ratio: Float[Tensor, "view #height #width"], views: Int[Tensor, "view"]
) -> Float[Tensor, "view #height #width"]:
    """Return weights 1 / (1 + ratio^6). The input view always has weight 1.

    Args:
        ratio: Error divided by the error that gets weight 1/2. NaN counts as 0.
        views: Indices of the views; 0 is the input.
    """
    return torch.where(views[:, None, None] > 0, 1 / (1 + ratio.nan_to_num(0.0) ** 6), 1.0)


def frame_weights(
    errors: Float[Tensor, "frame"], views: Int[Tensor, "view"], bound: float
) -> Float[Tensor, "view 1 1"]:
    """Return the weights of frames by their last errors.

    Args:
        errors: Last error of each frame of the scene; 0 if it was not drawn yet.
        views: Indices of the frames to weight.
        bound: A frame at this multiple of the median error gets weight 1/2.
    """
    if can_use_triton(errors) and len(errors) <= _MAX_SORTED:
        from lift.training.kernels import loss_triton

        return loss_triton.frame_weights(errors, views, bound)[:, None, None]
    typical = torch.where(errors > 0, errors, torch.nan).nanmedian()
    return robust_weight((errors[views] / (bound * typical))[:, None, None], views)


def pixel_weights(
    errors: Float[Tensor, "view height width"], views: Int[Tensor, "view"], bound: float
) -> Float[Tensor, "view height width"]:
    """Return the weights of pixels by the mean error in a window around them.

    Args:
        errors: Error of each pixel.
        views: Indices of the views.
        bound: A pixel at this multiple of its frame's mean error gets weight 1/2.
    """
    local = avg_pool2d(errors, WINDOW, 1, WINDOW // 2, count_include_pad=False)
    return robust_weight(local / (bound * errors.mean((1, 2), keepdim=True)), views)
