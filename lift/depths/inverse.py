"""From what networks give to depth."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate


def from_relative(inverse: Float[Tensor, "height width"], far: float) -> Float[Tensor, "height width"]:
    """z-depth from 1 to `far`, out of inverse depth that is known up to scale and shift only.

    The two are chosen so that the nearest half percent of the pixels lies at 1 and the farthest at `far`; both are cut off there,
    so that a stray pixel does not squeeze all others together. A picture without contrast lies at 1.
    """
    flat = inverse.flatten()
    count = flat.numel()
    edge = max(round(0.005 * count), 1)
    low, high = flat.kthvalue(edge).values, flat.kthvalue(count + 1 - edge).values
    nearness = torch.ones_like(inverse) if high <= low else ((inverse - low) / (high - low)).clamp(0, 1)
    return 1 / (1 / far + nearness * (1 - 1 / far))


def resized(values: Float[Tensor, "height width"], width: int, height: int) -> Float[Tensor, "new_height new_width"]:
    """Bilinear, averaging where it shrinks."""
    return interpolate(values[None, None], size=(height, width), mode="bilinear", align_corners=False, antialias=True)[0, 0]
