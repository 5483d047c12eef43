"""Smooth functions over a picture with few numbers: uniform cubic B-splines."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


@lru_cache(maxsize=64)
def spline_weights(pixels: int, nodes: int, device: torch.device) -> Float[Tensor, "pixel node"]:
    """Return the weights of a uniform cubic B-spline at pixel centres.

    Args:
        pixels: Number of pixels, which the spline's cells cover.
        nodes: Number of nodes; the spline has `nodes` - 3 cells.
        device: Device of the result.

    Returns:
        The matrix that maps numbers at the nodes to values at the pixels.
    """
    position = (torch.arange(pixels, dtype=torch.float64) + 0.5) / pixels * (nodes - 3)
    distance = (position[:, None] + 1 - torch.arange(nodes)).abs()
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = (2 - distance).clamp(min=0) ** 3 / 6
    return torch.where(distance < 1, inner, outer).to(device, torch.float32)


def spline_surface(
    numbers: Float[Tensor, "*field down across"], height: int, width: int
) -> Float[Tensor, "*field height width"]:
    """Evaluate the product of splines down and across at every pixel.

    Args:
        numbers: Numbers at the nodes of each field.
        height: Number of rows of the picture.
        width: Number of columns of the picture.

    Returns:
        The values of each field.
    """
    rows = spline_weights(height, numbers.shape[-2], numbers.device)
    columns = spline_weights(width, numbers.shape[-1], numbers.device)
    return rows @ numbers @ columns.T


def bending_energy(
    numbers: Float[Tensor, "*field down across"], weight: float = 1.0
) -> Float[Tensor, ""]:
    """Return the mean squared second difference between nodes down, plus that across.

    Args:
        numbers: Numbers at the nodes of each field.
        weight: Factor of the result.

    Returns:
        The weighted energy, a scalar; 0 for grids too small to have second differences.
    """
    down, across = numbers.shape[-2:]
    fields = numbers.reshape(-1, down * across)
    return _QuadraticForm.apply(
        fields, _bending_form(down, across, numbers.device), weight / max(len(fields), 1)
    )


@lru_cache(maxsize=64)
def _bending_form(down: int, across: int, device: torch.device) -> Float[Tensor, "node node"]:
    """Return the matrix M for which numbers @ M @ numbers is the bending energy of one field."""
    basis = torch.eye(down * across, dtype=torch.float64).view(-1, down, across)
    form = torch.zeros(down * across, down * across, dtype=torch.float64)
    for axis in (1, 2):
        differences = basis.diff(n=2, dim=axis).flatten(1)
        form += differences @ differences.T / max(differences.shape[1], 1)
    return form.to(device, torch.float32)


class _QuadraticForm(torch.autograd.Function):
    """Compute `weight` times the sum over rows x of x @ form @ x, for a symmetric form.

    Value and gradient take a few operations here; written as differences they take fifty.
    """

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
