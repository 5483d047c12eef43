"""Smooth functions over a picture, few numbers each."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


@lru_cache(maxsize=64)
def spline(pixels: int, nodes: int, device: torch.device) -> Float[Tensor, "pixel node"]:
    """Weights of a uniform cubic B-spline with `nodes` - 3 cells over `pixels` pixel centres: values = spline @ numbers at the nodes."""
    at = (torch.arange(pixels, dtype=torch.float64) + 0.5) / pixels * (nodes - 3)
    away = (at[:, None] + 1 - torch.arange(nodes)).abs()
    near, far = 2 / 3 - away**2 + away**3 / 2, (2 - away).clamp(min=0) ** 3 / 6
    return torch.where(away < 1, near, far).to(device, torch.float32)


def surface(
    numbers: Float[Tensor, "*field down across"], height: int, width: int
) -> Float[Tensor, "*field height width"]:
    """The product of splines down and across, at every pixel."""
    rows, columns = (
        spline(height, numbers.shape[-2], numbers.device),
        spline(width, numbers.shape[-1], numbers.device),
    )
    return rows @ numbers @ columns.T


def bending(numbers: Float[Tensor, "*field down across"], weight: float = 1.0) -> Float[Tensor, ""]:
    """`weight` times the mean squared second difference between nodes down, plus that across; of fields with no such differences, 0."""
    down, across = numbers.shape[-2:]
    fields = numbers.reshape(-1, down * across)
    return _Quadratic.apply(
        fields, _bends(down, across, numbers.device), weight / max(len(fields), 1)
    )


@lru_cache(maxsize=64)
def _bends(down: int, across: int, device: torch.device) -> Float[Tensor, "node node"]:
    """`bending` of one field is numbers @ this @ numbers."""
    every = torch.eye(down * across, dtype=torch.float64).view(-1, down, across)
    total = torch.zeros(down * across, down * across, dtype=torch.float64)
    for axis in (1, 2):
        seconds = every.diff(n=2, dim=axis).flatten(1)
        total += seconds @ seconds.T / max(seconds.shape[1], 1)
    return total.to(device, torch.float32)


class _Quadratic(torch.autograd.Function):
    """`weight` times the sum over rows x of x @ form @ x, for a symmetric form: a few operations for value and gradient, where differences take fifty."""

    @staticmethod
    def forward(ctx, rows: Tensor, form: Tensor, weight: float) -> Tensor:
        product = rows @ form
        ctx.save_for_backward(product)
        ctx.weight = weight
        return weight * torch.dot(rows.flatten(), product.flatten())

    @staticmethod
    @once_differentiable
    def backward(ctx, outer: Tensor) -> tuple[Tensor, None, None]:
        return 2 * ctx.weight * outer * ctx.saved_tensors[0], None, None
