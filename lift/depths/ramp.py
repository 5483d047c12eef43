"""Depth from simple geometric assumptions, without a network."""

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from lift.depths import DepthEstimator, depths
from lift.depths.inverse import guided_filter
from lift.registry.ranges import Fraction, Positive
from lift.types import Depth


@depths.register("ramp")
class Ramp(DepthEstimator):
    """Guess depth without weights: lower pixels and central objects are nearer.

    Below the horizon is a floor: inverse depth grows linearly with the row, as on any plane. Above
    it is a background that recedes slowly. Regions near the picture's centre that differ from its
    upper and side borders move forward. The result is smoothed along the picture's edges (guided
    filter, He et al., ECCV 2010). It is a guess of shape, not of distance: `affine-invariant`.

    Args:
        near: Smallest depth, in scene units, above 0.
        far: Largest depth, in scene units.
        horizon: Row where the floor ends, as a fraction of the height from the top, in [0, 1].
        center_weight: How far central objects move forward, as a fraction of the range of inverse
            depth, in [0, 1]. 0 keeps floor and background only.
        edge_weight: Weight of the edge-aware smoothing, in [0, 1]. 0 ignores the picture's edges.
    """

    def __init__(
        self,
        near: Positive = 1.0,
        far: Positive = 4.0,
        horizon: Fraction = 0.35,
        center_weight: Fraction = 0.25,
        edge_weight: Fraction = 0.7,
    ) -> None:
        if not near < far:
            raise ValueError(f"depth.near is {near} and depth.far is {far}; choose 0 < near < far")
        self.near = near
        self.far = far
        self.horizon = horizon
        self.center_weight = center_weight
        self.edge_weight = edge_weight

    def __call__(self, image: UInt8[Tensor, "height width 3"]) -> Depth:
        """Guess depth. See `DepthEstimator`."""
        rgb = image.cpu().numpy().astype(np.float32) / 255
        height, width = rgb.shape[:2]
        y = (np.arange(height, dtype=np.float32) + 0.5) / height
        # A softplus joins floor and background smoothly. The small slope above the horizon makes
        # all rows different.
        bend = 0.05
        rise = bend * np.logaddexp(0, (y - self.horizon) / bend) + 0.15 * y
        nearness = np.repeat(
            ((rise - rise.min()) / np.ptp(rise).clip(1e-6))[:, None], width, axis=1
        ).astype(np.float32)
        if self.center_weight:
            nearness += self.center_weight * _salience(rgb)
        if self.edge_weight:
            # Texture must not become relief. So the guide is blurred, and weak contrast is no edge.
            guide = cv2.GaussianBlur(rgb, (0, 0), max(height, width) / 200)
            smooth = guided_filter(
                torch.from_numpy(guide).permute(2, 0, 1),
                torch.from_numpy(nearness),
                max(2, max(height, width) // 12),
                0.02,
            ).numpy()
            nearness += self.edge_weight * (smooth - nearness)
        nearness = (nearness - nearness.min()) / max(float(np.ptp(nearness)), 1e-6)
        inverse = 1 / self.far + nearness * (1 / self.near - 1 / self.far)
        depth = torch.from_numpy(1 / inverse).float().to(image.device)
        return Depth(depth, torch.ones_like(depth, dtype=torch.bool), "affine-invariant")


def _salience(rgb: np.ndarray) -> np.ndarray:
    """Score pixels that are central and differ from the picture's borders, in [0, 1]."""
    height, width = rgb.shape[:2]
    lab = cv2.cvtColor(cv2.GaussianBlur(rgb, (0, 0), max(height, width) / 100), cv2.COLOR_RGB2LAB)
    side = max(1, width // 16)
    top = max(1, height // 16)
    difference = np.full((height, width), np.inf, np.float32)
    for strip in (lab[:top], lab[:, :side], lab[:, -side:]):
        colors = strip.reshape(-1, 3)
        mean = colors.mean(0)
        deviation = colors.std(0) + 6
        difference = np.minimum(difference, (((lab - mean) / deviation) ** 2).sum(-1))
    y, x = np.mgrid[:height, :width]
    across = (x + 0.5) / width * 2 - 1
    down = (y + 0.5) / height * 2 - 1.1
    central = np.exp(-2 * (across**2 + down**2))
    return (central * (0.5 + 0.5 * (1 - np.exp(-difference / 8)))).astype(np.float32)
