"""Gaussians in the form that viser draws, in colours or coloured by a number."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.geometry import quat_to_rotation
from lift.spherical_harmonics import evaluate_from
from lift.types import Gaussians

NODE = "/gaussians"
"""Name of the Gaussians in viser's scene."""

MAX_DEVIATION = 200.0
"""Largest standard deviation of a Gaussian in the viewer's units. viser keeps variances as float16,
which ends at 65504."""

MAX_SAMPLES = 1 << 20
"""Largest number of values from which quantiles are computed. torch takes at most 2^24."""


def splat_arrays(
    gaussians: Gaussians, center: Float[Tensor, "3"], unit: float
) -> dict[str, np.ndarray]:
    """Convert Gaussians to the arrays that viser draws. It draws no view dependence.

    Args:
        gaussians: The scene.
        center: Colours are those that a camera here sees, in scene units.
        unit: The viewer's units of length per scene unit.

    Returns:
        `centers`, `covariances`, `rgbs` and `opacities`.
    """
    scales = (gaussians.scales * unit).clamp(max=MAX_DEVIATION)
    axes = quat_to_rotation(gaussians.quats) * scales[:, None]
    rgb = evaluate_from(gaussians.sh_coeffs, gaussians.means, center[None])[0]
    return {
        "centers": (gaussians.means * unit).numpy(),
        "covariances": (axes @ axes.mT).numpy(),
        "rgbs": rgb.clamp(0, 1).numpy(),
        "opacities": gaussians.opacities[:, None].numpy(),
    }


def add_splats(scene: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Add Gaussians to a scene of viser, or replace them.

    Args:
        scene: The scene of the server, or that of one client, which hides the server's Gaussians.
        arrays: What `splat_arrays` returned.

    Returns:
        viser's handle.
    """
    return scene.add_gaussian_splats(NODE, **arrays)


def color_by(
    values: Float[Tensor, "*shape"], low: float, high: float
) -> UInt8[np.ndarray, "*shape 3"]:
    """Colour numbers by the colour map turbo: blue for `low`, red for `high`.

    Args:
        values: Any numbers.
        low: Value of the first colour.
        high: Value of the last colour, not below `low`.

    Returns:
        Colours.
    """
    fraction = ((values - low) / max(high - low, 1e-12)).clamp(0, 1).nan_to_num(0.0)
    grey = (fraction * 255).round().to(torch.uint8).numpy()
    colors = cv2.applyColorMap(grey.reshape(-1, 1), cv2.COLORMAP_TURBO)
    return colors.reshape(*grey.shape, 3)[..., ::-1].copy()


def quantiles(values: Float[Tensor, "count"], fractions: Sequence[float]) -> list[float]:
    """Compute quantiles. Of more than `MAX_SAMPLES` values, an even subset is used.

    Args:
        values: Numbers, at least one.
        fractions: Fractions of the values below the quantiles, in [0, 1].

    Returns:
        The quantiles.
    """
    samples = values[:: -(-len(values) // MAX_SAMPLES)]
    return samples.quantile(samples.new_tensor(fractions)).tolist()
