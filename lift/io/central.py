"""Find the most central picture of a set: the one that overlaps most with the others."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.io.image import resize_images
from lift.poses.sfm.features import create_features
from lift.types import Cameras

_MAX_KEYPOINTS = 512
"""Number of keypoints in each picture."""
_MAX_SIDE = 256
"""Largest length in pixels of the longer side of the pictures that are matched."""
_MAX_PICTURES = 60
"""Largest number of pictures that are compared. Of a larger set, an even subset is compared."""


def match_counts(
    images: UInt8[Tensor, "view height width 3"], device: torch.device
) -> Float[Tensor, "view"]:
    """Count the feature matches of each picture with all others.

    Args:
        images: The pictures. Of more than 60, an even subset of 60 is compared.
        device: Device for detection and matching of keypoints.

    Returns:
        Sum of matches of each picture, or -1 for pictures that are not compared.
    """
    count = len(images)
    indices = sorted({round(k) for k in np.linspace(0, count - 1, min(count, _MAX_PICTURES))})
    scale = min(1.0, _MAX_SIDE / max(images.shape[1:3]))
    height, width = (max(32, round(side * scale)) for side in images.shape[1:3])
    features = create_features("auto", _MAX_KEYPOINTS, device)
    thumbnails = resize_images(images[indices], width, height)
    keypoints = [features(image.to(device)) for image in thumbnails]
    counts = torch.zeros(len(indices))
    for i in range(len(indices)):
        for j in range(i):
            matches, _ = features.match(keypoints[i], keypoints[j])
            counts[i] += len(matches)
            counts[j] += len(matches)
    scores = torch.full((count,), -1.0)
    scores[indices] = counts
    return scores


def camera_centrality(cameras: Cameras) -> Float[Tensor, "view"]:
    """Measure how near each camera is to the median position and mean viewing direction.

    Args:
        cameras: The cameras of a set.

    Returns:
        One number for each camera, larger for more central ones. A distance equal to the median
        distance counts as much as a rotation by one radian.
    """
    centers = cameras.centers.double()
    distance = (centers - centers.median(0).values).norm(dim=-1)
    forward = cameras.world_to_camera[:, 2, :3].double()
    mean = forward.mean(0)
    mean = mean / mean.norm().clamp(min=1e-9)
    angle = (forward @ mean).clamp(-1, 1).arccos()
    return -(distance / distance.median().clamp(min=1e-9) + angle).float()
