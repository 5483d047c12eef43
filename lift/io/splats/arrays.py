"""Gaussians as NumPy arrays, as the binary formats store them."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from lift.spherical_harmonics import C0
from lift.types import Gaussians

Array: TypeAlias = NDArray[np.float64]
"""Numbers in double precision."""

BASES = (1, 4, 9, 16)
"""Number of spherical harmonics for each degree."""


@dataclass(frozen=True)
class Arrays:
    """The values of n Gaussians in double precision, with the scales as logarithms."""

    means: Array
    """Positions [n 3] in scene units."""
    quats: Array
    """Unit quaternions [n 4], w x y z."""
    log_scales: Array
    """Natural logarithms of the standard deviations [n 3]."""
    opacities: Array
    """Opacities [n] in [0, 1]."""
    dc: Array
    """Harmonics of degree 0 [n 3]."""
    rest: Array
    """Other harmonics [n basis-1 3]."""

    def __len__(self) -> int:
        """Return the number of Gaussians."""
        return len(self.means)

    @property
    def degree(self) -> int:
        """Degree of the harmonics, 0 to 3."""
        return BASES.index(self.rest.shape[1] + 1)

    @property
    def colors(self) -> Array:
        """Colours [n 3] averaged over directions, mostly in [0, 1]."""
        return self.dc * C0 + 0.5


def to_arrays(gaussians: Gaussians) -> Arrays:
    """Convert Gaussians to arrays.

    Args:
        gaussians: Gaussians without a view axis.

    Returns:
        Their values.
    """
    values = {
        name: value.detach().cpu().double().numpy() for name, value in gaussians.tensors().items()
    }
    norms = np.linalg.norm(values["quats"], axis=1, keepdims=True)
    return Arrays(
        values["means"],
        values["quats"] / np.maximum(norms, 1e-30),
        np.log(np.maximum(values["scales"], 1e-30)),
        values["opacities"],
        values["sh_coeffs"][:, 0],
        values["sh_coeffs"][:, 1:],
    )


def to_gaussians(arrays: Arrays) -> Gaussians:
    """Convert arrays to Gaussians in single precision.

    Args:
        arrays: The values.

    Returns:
        The Gaussians. A scale that is too large for single precision is infinite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        scales = np.exp(arrays.log_scales)
        values = [
            arrays.means,
            arrays.quats,
            scales,
            arrays.opacities,
            np.concatenate([arrays.dc[:, None], arrays.rest], axis=1),
        ]
        single = [np.ascontiguousarray(value, np.float32) for value in values]
    return Gaussians(*(torch.from_numpy(value) for value in single))
