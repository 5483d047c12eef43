"""A guess from geometry alone."""

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from lift.depths import DepthEstimator, depths
from lift.depths.inverse import guided
from lift.types import Depth


@depths.register("ramp")
class Ramp(DepthEstimator):
    """A geometric guess for any picture: lower is nearer, what stands out in the middle is nearer; needs no weights.

    Below the horizon lies a floor (inverse depth grows linearly with the row, as it does on any plane), above it a background that
    recedes slowly. What differs from the picture's upper and side borders, near its middle, is lifted towards the camera
    (`center`), and the whole is smoothed along the picture's own edges, so that depth mildly follows objects (guided filter,
    He et al., ECCV 2010). Depth lies between `near` and `far`. It is a guess of shape, not of distance: `affine-invariant`.

    near, far: the range of depth, in units of the scene.
    horizon: row where the floor ends, as a share of the height from the top.
    center: how much what stands out in the middle comes forward, as a share of the range of inverse depth; 0 leaves floor and
        background alone.
    edges: 0 for a depth that does not look at the picture, 1 for one that follows its edges.
    """

    def __init__(
        self,
        near: float = 1.0,
        far: float = 4.0,
        horizon: float = 0.35,
        center: float = 0.25,
        edges: float = 0.7,
    ) -> None:
        if not 0 < near < far:
            raise ValueError(f"depth.near is {near} and depth.far is {far}; choose 0 < near < far")
        for key, value in {"horizon": horizon, "center": center, "edges": edges}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"depth.{key} is {value}; choose a value from 0 to 1")
        self.near, self.far, self.horizon, self.center, self.edges = (
            near,
            far,
            horizon,
            center,
            edges,
        )

    def __call__(self, image: UInt8[Tensor, "height width 3"]) -> Depth:
        rgb = image.cpu().numpy().astype(np.float32) / 255
        height, width = rgb.shape[:2]
        y = (np.arange(height, dtype=np.float32) + 0.5) / height
        # A softplus joins floor and background without a crease; the small slope above the horizon leaves no two rows equal.
        bend = 0.05
        rise = bend * np.logaddexp(0, (y - self.horizon) / bend) + 0.15 * y
        nearness = np.repeat(
            ((rise - rise.min()) / np.ptp(rise).clip(1e-6))[:, None], width, axis=1
        ).astype(np.float32)
        if self.center:
            nearness += self.center * _salience(rgb)
        if self.edges:
            # Texture must not become relief: the guide is softened, and weak contrast does not count as an edge.
            guide = cv2.GaussianBlur(rgb, (0, 0), max(height, width) / 200)
            smooth = guided(
                torch.from_numpy(guide).permute(2, 0, 1),
                torch.from_numpy(nearness),
                max(2, max(height, width) // 12),
                0.02,
            ).numpy()
            nearness += self.edges * (smooth - nearness)
        nearness = (nearness - nearness.min()) / max(float(np.ptp(nearness)), 1e-6)
        inverse = 1 / self.far + nearness * (1 / self.near - 1 / self.far)
        depth = torch.from_numpy(1 / inverse).float().to(image.device)
        return Depth(depth, torch.ones_like(depth, dtype=torch.bool), "affine-invariant")


def _salience(rgb: np.ndarray) -> np.ndarray:
    """In [0, 1]: near the middle, and unlike the picture's upper and side borders, which are mostly background."""
    height, width = rgb.shape[:2]
    lab = cv2.cvtColor(cv2.GaussianBlur(rgb, (0, 0), max(height, width) / 100), cv2.COLOR_RGB2LAB)
    side, top = max(1, width // 16), max(1, height // 16)
    unlike = np.full((height, width), np.inf, np.float32)
    for strip in (lab[:top], lab[:, :side], lab[:, -side:]):
        colors = strip.reshape(-1, 3)
        mean, spread = colors.mean(0), colors.std(0) + 6
        unlike = np.minimum(unlike, (((lab - mean) / spread) ** 2).sum(-1))
    y, x = np.mgrid[:height, :width]
    middle = np.exp(-2 * (((x + 0.5) / width * 2 - 1) ** 2 + ((y + 0.5) / height * 2 - 1.1) ** 2))
    return (middle * (0.5 + 0.5 * (1 - np.exp(-unlike / 8)))).astype(np.float32)
