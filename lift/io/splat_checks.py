"""Check that Gaussians are physical, and that a file format can hold them."""

import torch
from jaxtyping import Bool
from torch import Tensor

from lift.types import Gaussians

_SPZ_STEP = 2.0**-12
"""Distance of neighbouring positions in an SPZ file."""
_SPZ_RELATIVE_STEP = 4e-3
"""Largest step of positions in an SPZ file, relative to the size of the scene."""
_SPZ_MAX_POSITION = 2.0**11
"""Largest position in an SPZ file: 24 bits with a sign, 12 of them fractional."""


def check_physical(gaussians: Gaussians, name: str = "") -> None:
    """Check that all values are finite and physical.

    Args:
        gaussians: The Gaussians.
        name: Prefix of the message.

    Raises:
        ValueError: There are no Gaussians, they have a view axis, or a value is invalid.
    """
    if gaussians.means.ndim != 2:
        raise ValueError(
            f"{name}a file holds one set of Gaussians; this one has shape "
            f"{tuple(gaussians.means.shape[:-1])}"
        )
    if len(gaussians) == 0:
        raise ValueError(f"{name}there are no Gaussians")
    for key, value in gaussians.tensors().items():
        invalid = ~value.flatten(1).isfinite().all(1) if value.ndim > 1 else ~value.isfinite()
        if invalid.any():
            raise ValueError(
                f"{name}{key} of {int(invalid.sum())} of {len(gaussians)} Gaussians are not finite"
            )
    if gaussians.scales.min() < 0 or gaussians.opacities.min() < 0 or gaussians.opacities.max() > 1:
        raise ValueError(f"{name}scales must not be negative, and opacities lie in [0, 1]")


def finite_mask(gaussians: Gaussians) -> Bool[Tensor, "gaussian"]:
    """Find the Gaussians whose values are all finite, with a quaternion that is a rotation.

    Args:
        gaussians: Gaussians without a view axis. Their quaternions are normalized.

    Returns:
        True for each such Gaussian.
    """
    values = [value.flatten(1) for value in gaussians.tensors().values() if value.ndim > 1]
    finite = torch.cat([*values, gaussians.opacities[:, None]], dim=1).isfinite().all(1)
    return finite & (gaussians.quats.norm(dim=-1) > 0.5)  # of zeros there is no direction


def check_spz_positions(gaussians: Gaussians) -> None:
    """Check that the fixed steps of an SPZ file can hold the positions.

    Args:
        gaussians: The Gaussians.

    Raises:
        ValueError: A position is too large, or the scene is too small.
    """
    check_physical(gaussians)
    if (largest := float(gaussians.means.abs().max())) >= _SPZ_MAX_POSITION:
        raise ValueError(
            f"spz holds positions up to {_SPZ_MAX_POSITION:.0f}, and one is {largest:.4g}; "
            "choose ply or splat, or scale the scene"
        )
    extent = scene_extent(gaussians)
    if 0 < extent < _SPZ_STEP / _SPZ_RELATIVE_STEP:
        raise ValueError(
            f"spz holds positions in steps of 1/4096, which is {_SPZ_STEP / extent:.1%} of this "
            f"scene's size of {extent:.3g}; choose ply or splat, or scale the scene"
        )


def scene_extent(gaussians: Gaussians) -> float:
    """Measure the size of a scene, whatever its outliers.

    Args:
        gaussians: Gaussians without a view axis.

    Returns:
        Median distance of the Gaussians from their median position.
    """
    means = gaussians.means.detach().double()
    return float((means - means.median(0).values).norm(dim=-1).median())
