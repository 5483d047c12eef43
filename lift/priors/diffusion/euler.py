"""Euler sampling of a diffusion model, with guidance towards a warped picture."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

RESAMPLE_SIGMA = 0.1
"""Steps to a noise level of this sigma or below are not repeated.

The level is in standard deviations of the latents. Below it, generated content no longer changes
enough to agree better with the warped picture.
"""


def warp_guidance(
    target: Float[Tensor, "clip frame channel h w"],
    confidence: Float[Tensor, "clip frame 1 h w"],
    error: float,
) -> Callable[[Tensor, Tensor], Tensor]:
    """Build a correction of the denoiser's output towards the warped picture.

    It is a Kalman update. The target has the standard deviation R = `error` / `confidence`. The
    denoiser's output has the variance that noise of level sigma leaves open in latents of unit
    variance: P = sigma^2 / (sigma^2 + 1).

    Args:
        target: Latents of the warped picture.
        confidence: Confidence of the target, 0 to 1.
        error: Standard deviation of a target of confidence 1, in that of the latents.

    Returns:
        A function of the clean latents and sigma that returns the corrected latents.
    """

    def correct(clean: Tensor, sigma: Tensor) -> Tensor:
        variance = sigma**2 / (sigma**2 + 1)
        weight = confidence**2 * variance
        gain = weight / (weight + error**2).clamp(min=1e-12)
        return clean + gain * (target - clean)

    return correct


def sample_euler(
    denoise: Callable[[Tensor, Tensor, Tensor], Tensor],
    noise: Tensor,
    sigmas: Float[Tensor, "level"],
    timesteps: Float[Tensor, "step"],
    init_scale: float | Tensor,
    guidance: Callable[[Tensor, Tensor], Tensor] | None = None,
    on_step_end: Callable[[], None] = lambda: None,
    repeats: int = 0,
    fresh_noise: Callable[[], Tensor] | None = None,
) -> Tensor:
    """Sample latents with Euler's method, in the precision of the noise.

    Args:
        denoise: Clean latents of noisy latents, their sigma and their timestep.
        noise: Unit noise of the latents' shape.
        sigmas: Noise levels from the highest to 0, one more than there are steps.
        timesteps: The network's time of each level but the last.
        init_scale: Factor on the unit noise at the start.
        guidance: Correction of the clean latents at every step, of `warp_guidance`.
        on_step_end: Called after each step.
        repeats: How many times each step to a level above `RESAMPLE_SIGMA` is repeated. Fresh
            noise first brings the latents back to the level before the step. So generated content
            comes to agree with the guidance.
        fresh_noise: Source of unit noise, needed for repeats.

    Returns:
        The sampled latents.

    Reference:
        Karras et al., "Elucidating the design space of diffusion-based generative models",
        NeurIPS 2022, algorithm 1 without churn. Repeats: Lugmayr et al., "RePaint", CVPR 2022.
    """
    latents = noise * init_scale
    for sigma, next_sigma, timestep in zip(sigmas[:-1], sigmas[1:], timesteps, strict=True):
        for repeats_left in range(repeats if next_sigma > RESAMPLE_SIGMA else 0, -1, -1):
            clean = denoise(latents, sigma, timestep)
            if guidance is not None:
                clean = guidance(clean, sigma)
            latents = latents + (latents - clean) / sigma * (next_sigma - sigma)
            if repeats_left:
                assert fresh_noise is not None
                latents = latents + (sigma**2 - next_sigma**2).sqrt() * fresh_noise()
        on_step_end()
    return latents
