"""Noise levels, guidance and camera rays of Stable Virtual Camera."""

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lift.geometry import transform_cameras
from lift.priors.diffusion.controls import pluecker_rays
from lift.types import Cameras

NUM_LEVELS = 1000
"""Noise levels in training."""
BETA_RANGE = (5e-6, 0.012)
"""First and last beta of the noise schedule, linear in their square root."""
LOG_SNR_SHIFT = 2.4
"""Logarithm of the factor on all noise levels: many similar views need more noise."""
SAME_ROTATION = 10.0
"""Degrees below which a view's rotation counts as that of a view with a picture."""
SAME_POSITION = 1e-5
"""Normalised distance below which its position counts as that of a view with a picture."""
LATENT_STRIDE = 8
"""Pixels that a latent covers in each direction."""


def noise_levels() -> Float[Tensor, "level"]:
    """Return sigma of all noise levels, ascending."""
    first, last = (math.sqrt(beta) for beta in BETA_RANGE)
    betas = torch.linspace(first, last, NUM_LEVELS, dtype=torch.float64) ** 2
    alphas = (1 - betas).cumprod(0)
    return (((1 - alphas) / alphas).sqrt() * math.exp(LOG_SNR_SHIFT)).float()


def sampling_levels(num_steps: int) -> Int[Tensor, "step"]:
    """Choose the noise levels of the steps, descending.

    Args:
        num_steps: Number of steps, at most `NUM_LEVELS`.

    Returns:
        Indices of `noise_levels`, evenly spaced.
    """
    levels = np.linspace(NUM_LEVELS - 1, 0, num_steps, endpoint=False).astype(int)
    return torch.from_numpy(levels)


def normalized_cameras(window: Cameras, center: Float[Tensor, "3"], scale: float) -> Cameras:
    """Move cameras to the unit of length of the training data.

    Args:
        window: Cameras of a window.
        center: The origin: the mean position of all cameras of the clip.
        scale: Distance of the window's first camera from the origin. If it lies there, the factor
            on all positions.

    Returns:
        The same cameras in the new unit, the axes of the first camera and its position as origin.
    """
    distance = float((window.centers[0] - center).norm())
    factor = scale if distance < SAME_POSITION else scale / distance
    first = window.world_to_camera[0]
    return transform_cameras(window, factor, first[:3, :3], factor * first[:3, 3])


def latent_rays(window: Cameras) -> Float[Tensor, "view 6 h w"]:
    """Compute Plücker rays at the resolution of the latents.

    Args:
        window: Normalised cameras.

    Returns:
        The direction, then the moment.
    """
    size = (window.width // LATENT_STRIDE, window.height // LATENT_STRIDE)
    moments, directions = pluecker_rays(window.resized(*size)).split(3, 1)
    return torch.cat([directions, moments], 1)


def guidance_scales(
    window: Cameras,
    has_picture: Bool[Tensor, "view"],
    scale: float,
    minimum: float,
    distances: bool,
) -> Float[Tensor, "view"]:
    """Return the guidance scale of each view.

    Args:
        window: Normalised cameras.
        has_picture: Whether a view has a picture.
        scale: The largest scale.
        minimum: Scale of views that a picture shows already.
        distances: Whether the scale also grows with the distance to the nearest picture, counted in
            views. So it is in the second pass.

    Returns:
        A scale for each view.
    """
    scales = torch.full((len(has_picture),), scale)
    if distances:
        order = torch.arange(len(has_picture))
        steps = (order[:, None] - order[has_picture]).abs().amin(1)
        scales = minimum + (scale - minimum) * steps / steps.max().clamp(min=1)
    rotations = window.world_to_camera[:, :3, :3].cpu()
    traces = torch.einsum("aij,bij->ab", rotations, rotations[has_picture])
    angles = torch.rad2deg(((traces - 1) / 2).clamp(-1, 1).acos())
    centers = window.centers.cpu()
    offsets = (centers[:, None] - centers[has_picture]).norm(dim=-1)
    intrinsics = window.intrinsics.cpu()
    shared = (intrinsics[:, None] == intrinsics[has_picture]).flatten(2).all(-1)
    near = (angles.amin(1) < SAME_ROTATION) & (offsets.amin(1) < SAME_POSITION)
    return torch.where(near & shared.any(1), minimum, scales)


def build_denoiser(
    unet: Callable[..., Tensor],
    has_picture: Bool[Tensor, "view"],
    latents: Float[Tensor, "view 4 h w"],
    rays: Float[Tensor, "view 6 h w"],
    image: Float[Tensor, "1 1 c"],
    scales: Float[Tensor, "view"],
    dtype: torch.dtype,
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Build the denoiser of a window.

    Args:
        unet: The network.
        has_picture: Whether a view has a picture.
        latents: Latents of the views with a picture, anything for the others.
        rays: Plücker rays.
        image: Embedding of the views with a picture.
        scales: Guidance scale of each view.
        dtype: Type that the network computes in.

    Returns:
        A function of noisy latents, their sigma and its index: the clean latents.
    """
    views = len(has_picture)
    mask = has_picture[:, None, None, None].to(latents)
    masks = mask.expand(-1, -1, *latents.shape[2:])

    def predict(
        noisy: Tensor, sigma: Tensor, level: Tensor, flags: Tensor, tokens: Tensor
    ) -> Tensor:
        inputs = torch.cat([noisy / (sigma**2 + 1).sqrt(), flags, rays], 1).to(dtype)
        times = level.expand(views)
        noise = unet(inputs, times, tokens.to(dtype).expand(views, -1, -1), rays.to(dtype), views)
        return noisy - sigma * noise.float()

    def denoise(noisy: Tensor, sigma: Tensor, level: Tensor) -> Tensor:
        # One after the other: together they take twice the memory and as long.
        replaced = noisy * (1 - mask) + latents * mask
        conditional = predict(replaced, sigma, level, masks, image)
        free = predict(noisy, sigma, level, torch.zeros_like(masks), torch.zeros_like(image))
        return free + scales[:, None, None, None] * (conditional - free)

    return denoise
