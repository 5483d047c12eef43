"""DDIM sampling as ViewCrafter uses it."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

NOISE_LEVELS = 1000
"""Noise levels that the network was trained with."""
CONSTANT_SCALE_LEVEL = 400
"""From this noise level on, the scale of the clean latents is constant. Below, it grows to 1."""


def cumulative_alphas() -> Float[Tensor, "level"]:
    """Compute the fraction of the variance that is signal at each noise level.

    The square roots of the betas grow evenly from those of 0.00085 to 0.012. Then the schedule is
    shifted and stretched to end without signal.

    Returns:
        Fractions, falling to 0 at the last level.

    Reference:
        Lin et al., "Common diffusion noise schedules and sample steps are flawed", WACV 2024,
        algorithm 1.
    """
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, NOISE_LEVELS, dtype=torch.float64) ** 2
    roots = (1 - betas).cumprod(0).sqrt()
    return ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2


def sampling_levels(steps: int) -> list[int]:
    """Choose the noise levels of a number of steps.

    Args:
        steps: Denoising steps, 1 to `NOISE_LEVELS`.

    Returns:
        Evenly spaced levels, from the last one down.
    """
    return [round(NOISE_LEVELS - k * NOISE_LEVELS / steps) - 1 for k in range(steps)]


def sample_ddim(
    predict_velocity: Callable[[Tensor, int], Tensor],
    latents: Float[Tensor, "clip frame channel y x"],
    steps: int,
    eta: float,
    scale: float,
    fresh_noise: Callable[[], Tensor],
    on_step_end: Callable[[], None] = lambda: None,
) -> Float[Tensor, "clip frame channel y x"]:
    """Sample latents with DDIM.

    Args:
        predict_velocity: Velocity of noisy latents and their noise level.
        latents: Unit noise.
        steps: Denoising steps.
        eta: Amount of fresh noise at every step, 0 for none, 1 for as much as DDPM.
        scale: Scale of clean latents from `CONSTANT_SCALE_LEVEL` on, of the network's training.
        fresh_noise: Source of unit noise.
        on_step_end: Called after each step.

    Returns:
        The sampled latents.

    Reference:
        Song et al., "Denoising diffusion implicit models", ICLR 2021.
    """
    alphas = cumulative_alphas()
    levels = torch.arange(NOISE_LEVELS, dtype=torch.float64)
    scales = 1 + (scale - 1) * (levels / (CONSTANT_SCALE_LEVEL - 1)).clamp(max=1)
    times = sampling_levels(steps)
    for time, next_time in zip(times, [*times[1:], 0], strict=True):
        alpha = float(alphas[time])
        next_alpha = float(alphas[next_time])
        velocity = predict_velocity(latents, time)
        clean = (alpha**0.5 * latents - (1 - alpha) ** 0.5 * velocity) * float(
            scales[next_time] / scales[time]
        )
        noise = alpha**0.5 * velocity + (1 - alpha) ** 0.5 * latents
        sigma = eta * ((1 - next_alpha) / (1 - alpha) * (1 - alpha / next_alpha)) ** 0.5
        latents = (
            next_alpha**0.5 * clean
            + max(1 - next_alpha - sigma**2, 0.0) ** 0.5 * noise
            + sigma * fresh_noise()
        )
        on_step_end()
    return latents


def rescaled_guidance(
    unconditional: Tensor, conditional: Tensor, guidance_scale: float, rescale: float
) -> Tensor:
    """Apply classifier-free guidance with rescaling.

    Args:
        unconditional: Velocity without text and image, [clip ...].
        conditional: Velocity with them, of the same shape.
        guidance_scale: Scale of the guidance. 1: the conditional velocity.
        rescale: How much of the standard deviation that guidance adds to each clip is removed,
            0 to 1.

    Returns:
        The guided velocity.

    Reference:
        Lin et al., "Common diffusion noise schedules and sample steps are flawed", WACV 2024,
        section 3.4.
    """
    guided = unconditional + guidance_scale * (conditional - unconditional)
    dims = tuple(range(1, conditional.ndim))
    return guided * (
        1 - rescale + rescale * conditional.std(dims, keepdim=True) / guided.std(dims, keepdim=True)
    )
