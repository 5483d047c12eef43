"""Match the input view with other views, and cast rays through pixels."""

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.poses.sfm.features import create_features

_MAX_KEYPOINTS = 4096
"""Largest number of keypoints in each picture."""


def match_views(
    image: UInt8[Tensor, "height width 3"], images: Iterable[UInt8[Tensor, "height width 3"]]
) -> Iterator[tuple[Float[Tensor, "match 2"], Float[Tensor, "match 2"]]]:
    """Match a picture with each of several others.

    Args:
        image: The picture.
        images: The others.

    Yields:
        Pixels (x, y) of the picture and of the other picture that show the same point.
    """
    features = create_features("auto", _MAX_KEYPOINTS, torch.device("cpu"))
    keypoints = features(image)
    for other in images:
        other_keypoints = features(other)
        index = features.match(keypoints, other_keypoints)[0]
        yield keypoints[0][index[:, 0]].cpu(), other_keypoints[0][index[:, 1]].cpu()


def pixel_rays(
    pixels: Float[Tensor, "point 2"], intrinsics: Float[Tensor, "3 3"]
) -> Float[Tensor, "point 3"]:
    """Compute the rays through pixels.

    Args:
        pixels: Pixels (x, y).
        intrinsics: Intrinsics of the camera.

    Returns:
        Points at z = 1 in the camera's axes, double precision.
    """
    homogeneous = torch.cat([pixels.cpu(), torch.ones(len(pixels), 1)], 1).double()
    return homogeneous @ torch.linalg.inv(intrinsics.double()).T
