"""Measure LPIPS, learned perceptual similarity (Zhang et al., CVPR 2018), version 0.1 on AlexNet.

A lower distance means more similar. The package `lpips` needs torchvision, whose PyPI build breaks
CPU-only torch. Therefore the network is implemented here. It uses the published weights: AlexNet's
of torchvision, and the heads of the package.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, max_pool2d, relu

from lift.evaluation.perceptual import load_published_weights, to_planes
from lift.weights import CachedUrl

FILES = ("alexnet_features.pth", "heads_v0.1/alex.pth")
"""Names of the files with weights in a local folder."""
SOURCES = (
    CachedUrl(
        "protocol.weights",
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "alexnet-owt-7be5be79.pth",
        "BSD-3-Clause",
        "7be5be79",
    ),
    CachedUrl(
        "protocol.weights",
        "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/alex.pth",
        "lpips-v0.1-alex.pth",  # "alex.pth" could be anyone's
        "BSD-2-Clause",
        "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    ),
)
"""The same files on the web: AlexNet of torchvision, and the heads of the package lpips."""

LAYERS = {
    "features.0": (4, 2),
    "features.3": (1, 2),
    "features.6": (1, 1),
    "features.8": (1, 1),
    "features.10": (1, 1),
}
"""Stride and padding of AlexNet's convolutions."""
POOLED = ("features.3", "features.6")
"""Layers before which the maximum over 3 x 3 pixels is taken."""


class LPIPS(nn.Module):
    """The LPIPS distance of two pictures.

    Args:
        trunk: AlexNet's weights by torchvision's names.
        heads: The heads' weights by the lpips package's names.

    Raises:
        KeyError: A weight is missing.
    """

    sources = SOURCES
    """Published files that `load` downloads."""

    shift: Tensor
    scale: Tensor

    def __init__(self, trunk: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name in LAYERS:
            for kind in ("weight", "bias"):
                self.register_buffer(
                    f"{name}.{kind}".replace(".", "_"), trunk[f"{name}.{kind}"].float()
                )
        for index in range(len(LAYERS)):
            self.register_buffer(f"head_{index}", heads[f"lin{index}.model.1.weight"].float())
        # Converts values in [-1, 1] to the normalization of AlexNet's training.
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]))

    @classmethod
    def load(cls, folder: Path | None = None) -> "LPIPS":
        """Load the weights.

        Args:
            folder: Folder with `FILES`. None downloads them to torch.hub's cache.

        Returns:
            The network.

        Raises:
            FileNotFoundError: A file is missing. The message names it.
        """
        return cls(*load_published_weights("LPIPS", folder, FILES, cls.sources))

    @torch.no_grad()
    def forward(
        self,
        a: Float[Tensor, "height width 3"],
        b: Float[Tensor, "height width 3"],
        mask: Bool[Tensor, "height width"] | None = None,
    ) -> float:
        """Compute the distance of two pictures of one size.

        Args:
            a: A picture in [0, 1], at least 31 pixels wide and high.
            b: The other picture.
            mask: Pixels that count; see `distances`. None uses the plain distance.

        Returns:
            The distance.

        Raises:
            ValueError: The pictures are too small.
        """
        if min(a.shape[:2]) < 31:
            raise ValueError(
                f"LPIPS of pictures of {list(a.shape)}; choose pictures at least 31 pixels wide "
                "and high"
            )
        planes_a = to_planes(a, self.shift)
        planes_b = to_planes(b, self.shift)
        return float(
            self.distances(
                planes_a, planes_b, None if mask is None else mask.to(self.shift.device)[None]
            )
        )

    def distances(
        self,
        a: Float[Tensor, "picture 3 height width"],
        b: Float[Tensor, "picture 3 height width"],
        mask: Bool[Tensor, "picture height width"] | None = None,
    ) -> Float[Tensor, "picture"]:
        """Compute the distances of several pairs, with gradients.

        With a mask, each layer's map of distances is stretched over the picture bilinearly, as the
        package `lpips` does with `spatial=True`, and averaged over the mask. Pixels up to about 100
        pixels around the mask still have a small effect, because features have a large receptive
        field. With a mask of all pixels, the distance differs from the plain one, which weighs all
        positions of a layer equally: by 0.1 % at 31 pixels, by 0.001 % at 256.

        Args:
            a: Pictures in [0, 1].
            b: The other pictures.
            mask: Pixels that count. The distance of an empty mask is NaN.

        Returns:
            The distance of each pair.
        """
        values = (2 * torch.cat([a, b]) - 1 - self.shift[:, None, None]) / self.scale[:, None, None]
        total = values.new_zeros(len(a))
        for index, (name, (stride, padding)) in enumerate(LAYERS.items()):
            if name in POOLED:
                values = max_pool2d(values, 3, 2)
            weight, bias = (
                getattr(self, f"{name}.{kind}".replace(".", "_")) for kind in ("weight", "bias")
            )
            values = relu(conv2d(values, weight, bias, stride, padding))
            # The first summand keeps the gradient finite where all features are 0.
            units = values / ((values.square().sum(1, keepdim=True) + 1e-20).sqrt() + 1e-10)
            difference = (units[: len(a)] - units[len(a) :]).square()
            distance = conv2d(difference, getattr(self, f"head_{index}"))
            if mask is None:
                total = total + distance.mean((1, 2, 3))
            else:
                distance_map = interpolate(
                    distance, mask.shape[1:], mode="bilinear", align_corners=False
                )[:, 0]
                total = total + (distance_map * mask).sum((1, 2)) / mask.sum((1, 2))
        return total
