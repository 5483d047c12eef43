"""Densification by MCMC: Gaussians are added up to a budget, and dead ones are relocated.

`lift.training.densify_gradient` has the other strategy.

Reference: Kheradmand et al., "3D Gaussian Splatting as Markov Chain Monte Carlo", NeurIPS 2024.

Gaussians whose opacity has become very low are moved onto others, which are drawn by opacity. New
ones are cloned from such draws. Where n Gaussians then share a position, each gets the opacity and
scale with which all of them together look like the original one (equation 9).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from math import comb
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lift.geometry import quat_to_rotation
from lift.training.splats import Splats
from lift.types import Cameras, Gaussians, Render

_MAX_COPIES = 51
"""Largest number of copies at one position, as published."""

_NOISE_LEARNING_RATE = 5e5
"""Published scale of the exploration noise, in units of the learning rate of the means."""

_MAX_GRADIENT_RATIO = 20
"""A gradient norm above this multiple of the mean counts no more."""

_TERMS = torch.tensor(
    [
        [comb(n, k) * (-1) ** (k - 1) / k**0.5 for k in range(1, _MAX_COPIES + 1)]
        for n in range(_MAX_COPIES + 1)
    ],
    dtype=torch.double,
)
"""Coefficients of equation 9, [copies power]."""


class Densifier(ABC):
    """Changes the number of Gaussians during a fit.

    All processes must change the scene alike: by values that are equal in all of them, and by the
    generator of the step.
    """

    def watch(self, gaussians: Gaussians, views: int, step: int) -> Gaussians:
        """Prepare the Gaussians of a step for `record`; called before they are rendered.

        Args:
            gaussians: The distorted Gaussians, shared by the views or one set a view.
            views: Number of views of the step.
            step: Step count before this step.

        Returns:
            Equal Gaussians.
        """
        return gaussians

    @abstractmethod
    def record(self, splats: Splats, cameras: Cameras, render: Render) -> None:
        """Update statistics after a backward pass.

        Args:
            splats: The raw parameters.
            cameras: The distorted cameras, one a view.
            render: Renders of the Gaussians that `watch` returned.
        """

    @abstractmethod
    def update(
        self,
        splats: Splats,
        optimiser: torch.optim.Optimizer,
        previous_step: int,
        step: int,
        rng: torch.Generator,
    ) -> None:
        """Change Gaussians, if the schedule says so for this step.

        Args:
            splats: The raw parameters.
            optimiser: Their optimiser; its first group holds the means.
            previous_step: Step count before this optimiser step.
            step: Step count after it.
            rng: Generator on the Gaussians' device.
        """

    def restart(self, splats: Splats) -> None:  # noqa: B027
        """Drop all statistics; called when a stage of the fit starts.

        Args:
            splats: The raw parameters.
        """

    @abstractmethod
    def state(self, splats: Splats) -> dict[str, Any]:
        """Return what a checkpoint keeps; called by all processes.

        Args:
            splats: The raw parameters.
        """

    @abstractmethod
    def load_state(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore what `state` returned. Entries of another strategy are ignored.

        Args:
            state: The checkpoint.
            device: Device of the Gaussians.
        """


class McmcDensifier(Densifier):
    """Schedule of densification, and the statistics by which Gaussians to clone are drawn.

    Args:
        settings: Settings `fit` of the configuration.
        count: Number of Gaussians at the start.
    """

    def __init__(self, settings: Any, count: int) -> None:
        self.settings = settings.densify
        self.max_steps = settings.steps
        self.max_gaussians = settings.max_gaussians
        self.initial_count = count
        self.gradient_norms = torch.zeros(count)
        """Sum of the norms of each mean's gradient since the last densification."""

    @torch.no_grad()
    def record(self, splats: Splats, cameras: Cameras, render: Render) -> None:
        """Add the gradient norms of the means; many pixels pull at a Gaussian that needs a split.

        Args:
            splats: The raw parameters, after a backward pass.
            cameras: Not used.
            render: Not used.
        """
        gradient = splats["means"].grad
        if not self.settings.gradient_power or gradient is None:
            return
        norms = self.gradient_norms
        if norms.shape != gradient.shape[:1] or norms.device != gradient.device:
            self.gradient_norms = torch.zeros(len(gradient), device=gradient.device)
        self.gradient_norms += gradient.norm(dim=-1)

    def update(
        self,
        splats: Splats,
        optimiser: torch.optim.Optimizer,
        previous_step: int,
        step: int,
        rng: torch.Generator,
    ) -> None:
        """Relocate, clone and perturb Gaussians, if the schedule says so for this step.

        Args:
            splats: The raw parameters.
            optimiser: Their optimiser; its first group holds the means.
            previous_step: Step count before this optimiser step.
            step: Step count after it.
            rng: Generator on the Gaussians' device.
        """
        settings = self.settings
        if not settings.start <= step <= settings.stop * self.max_steps:
            return
        if step // settings.every > previous_step // settings.every:
            relocate(splats, optimiser, settings.min_opacity, lambda: self.importance(splats), rng)
            grow(splats, optimiser, self.target_count(step), self.importance(splats), rng)
            self.gradient_norms = torch.zeros(splats.count, device=splats["means"].device)
        if settings.noise_scale:
            rate = optimiser.param_groups[0]["lr"]
            add_noise(splats, settings.noise_scale * _NOISE_LEARNING_RATE * rate, rng)

    def state(self, splats: Splats) -> dict[str, Any]:
        """Return the gradient norms and the number of Gaussians at the start.

        Args:
            splats: Not used.
        """
        return {"gradient_norms": self.gradient_norms, "initial_count": self.initial_count}

    def load_state(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore what `state` returned.

        Args:
            state: The checkpoint.
            device: Device of the Gaussians.
        """
        if "gradient_norms" in state:
            self.gradient_norms = state["gradient_norms"].to(device)
            self.initial_count = state["initial_count"]

    def target_count(self, step: int) -> int:
        """Return the number of Gaussians for a step: it grows linearly to `fit.max_gaussians`.

        Args:
            step: Step count.
        """
        start = self.settings.start
        stop = self.settings.growth_until * self.max_steps
        fraction = min(1.0, max(0.0, (step - start) / max(1.0, stop - start)))
        return round(self.initial_count + fraction * (self.max_gaussians - self.initial_count))

    def importance(self, splats: Splats) -> Float[Tensor, "gaussian"]:
        """Return weights in [0, 1] for the draw of Gaussians to clone: opacity times gradient.

        Args:
            splats: The raw parameters.
        """
        opacities = splats["opacities"].detach().sigmoid()
        power = self.settings.gradient_power
        norms = self.gradient_norms
        if not power or norms.shape != opacities.shape or not bool(norms.any()):
            return opacities
        ratio = norms / norms.mean()
        return opacities * (ratio.clamp(max=_MAX_GRADIENT_RATIO) / _MAX_GRADIENT_RATIO) ** power


def split_parameters(
    opacities: Float[Tensor, "gaussian"],
    scales: Float[Tensor, "gaussian 3"],
    copies: Int[Tensor, "gaussian"],
) -> tuple[Float[Tensor, "gaussian"], Float[Tensor, "gaussian 3"]]:
    """Return opacity and scale of equal Gaussians that together replace one (equation 9).

    The published double sum over i <= n and k < i of C(i - 1, k) (-1)^k o^(k + 1) / sqrt(k + 1)
    equals the sum over k <= n of C(n, k) (-1)^(k - 1) o^k / sqrt(k). It is computed in double
    precision, because its terms alternate and are large.

    Args:
        opacities: Opacities in [0, 1].
        scales: Standard deviations in scene units.
        copies: Number of Gaussians that replace each one.

    Returns:
        Opacities and standard deviations of the copies.
    """
    copies = copies.clamp(1, _MAX_COPIES)
    opacities = opacities.clamp(max=1 - 1e-6)
    split = 1 - (1 - opacities.double()) ** (1 / copies)
    power = torch.arange(1, _MAX_COPIES + 1, device=copies.device)
    total = (_TERMS.to(copies.device)[copies] * split[:, None] ** power).sum(-1)
    return split.to(opacities), scales * (opacities / total.clamp(min=1e-8)).to(scales)[:, None]


def relocate(
    splats: Splats,
    optimiser: torch.optim.Optimizer,
    min_opacity: float,
    importance: Callable[[], Float[Tensor, "gaussian"]],
    rng: torch.Generator,
) -> int:
    """Move Gaussians of low opacity onto others.

    Args:
        splats: The raw parameters.
        optimiser: Their optimiser; moments of moved Gaussians become zero.
        min_opacity: Opacity below which a Gaussian is moved.
        importance: Returns the weights in [0, 1] by which its new position is drawn.
        rng: Generator on the Gaussians' device.

    Returns:
        Number of Gaussians moved.
    """
    opacities = splats["opacities"].detach().sigmoid()
    dead = (opacities < min_opacity).nonzero()[:, 0]
    alive = (opacities >= min_opacity).nonzero()[:, 0]
    if len(dead) == 0 or len(alive) == 0:
        return 0
    targets = alive[_draw(importance()[alive], len(dead), rng)]
    _split(splats, targets)
    for parameter in splats.values():
        parameter.data[dead] = parameter.data[targets]
        for value in _moments(optimiser, parameter):
            value[dead] = 0
            value[targets] = 0
    return len(dead)


def grow(
    splats: Splats,
    optimiser: torch.optim.Optimizer,
    target: int,
    importance: Float[Tensor, "gaussian"],
    rng: torch.Generator,
) -> int:
    """Clone Gaussians until there are `target`. Every Parameter is replaced, in the optimiser, too.

    Args:
        splats: The raw parameters.
        optimiser: Their optimiser; moments of new Gaussians are zero.
        target: Number of Gaussians after the call. Nothing happens if there are as many already.
        importance: Weights in [0, 1] by which the Gaussians to clone are drawn.
        rng: Generator on the Gaussians' device.

    Returns:
        Number of Gaussians added.
    """
    added = target - splats.count
    if added <= 0:
        return 0
    sources = _draw(importance, added, rng)
    _split(splats, sources)
    for group in optimiser.param_groups:
        name = group["name"]
        old = splats[name]
        splats[name] = nn.Parameter(torch.cat([old.data, old.data[sources]]))
        group["params"] = [splats[name]]
        if state := optimiser.state.pop(old, None):
            for key, value in state.items():
                if isinstance(value, Tensor) and value.shape == old.shape:
                    state[key] = torch.cat([value, torch.zeros_like(value[sources])])
            optimiser.state[splats[name]] = state
    return added


def add_noise(splats: Splats, amount: float, rng: torch.Generator) -> None:
    """Add exploration noise to the means (equation 8).

    The noise has the shape of each Gaussian. The more opaque a Gaussian is, the smaller is its
    noise.

    Args:
        splats: The raw parameters.
        amount: Factor of the noise.
        rng: Generator on the Gaussians' device.
    """
    values = splats.gaussians()
    gate = torch.sigmoid(-100 * (values.opacities - 0.005))
    noise = torch.randn(values.means.shape, generator=rng, device=rng.device)
    rotation = quat_to_rotation(values.quats)
    shaped = rotation @ (
        values.scales.square()[..., None] * (rotation.mT @ (gate[:, None] * noise)[..., None])
    )
    splats["means"].data += amount * shaped[..., 0]


def _split(splats: Splats, draws: Int[Tensor, "draw"]) -> None:
    """Reduce opacity and scale of the drawn Gaussians, to which copies will be added."""
    sources, counts = draws.unique(return_counts=True)
    opacities, scales = split_parameters(
        splats["opacities"].data[sources].sigmoid(),
        splats["scales"].data[sources].exp(),
        counts + 1,
    )
    splats["opacities"].data[sources] = opacities.clamp(1e-4, 1 - 1e-4).logit()
    splats["scales"].data[sources] = scales.log()


def _draw(
    weights: Float[Tensor, "gaussian"], count: int, rng: torch.Generator
) -> Int[Tensor, "draw"]:
    """Draw indices with replacement, in proportion to weights in [0, 1].

    Unlike `torch.multinomial` this works for any number of weights. Weights are summed as integers,
    so that equal weights give equal draws on every device: replicas of a scene must grow alike.
    """
    cumulative = (weights * 2**24).long().cumsum(0)
    position = torch.rand(count, generator=rng, device=rng.device, dtype=torch.double)
    integer = (position * cumulative[-1]).long()
    return torch.searchsorted(cumulative, integer, right=True).clamp(max=len(weights) - 1)


def _moments(optimiser: torch.optim.Optimizer, parameter: Tensor) -> list[Tensor]:
    """Return the optimiser's state tensors that have the parameter's shape."""
    return [
        value
        for value in optimiser.state.get(parameter, {}).values()
        if isinstance(value, Tensor) and value.shape == parameter.shape
    ]
