"""Units of length of a fit."""

import torch

from lift.distortions.parameters.planes import released_unit
from lift.registry import ComponentError
from lift.types import Reconstruction

_CAMERA_MARGIN = 1.1
"""Factor on the largest distance of a camera from their mean, as in 3DGS."""


def scene_scale(name: str, reconstruction: Reconstruction, typical_depth: float) -> float:
    """Return the value of `fit.scene_scale` in scene units.

    Args:
        name: `depth` or `cameras`.
        reconstruction: Cameras of all frames. Those of frames without depth are left out.
        typical_depth: The typical depth of the input, in scene units.

    Raises:
        ComponentError: It is `cameras`, and all cameras have one position.
    """
    if name == "depth":
        return typical_depth
    registered = reconstruction.registered
    centers = reconstruction.cameras.centers[registered.to(reconstruction.cameras.centers.device)]
    distances = (centers - centers.mean(0)).norm(dim=-1) if len(centers) else torch.zeros(1)
    radius = _CAMERA_MARGIN * float(distances.max())
    if not radius > 1e-6 * typical_depth:
        raise ComponentError(
            "fit.scene_scale is 'cameras', but all cameras have one position; choose depth"
        )
    return radius


def depth_unit(name: str, reconstruction: Reconstruction, typical_depth: float) -> float:
    """Return the value of `fit.loss.depth_unit` in scene units.

    Args:
        name: `typical` or `points`.
        reconstruction: The points of all frames.
        typical_depth: The typical depth of the input, in scene units.

    Raises:
        ComponentError: It is `points`, and all points have one position.
    """
    if name == "typical":
        return typical_depth
    unit = released_unit(reconstruction.points) if len(reconstruction.points) else 0.0
    if not unit > 0:
        raise ComponentError(
            "fit.loss.depth_unit is 'points', but all points have one position; choose typical"
        )
    return unit
