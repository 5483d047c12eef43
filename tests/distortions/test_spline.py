"""Spline weights and the bending energy of grids."""

import torch

from lift.distortions.parameters.spline import bending_energy, spline_weights


def test_a_spline_gives_back_a_plane_and_is_smooth():
    weights = spline_weights(30, 8, torch.device("cpu"))
    torch.testing.assert_close(weights.sum(1), torch.ones(30))
    nodes = (
        torch.arange(8) - 1.0
    )  # a straight line: the value at a node of a uniform cubic spline is its place
    torch.testing.assert_close(
        weights @ nodes, (torch.arange(30) + 0.5) / 30 * 5, atol=1e-5, rtol=0
    )


def test_what_bends_a_grid_costs_its_squared_second_differences():
    grid = torch.randn(
        4,
        2,
        5,
        7,
        generator=torch.Generator().manual_seed(0),
        dtype=torch.float32,
        requires_grad=True,
    )
    truth = grid.diff(n=2, dim=-1).square().mean() + grid.diff(n=2, dim=-2).square().mean()
    truth, found = 3 * truth, bending_energy(grid, 3.0)
    torch.testing.assert_close(found, truth)
    torch.testing.assert_close(*(torch.autograd.grad(value, grid)[0] for value in (found, truth)))
    flat = torch.linspace(0, 1, 5)[:, None] + torch.linspace(0, 2, 7)
    assert bending_energy(flat[None]).abs() < 1e-6
