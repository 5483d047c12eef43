"""Frames that renders are compared with."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate


@dataclass(frozen=True)
class Targets:
    """Frames of one size that renders are compared with."""

    images: UInt8[Tensor, "view height width 3"]
    """Colours in [0, 255]."""
    depth: Float[Tensor, "view height width"]
    """z-depth; 0 where it is unknown."""
    confidence: Float[Tensor, "view height width"]
    """Weights of the depth, in [0, 1]."""
    intrinsics: Float[Tensor, "view 3 3"]
    """Pinhole matrices in pixels."""

    def resized(self, width: int, height: int) -> "Targets":
        """Return smaller targets.

        Colours are averaged. Depth takes the nearest pixel, because a mean of two surfaces would
        lie between them.

        Args:
            width: New width in pixels.
            height: New height in pixels.
        """
        factor = self.intrinsics.new_tensor(
            [[width / self.images.shape[2]], [height / self.images.shape[1]], [1.0]]
        )
        images = [
            interpolate(image[None].permute(0, 3, 1, 2).float(), (height, width), mode="area")
            for image in self.images
        ]
        depth, confidence = (
            interpolate(values[:, None], (height, width), mode="nearest")[:, 0]
            for values in (self.depth, self.confidence)
        )
        rounded = torch.cat([image.round().to(torch.uint8) for image in images])
        return Targets(
            rounded.permute(0, 2, 3, 1).contiguous(),
            depth,
            confidence,
            self.intrinsics * factor,
        )
