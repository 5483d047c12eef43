"""A measure of coverage that knows its answer, for tests of films and view regions."""

import torch

from lift.types import Cameras

SUBJECT = 4.0
"""Depth of the flat scene in front of the camera at the origin."""


class CoveredWithin:
    """Views are covered within limits about a point 4 units in front of the camera at the origin.

    Args:
        right: Azimuth in degrees up to which views are covered.
        left: The same to the left.
        up: Elevation in degrees up to which views are covered.
        back: Distance in units behind the input camera up to which views are covered.
    """

    def __init__(
        self, right: float = 90.0, left: float = 90.0, up: float = 90.0, back: float = 9.0
    ) -> None:
        self.limits = right, left, up, back
        self.measured: list[Cameras] = []

    def __call__(self, cameras: Cameras) -> torch.Tensor:
        """Return 1 for a view within the limits, else 0."""
        self.measured.append(cameras)
        right, left, up, back = self.limits
        offset = cameras.centers - torch.tensor([0.0, 0.0, SUBJECT])
        azimuth = torch.atan2(offset[:, 0], -offset[:, 2]).rad2deg()
        elevation = torch.atan2(-offset[:, 1], offset[:, ::2].norm(dim=-1)).rad2deg()
        covered = (azimuth < right) & (azimuth > -left) & (elevation < up)
        return (covered & (offset.norm(dim=-1) < SUBJECT + back)).float()

    def surface(self, camera: Cameras) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a flat scene without holes."""
        depth = torch.full((1, camera.height, camera.width), SUBJECT)
        return depth, torch.ones_like(depth, dtype=torch.bool)
