"""Simulate a pair network with known errors, to measure the alignment of its predictions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from lift.geometry import rotation_from_vector, unproject
from lift.poses.sfm.correspondence import PairMaps, PairNetwork
from lift.types import Cameras

CHANNELS = 24
"""Number of channels of a descriptor."""


class Oracle(PairNetwork):
    """A pair network that predicts the truth with simulated errors.

    Frames must be encoded in the order of the cameras.

    Args:
        cameras: True cameras of the frames, at the size of the maps.
        depth: True z-depth [frame height width], 0 where unknown.
        noise: Relative error of depth. It is smooth over a fifth of the picture, and half as large
            from pixel to pixel. Each pair also has a scale error of 10 %.
        outlier_rate: Fraction of each map with unrelated points, in blobs.
        failure_rate: Fraction of the pairs whose second frame has a wrong pose.
        has_descriptors: Whether to predict descriptors. Their error is `noise` / 10 of the typical
            depth.
        seed: Seed of all errors.
    """

    def __init__(
        self,
        cameras: Cameras,
        depth: Tensor,
        noise: float = 0.03,
        outlier_rate: float = 0.05,
        failure_rate: float = 0.0,
        has_descriptors: bool = False,
        seed: int = 0,
    ) -> None:
        self.cameras = cameras
        self.depth = depth
        self.noise = noise
        self.outlier_rate = outlier_rate
        self.failure_rate = failure_rate
        self.has_descriptors = has_descriptors
        self.seed = seed
        self.points = unproject(depth, cameras)
        self.typical_depth = float(depth[0][depth[0] > 0].median())
        self.next_frame = 0
        rng = torch.Generator().manual_seed(seed)
        # Wavelengths from 3 % of the typical depth to its tenfold.
        exponents = torch.linspace(math.log(0.03), math.log(10), CHANNELS // 2)
        wavelengths = torch.exp(exponents) * self.typical_depth
        directions = normalize(torch.randn(CHANNELS // 2, 3, generator=rng), dim=-1)
        self.waves = (2 * math.pi * directions / wavelengths[:, None]).to(depth)

    def encode(self, images: Tensor) -> list[int]:
        """Return the indices of the next frames.

        Args:
            images: The frames. Only their number is used.

        Returns:
            The indices.
        """
        start = self.next_frame
        self.next_frame = start + len(images)
        return list(range(start, self.next_frame))

    def batch_size(self) -> int:
        """Return the number of pairs that are predicted at a time."""
        return 4

    def predict(self, first: Sequence[int], second: Sequence[int], both: bool) -> PairMaps:
        """Predict pairs of frames.

        Args:
            first: Indices of the first frames.
            second: Indices of the second frames.
            both: Whether to predict points of the second frames.

        Returns:
            The predictions.
        """
        pairs = [self._predict_pair(a, b) for a, b in zip(first, second, strict=True)]
        points, confidence, second_points, second_confidence, *descriptors = (
            torch.stack(part) for part in zip(*pairs, strict=True)
        )
        return PairMaps(
            points,
            confidence,
            second_points if both else None,
            second_confidence if both else None,
            (descriptors[0], descriptors[1]) if self.has_descriptors else None,
            (descriptors[2], descriptors[3]) if self.has_descriptors else None,
        )

    def _predict_pair(self, a: int, b: int) -> list[Tensor]:
        """Predict points and confidence of both frames, then descriptors and their confidence."""
        rng = torch.Generator().manual_seed((self.seed * 4096 + a) * 4096 + b)
        matrix = self.cameras.world_to_camera[a]
        scale = math.exp(0.1 * float(torch.randn((), generator=rng)))
        failed = a != b and float(torch.rand((), generator=rng)) < self.failure_rate
        out: list[Tensor] = []
        for frame in (a, b):
            factor, outliers = self._depth_errors(rng)
            local = (self.points[frame] @ matrix[:3, :3].T + matrix[:3, 3]) * scale
            # The error of a frame is along its own rays.
            center = (self.cameras.centers[frame] @ matrix[:3, :3].T + matrix[:3, 3]) * scale
            local = center + (local - center) * factor[..., None]
            if failed and frame == b:
                rotation = rotation_from_vector(torch.randn(3, generator=rng).to(local))
                mean = local.flatten(0, 1).mean(0)
                shift = mean * float(1 + torch.rand((), generator=rng))
                local = (local - mean) @ rotation.T + shift
            valid = self.depth[frame] > 0
            noise = torch.rand(outliers.shape, generator=rng).to(local)
            confidence = torch.where(outliers, 1.2 + noise, 4.0) * valid + ~valid
            out += [local, confidence]
        if not self.has_descriptors:
            return out
        descriptors = []
        confidences = []
        for frame in (a, b):
            noise = torch.randn(self.points[frame].shape, generator=rng).to(self.depth)
            points = self.points[frame] + self.noise / 10 * self.typical_depth * noise
            phase = points @ self.waves.T
            descriptors.append(normalize(torch.cat([phase.cos(), phase.sin()], -1), dim=-1))
            valid = (self.depth[frame] > 0).float()
            confidences.append(valid * (0.1 if failed else 1.0) + 0.01)
        return [*out, *descriptors, *confidences]

    def _depth_errors(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw the factor on the depth of each pixel, and a mask of outliers."""
        height, width = self.depth.shape[1:]

        def upsample(values: Tensor) -> Tensor:
            size = (height, width)
            return interpolate(values, size, mode="bicubic", align_corners=True)[0, 0]

        smooth = upsample(torch.randn(1, 1, 5, 5, generator=rng))
        pixel_noise = torch.randn(height, width, generator=rng)
        factor = (self.noise * smooth + self.noise / 2 * pixel_noise).exp()
        blobs = upsample(torch.rand(1, 1, 12, 12, generator=rng))
        if self.outlier_rate:
            outliers = blobs > blobs.flatten().quantile(1 - self.outlier_rate)
        else:
            outliers = torch.zeros(height, width, dtype=torch.bool)
        outlier_factor = (0.5 * torch.randn(height, width, generator=rng)).exp() * 1.5
        factor = torch.where(outliers, outlier_factor, factor)
        return factor.to(self.depth), outliers.to(self.depth.device)
