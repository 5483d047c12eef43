"""Measure DISTS, deep image structure and texture similarity (Ding et al., PAMI 2020), on VGG16.

A lower distance means more similar, 0 is equal. DISTS compares statistics over the complete picture
and not pixel by pixel, so a texture in place of another one of its kind costs little. The package
`DISTS_pytorch` needs torchvision, whose PyPI build breaks CPU-only torch. Therefore the network is
implemented here. It uses the published weights: VGG16's of torchvision, alpha and beta of the
package.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, relu

from lift.evaluation.perceptual import load_published_weights, to_planes
from lift.weights import CachedUrl

FILES = ("vgg16_features.pth", "dists_weights.pt")
"""Names of the files with weights in a local folder."""
SOURCES = (
    CachedUrl(
        "protocol.weights",
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "vgg16-397923af.pth",
        "BSD-3-Clause",
        "397923af",
    ),
    CachedUrl(
        "protocol.weights",
        "https://raw.githubusercontent.com/dingkeyan93/DISTS/master/DISTS_pytorch/weights.pt",
        "dists_weights.pt",  # "weights.pt" could be anyone's
        "MIT",
        "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
    ),
)
"""The same files on the web. The first one (528 MB) includes the classifier, which is not used."""

STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""VGG16's convolutions by their number in torchvision's `features`.

The picture is pooled between stages. Statistics are computed at the end of each stage.
"""
CHANNELS = (3, 64, 128, 256, 512, 512)
"""Channels of the picture, which is compared as well, and of the stages."""
EPSILON = 1e-6
"""Added to numerator and denominator of both ratios, so that two zeros count as equal."""
MIN_SIDE = 32
"""Smallest side of a picture in pixels. The last stage then has two columns and a variance."""


class DISTS(nn.Module):
    """The DISTS distance of two pictures.

    The authors' results on quality datasets are for pictures whose shorter side was resized to 256
    pixels. This class does not resize pictures.

    Args:
        trunk: VGG16's weights by torchvision's names, `features.N.weight` and `features.N.bias`.
        weights: The package's weights `alpha` and `beta`.

    Raises:
        KeyError: A weight is missing.
    """

    sources = SOURCES
    """Published files that `load` downloads."""

    alpha: Tensor
    beta: Tensor
    shift: Tensor
    scale: Tensor
    window: Tensor

    def __init__(self, trunk: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        for index in sum(STAGES, ()):
            for kind in ("weight", "bias"):
                self.register_buffer(
                    f"features_{index}_{kind}", trunk[f"features.{index}.{kind}"].float()
                )
        total = weights["alpha"].float().sum() + weights["beta"].float().sum()
        for kind in ("alpha", "beta"):  # of means and of covariances
            self.register_buffer(kind, weights[kind].float().flatten() / total)
        self.register_buffer("shift", torch.tensor([0.485, 0.456, 0.406]))
        self.register_buffer("scale", torch.tensor([0.229, 0.224, 0.225]))
        hann = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("window", hann[:, None] * hann)

    @classmethod
    def load(cls, folder: Path | None = None) -> "DISTS":
        """Load the weights.

        Args:
            folder: Folder with `FILES`. None downloads them to torch.hub's cache.

        Returns:
            The network.

        Raises:
            FileNotFoundError: A file is missing. The message names it.
        """
        return cls(*load_published_weights("DISTS", folder, FILES, cls.sources))

    @torch.no_grad()
    def forward(
        self, a: Float[Tensor, "height width 3"], b: Float[Tensor, "height width 3"]
    ) -> float:
        """Compute the distance of two pictures of one size.

        Args:
            a: A picture in [0, 1], at least 32 pixels wide and high.
            b: The other picture.

        Returns:
            The distance.

        Raises:
            ValueError: The pictures are too small.
        """
        if min(a.shape[:2]) < MIN_SIDE:
            raise ValueError(
                f"DISTS of pictures of {list(a.shape)}; choose pictures at least {MIN_SIDE} pixels "
                "wide and high"
            )
        planes_a = to_planes(a, self.shift)
        planes_b = to_planes(b, self.shift)
        return float(self.distances(planes_a, planes_b))

    def distances(
        self, a: Float[Tensor, "picture 3 height width"], b: Float[Tensor, "picture 3 height width"]
    ) -> Float[Tensor, "picture"]:
        """Compute the distances of several pairs, with gradients.

        Args:
            a: Pictures in [0, 1].
            b: The other pictures.

        Returns:
            The distance of each pair.
        """
        values = torch.cat([a, b])
        total = values.new_zeros(len(a))
        weights = zip(self.alpha.split(CHANNELS), self.beta.split(CHANNELS), strict=True)
        for stage, (alpha, beta) in enumerate(weights):
            if stage:
                values = self._stage(values, stage - 1)
            mean = values.mean((2, 3))
            centered = values - mean[..., None, None]
            variance = centered.square().mean((2, 3))
            covariance = (centered[: len(a)] * centered[len(a) :]).mean((2, 3))
            for weight, product, (x, y) in (
                (alpha, mean[: len(a)] * mean[len(a) :], mean.square().split(len(a))),
                (beta, covariance, variance.split(len(a))),
            ):
                # The weights sum to 1, so this is 1 minus the similarity. Written channel by
                # channel, equal pictures have a distance of exactly 0.
                total = total + (weight * (1 - (2 * product + EPSILON) / (x + y + EPSILON))).sum(1)
        return total

    def _stage(
        self, values: Float[Tensor, "picture channel height width"], stage: int
    ) -> Float[Tensor, "picture features rows columns"]:
        """Apply a stage. Its pooling, the root mean square under a Hann window, does not alias."""
        if stage == 0:
            values = (values - self.shift[:, None, None]) / self.scale[:, None, None]
        else:
            channels = values.shape[1]
            squares = conv2d(
                values.square(),
                self.window.expand(channels, 1, 3, 3),
                stride=2,
                padding=1,
                groups=channels,
            )
            values = (squares + 1e-12).sqrt()
        for number in STAGES[stage]:
            values = relu(
                conv2d(
                    values,
                    getattr(self, f"features_{number}_weight"),
                    getattr(self, f"features_{number}_bias"),
                    padding=1,
                )
            )
        return values
