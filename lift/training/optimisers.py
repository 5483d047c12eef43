"""Optimisers and learning rates of the Gaussians and of the distortion."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lift.registry import ComponentError
from lift.runtime.jit import can_use_triton
from lift.training.splats import PARAMETER_NAMES, Splats

_RATE_NAMES = {"sh0": "colors", "shN": "colors"}
"""Name of the learning rate of a parameter, if it is not that of the parameter."""


def adam_betas(betas: Sequence[float], views_per_step: float) -> tuple[float, float]:
    """Return Adam's betas for steps on several views.

    A step on n views replaces n steps on one view. So Adam's memory is shorter by the factor n, and
    its learning rate is larger by the square root of n (`scale_rates`).

    Reference: Malladi et al., "On the SDEs and Scaling Rules for Adaptive Gradient Algorithms",
    NeurIPS 2022.

    Args:
        betas: Betas of a step on one view.
        views_per_step: Views in a step, of all processes together. One view stands for
            `fit.learning_rate.views`.
    """
    return betas[0] ** views_per_step, betas[1] ** views_per_step


def splat_groups(splats: Splats, rates: Any, extent: float) -> list[dict[str, Any]]:
    """Return the parameter groups of the Gaussians.

    Args:
        splats: The raw parameters.
        rates: Settings `fit.learning_rate`.
        extent: The unit of `rates.means` in scene units, see `fit.scene_scale`.
    """
    rate = {
        "means": rates.means * extent,
        "scales": rates.scales,
        "quats": rates.quats,
        "opacities": rates.opacities,
        "sh0": rates.colors,
        "shN": rates.colors / 20,
    }
    return [{"name": name, "params": [splats[name]], "lr": rate[name]} for name in PARAMETER_NAMES]


def limit_rate(
    group: dict[str, Any], steps: int, world_size: int, views_per_step: float
) -> dict[str, Any]:
    """Reduce a distortion's learning rate in a fit that is longer than the rate is meant for.

    How far Adam can move a parameter is the number of steps times the rate. A step on n views
    counts as the square root of n steps.

    Args:
        group: Parameter group. `steps`, if not None, is the number of one-view steps that its rate
            is meant for; it is removed.
        steps: Steps of the fit, as one process counts them.
        world_size: Number of processes.
        views_per_step: Views in a step, of all processes together.
    """
    group = dict(group)
    if intended := group.pop("steps", None):
        group["lr"] *= min(1.0, intended / (steps / world_size * views_per_step**0.5))
    return group


def build_adam(
    groups: list[dict[str, Any]], betas: tuple[float, float], eps: float
) -> torch.optim.Optimizer:
    """Build Adam: the Triton kernel for plain parameter groups on CUDA, else torch's fused Adam.

    Args:
        groups: Parameter groups. A group is plain if it has no other options than a number as
            learning rate, and its parameters are contiguous.
        betas: Decay rates of the two moments.
        eps: Added to the square root of the second moment.

    Raises:
        ComponentError: A learning rate is negative, infinite or NaN.
    """
    groups = [{**group, "params": _as_list(group["params"])} for group in groups]
    for group in groups:
        rate = group["lr"]
        if isinstance(rate, (int, float)) and not 0 <= rate < math.inf:
            raise ComponentError(
                f"a learning rate of {group.get('name', 'the distortion')} is {rate:g}; "
                "choose 0 or more"
            )
    parameters = [parameter for group in groups for parameter in group["params"]]
    is_plain = all(
        set(group) <= {"name", "params", "lr"} and isinstance(group["lr"], (int, float))
        for group in groups
    )
    if (
        is_plain
        and all(isinstance(p, Tensor) and p.is_contiguous() for p in parameters)
        and can_use_triton(*parameters)
    ):
        from lift.training.kernels.splats_triton import Adam

        return Adam(groups, betas=betas, eps=eps)
    return torch.optim.Adam(groups, betas=betas, eps=eps, fused=True)


def _as_list(parameters: Any) -> list[Any]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)


def scale_rates(
    optimisers: list[torch.optim.Optimizer], views_per_step: float
) -> list[list[float]]:
    """Scale all learning rates by the square root of the views in a step.

    Args:
        optimisers: Their groups get the entry `start`, the rate before any decay.
        views_per_step: Views in a step, of all processes together. One view stands for
            `fit.learning_rate.views`.

    Returns:
        The rate before any decay of each group of each optimiser.
    """
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["start"] = group["lr"] = group["lr"] * views_per_step**0.5
    return [[group["start"] for group in optimiser.param_groups] for optimiser in optimisers]


def decay_rates(optimisers: list[torch.optim.Optimizer], progress: float, decay: Any) -> None:
    """Decay the learning rates exponentially.

    Args:
        optimisers: That of the Gaussians, then that of the distortion if it learns anything.
        progress: Fraction of the decay that is done.
        decay: Settings `fit.learning_rate.decay`.
    """
    splat_optimiser, *distortion_optimisers = optimisers
    for group in splat_optimiser.param_groups:
        name: str = group["name"]
        ratio = getattr(decay, _RATE_NAMES.get(name, name))
        group["lr"] = group["start"] * ratio**progress
    for optimiser in distortion_optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["start"] * decay.distortion**progress
