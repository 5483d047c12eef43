"""Check that Gaussians are physical, and measure the size of their scene."""

import torch
from jaxtyping import Bool
from torch import Tensor

from lift.types import Gaussians

MIN_COUNT_LIMIT = 2**18
"""Number of Gaussians up to which any file is read, however small it is."""

_MAX_COUNT_PER_BYTE = 1
"""Largest number of further Gaussians for each byte of a file. Common files need 10 bytes each."""


def check_count(count: int, size: int) -> None:
    """Check a number of Gaussians before memory is reserved for them.

    Args:
        count: Number of Gaussians that a compressed file states.
        size: Size of the file in bytes.

    Raises:
        ValueError: There are no Gaussians, or too many for such a file.
    """
    if count < 1:
        raise ValueError(f"it states {count} Gaussians, so there are no Gaussians in it")
    limit = MIN_COUNT_LIMIT + _MAX_COUNT_PER_BYTE * size
    if count > limit:
        raise ValueError(
            f"it states {count} Gaussians, but has {size} bytes; at most {limit} are read from "
            "such a file"
        )


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


def scene_extent(gaussians: Gaussians) -> float:
    """Measure the size of a scene, whatever its outliers.

    Args:
        gaussians: Gaussians without a view axis.

    Returns:
        Median distance of the Gaussians from their median position.
    """
    means = gaussians.means.detach().double()
    return float((means - means.median(0).values).norm(dim=-1).median())
