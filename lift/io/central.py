"""The most central picture of a set: the one that has most in common with the others."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.io.image import resized
from lift.poses.matching import features_of
from lift.types import Cameras

_KEYPOINTS = 512
_SIDE = 256
"""Longer side in pixels of the pictures whose keypoints are matched, at most."""
_LARGEST = 60
"""Number of pictures that are compared, at most; of more, as many are taken evenly."""


def match_counts(
    images: UInt8[Tensor, "view height width 3"], device: torch.device
) -> Float[Tensor, "view"]:
    """Count the feature matches of each picture with all others.

    Args:
        images: The pictures. Of more than 60, only 60 evenly taken ones are compared.
        device: Where keypoints are found and matched.

    Returns:
        The sum of matches of each picture; -1 for those that are not compared.
    """
    count = len(images)
    chosen = sorted({round(k) for k in np.linspace(0, count - 1, min(count, _LARGEST))})
    factor = min(1.0, _SIDE / max(images.shape[1:3]))
    height, width = (max(32, round(side * factor)) for side in images.shape[1:3])
    features = features_of("auto", _KEYPOINTS, device)
    small = resized(images[chosen], width, height)
    found = [features(image.to(device)) for image in small]
    counts = torch.zeros(len(chosen))
    for first in range(len(chosen)):
        for second in range(first):
            matches, _ = features.match(found[first], found[second])
            counts[first] += len(matches)
            counts[second] += len(matches)
    out = torch.full((count,), -1.0)
    out[chosen] = counts
    return out


def camera_centrality(cameras: Cameras) -> Float[Tensor, "view"]:
    """Measure how near each camera is to the median position and viewing direction of all.

    Args:
        cameras: The cameras.

    Returns:
        A number for each camera, larger for more central ones. A distance as large as the
        median distance counts as much as a turn by one radian.
    """
    centers = cameras.centers.double()
    away = (centers - centers.median(0).values).norm(dim=-1)
    forward = cameras.world_to_camera[:, 2, :3].double()
    mean = forward.mean(0)
    mean = mean / mean.norm().clamp(min=1e-9)
    turned = (forward @ mean).clamp(-1, 1).arccos()
    return -(away / away.median().clamp(min=1e-9) + turned).float()
