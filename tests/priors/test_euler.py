"""Euler's method with guidance towards a warp, on denoisers that are known exactly."""

import pytest
import torch

from lift.priors.diffusion.euler import sample_euler, warp_guidance

pytest.importorskip("diffusers")


def test_guided_perfect_denoiser_returns_the_valid_warp():
    rng = torch.Generator().manual_seed(0)
    target, belief = (
        torch.randn(1, 3, 4, 6, 8, generator=rng),
        (torch.rand(1, 3, 1, 6, 8, generator=rng) > 0.4).float(),
    )
    sigmas = torch.cat([torch.linspace(700 ** (1 / 7), 0.002 ** (1 / 7), 60) ** 7, torch.zeros(1)])
    noise = torch.randn(target.shape, generator=rng)

    def sampled(denoise, error: float):
        return sample_euler(
            denoise, noise, sigmas, sigmas[:-1], sigmas[0], warp_guidance(target, belief, error)
        )

    def perfect(
        latents, sigma, timestep
    ):  # for numbers that spread by 1 and have nothing to do with one another
        return latents / (sigma**2 + 1)

    exact = sampled(perfect, 0.0)
    known = belief.expand_as(target) > 0
    torch.testing.assert_close(exact[known], target[known], atol=1e-5, rtol=0)
    free = sample_euler(perfect, noise, sigmas, sigmas[:-1], sigmas[0])
    torch.testing.assert_close(exact[~known], free[~known])

    truth = target + 0.3 * torch.randn(target.shape, generator=rng)

    def knows(latents, sigma, timestep):  # the only video there is
        return truth

    torch.testing.assert_close(sampled(knows, 0.3), truth, atol=1e-3, rtol=0)


def test_guidance_reaches_holes_through_the_network():
    """This network makes neighbours equal, so guidance at one pixel reaches its neighbour."""
    alike = 0.95
    covariance = torch.tensor([[1.0, alike], [alike, 1.0]], dtype=torch.float64)
    sigmas = torch.cat(
        [torch.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), 30) ** 7, torch.zeros(1)]
    ).double()
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(2000, 1, 1, 1, 2, generator=rng).double()

    def perfect(latents, sigma, timestep):
        return latents @ (covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(2)))

    target, belief = (
        torch.full((2000, 1, 1, 1, 2), 1.5, dtype=torch.float64),
        torch.tensor([1.0, 0.0]).expand(2000, 1, 1, 1, 2),
    )
    there = []
    for repeats in (0, 3, 10):
        again = torch.Generator().manual_seed(1)
        found = sample_euler(
            perfect,
            noise,
            sigmas,
            sigmas[:-1],
            sigmas[0],
            warp_guidance(target, belief, 0.02),
            repeats=repeats,
            fresh_noise=lambda: torch.randn(noise.shape, generator=again).double(),  # noqa: B023
        )
        assert abs(float(found[..., 0].mean()) - 1.5) < 0.01
        there.append(float(found[..., 1].mean()))
    assert 0.6 < there[0] < there[1] < there[2] and abs(there[2] - alike * 1.5) < 0.15, (
        "its mean, given the other"
    )
