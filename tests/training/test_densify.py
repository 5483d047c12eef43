"""Growth of the number of Gaussians."""

import copy

import torch

from lift.training import densify
from lift.training.splats import Splats
from tests.helpers.fits import ball, module, settings


def test_growth_reaches_the_budget_from_any_start():
    for start in (20, 100):
        fitted = module(
            settings(initial_gaussians=start, steps=20, densify={"start": 2, "growth_until": 0.5})
        )
        fitted.step = 2
        assert fitted.densifier.target_count(fitted.step) == fitted.splats.count
        fitted.step = 10
        assert fitted.densifier.target_count(fitted.step) == 130


def test_shared_gaussians_look_as_the_one_did():
    """Through the centre, n copies transmit as much light as the one before the split."""
    opacities, copies = torch.tensor([0.9, 0.5, 0.9]), torch.tensor([2, 3, 1])
    shared, scales = densify.split_parameters(opacities, torch.ones(3, 3), copies)
    torch.testing.assert_close(1 - (1 - shared) ** copies, opacities)
    torch.testing.assert_close(scales[2], torch.ones(3))
    # Two copies: o / (s + s - s^2 / sqrt 2) with the shared opacity s.
    # It is equation 9 for n = 2.
    s = 1 - 0.1**0.5
    torch.testing.assert_close(scales[0], torch.full((3,), 0.9 / (s + s - s * s / 2**0.5)))


def test_growth_keeps_the_optimiser_in_step():
    splats = Splats.from_gaussians(ball(20))
    optimiser = torch.optim.Adam([{"name": n, "params": [p]} for n, p in splats.items()], lr=0.1)
    splats.gaussians().means.sum().backward()
    (splats["opacities"].sum() + splats["scales"].sum()).backward()
    optimiser.step()
    old = copy.deepcopy(optimiser.state[splats["means"]]["exp_avg"])
    assert (
        densify.grow(splats, optimiser, 27, torch.ones(20), torch.Generator().manual_seed(0)) == 7
    )
    assert splats.count == 27 and optimiser.param_groups[0]["params"][0] is splats["means"]
    moments = optimiser.state[splats["means"]]["exp_avg"]
    assert moments[:20].equal(old) and not moments[20:].any()


def test_the_dead_are_moved_onto_the_living():
    gaussians = ball(20)
    gaussians.opacities[:5] = 0.001
    splats = Splats.from_gaussians(gaussians)
    optimiser = torch.optim.Adam([{"name": n, "params": [p]} for n, p in splats.items()])
    assert (
        densify.relocate(
            splats,
            optimiser,
            0.01,
            lambda: splats["opacities"].detach().sigmoid(),
            torch.Generator().manual_seed(0),
        )
        == 5
    )
    assert (splats.gaussians().opacities > 0.01).all()
    assert all(
        any(torch.equal(place, other) for other in gaussians.means[5:])
        for place in splats["means"][:5]
    )
