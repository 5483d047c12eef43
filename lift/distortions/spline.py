"""Smooth functions over a picture, few numbers each."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor


@lru_cache(maxsize=64)
def spline(pixels: int, nodes: int, device: torch.device) -> Float[Tensor, "pixel node"]:
    """Weights of a uniform cubic B-spline with `nodes` - 3 cells over `pixels` pixel centres: values = spline @ numbers at the nodes."""
    at = (torch.arange(pixels, dtype=torch.float64) + 0.5) / pixels * (nodes - 3)
    away = (at[:, None] + 1 - torch.arange(nodes)).abs()
    near, far = 2 / 3 - away**2 + away**3 / 2, (2 - away).clamp(min=0) ** 3 / 6
    return torch.where(away < 1, near, far).to(device, torch.float32)


def surface(numbers: Float[Tensor, "*field down across"], height: int, width: int) -> Float[Tensor, "*field height width"]:
    """The product of splines down and across, at every pixel."""
    rows, columns = spline(height, numbers.shape[-2], numbers.device), spline(width, numbers.shape[-1], numbers.device)
    return rows @ numbers @ columns.T
