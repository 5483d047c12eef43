"""Growth under a budget by relocation: "3D Gaussian Splatting as Markov Chain Monte Carlo", Kheradmand et al., NeurIPS 2024.

Gaussians that have died are moved onto living ones drawn by opacity, and new ones are cloned from such draws; where n Gaussians come to
share a place, each gets the opacity and scale with which all of them together look as the one did (their equation 9).
"""

from collections.abc import Callable
from math import comb

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lift.geometry import quat_to_rotation
from lift.training.splats import Splats

_MOST_COPIES = 51
"""The published limit of copies in one place."""

_TERMS = torch.tensor(
    [
        [comb(n, k) * (-1) ** (k - 1) / k**0.5 for k in range(1, _MOST_COPIES + 1)]
        for n in range(_MOST_COPIES + 1)
    ],
    dtype=torch.double,
)


def share(
    opacities: Float[Tensor, "gaussian"],
    scales: Float[Tensor, "gaussian 3"],
    copies: Int[Tensor, "gaussian"],
) -> tuple[Float[Tensor, "gaussian"], Float[Tensor, "gaussian 3"]]:
    """Opacity and standard deviation of each of `copies` equal Gaussians that together replace one.

    The published double sum over i <= n and k < i of C(i - 1, k) (-1)^k o^(k + 1) / sqrt(k + 1) is, its inner sums of binomials
    added up, the sum over k <= n of C(n, k) (-1)^(k - 1) o^k / sqrt(k). In double precision: its terms alternate and are large.
    """
    copies = copies.clamp(1, _MOST_COPIES)
    opacities = opacities.clamp(max=1 - 1e-6)
    shared = 1 - (1 - opacities.double()) ** (1 / copies)
    power = torch.arange(1, _MOST_COPIES + 1, device=copies.device)
    total = (_TERMS.to(copies.device)[copies] * shared[:, None] ** power).sum(-1)
    return shared.to(opacities), scales * (opacities / total.clamp(min=1e-8)).to(scales)[:, None]


def relocate(
    splats: Splats,
    optimiser: torch.optim.Optimizer,
    dead: float,
    importance: Callable[[], Float[Tensor, "gaussian"]],
    rng: torch.Generator,
) -> int:
    """Moves Gaussians of low opacity onto living ones.

    Args:
        splats: The raw parameters.
        optimiser: Holds their moments.
        dead: Opacity below which a Gaussian is moved.
        importance: Gives the weights in [0, 1] by which its new place is drawn.
        rng: On the Gaussians' device.

    Returns:
        Number of Gaussians moved.
    """
    opacities = splats["opacities"].detach().sigmoid()
    gone = (opacities < dead).nonzero()[:, 0]
    alive = (opacities >= dead).nonzero()[:, 0]
    if len(gone) == 0 or len(alive) == 0:
        return 0
    chosen = alive[_draw(importance()[alive], len(gone), rng)]
    _split(splats, chosen)
    for _name, parameter in splats.items():
        parameter.data[gone] = parameter.data[chosen]
        for value in _moments(optimiser, parameter):
            value[gone] = 0
            value[chosen] = 0
    return len(gone)


def grow(
    splats: Splats,
    optimiser: torch.optim.Optimizer,
    target: int,
    importance: Float[Tensor, "gaussian"],
    rng: torch.Generator,
) -> int:
    """Clones Gaussians until there are `target`. Every Parameter is replaced, in the optimiser too.

    Args:
        splats: The raw parameters.
        optimiser: Holds their moments.
        target: Number of Gaussians wanted; nothing happens if there are as many.
        importance: Weights in [0, 1] by which the Gaussians to clone are drawn.
        rng: On the Gaussians' device.

    Returns:
        Number of Gaussians added.
    """
    added = target - splats.count
    if added <= 0:
        return 0
    chosen = _draw(importance, added, rng)
    _split(splats, chosen)
    for group in optimiser.param_groups:
        name = group["name"]
        old = splats[name]
        splats[name] = nn.Parameter(torch.cat([old.data, old.data[chosen]]))
        group["params"] = [splats[name]]
        if state := optimiser.state.pop(old, None):
            for key, value in state.items():
                if isinstance(value, Tensor) and value.shape == old.shape:
                    state[key] = torch.cat([value, torch.zeros_like(value[chosen])])
            optimiser.state[splats[name]] = state
    return added


def explore(splats: Splats, amount: float, rng: torch.Generator) -> None:
    """Adds noise to the means in the shape of each Gaussian, the less the more opaque it is (their equation 8)."""
    values = splats.gaussians()
    gate = torch.sigmoid(-100 * (values.opacities - 0.005))
    noise = torch.randn(values.means.shape, generator=rng, device=rng.device)
    rotation = quat_to_rotation(values.quats)
    shaped = rotation @ (
        values.scales.square()[..., None] * (rotation.mT @ (gate[:, None] * noise)[..., None])
    )
    splats["means"].data += amount * shaped[..., 0]


def _split(splats: Splats, chosen: Int[Tensor, "draw"]) -> None:
    """Makes room at each chosen place for the copies that will join it."""
    places, draws = chosen.unique(return_counts=True)
    opacities, scales = share(
        splats["opacities"].data[places].sigmoid(), splats["scales"].data[places].exp(), draws + 1
    )
    splats["opacities"].data[places] = opacities.clamp(1e-4, 1 - 1e-4).logit()
    splats["scales"].data[places] = scales.log()


def _draw(
    weights: Float[Tensor, "gaussian"], count: int, rng: torch.Generator
) -> Int[Tensor, "draw"]:
    """Indices with replacement, in proportion to weights in [0, 1]; unlike multinomial, of any number. Weights are summed as whole
    numbers, so that equal weights give equal draws wherever they are summed: the replicas of a scene must grow alike.
    """
    cumulative = (weights * 2**24).long().cumsum(0)
    at = (
        torch.rand(count, generator=rng, device=rng.device, dtype=torch.double) * cumulative[-1]
    ).long()
    return torch.searchsorted(cumulative, at, right=True).clamp(max=len(weights) - 1)


def _moments(optimiser: torch.optim.Optimizer, parameter: nn.Parameter) -> list[Tensor]:
    return [
        v
        for v in optimiser.state.get(parameter, {}).values()
        if isinstance(v, Tensor) and v.shape == parameter.shape
    ]
