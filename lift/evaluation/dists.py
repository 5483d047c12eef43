"""DISTS, deep image structure and texture similarity (Ding et al., PAMI 2020), on VGG16: lower is more alike, 0 is equal.

It compares statistics over the whole picture, not pixel by pixel: one texture in place of another of its kind costs little. Written here, because
the package `DISTS_pytorch` needs torchvision, which from PyPI breaks a torch for CPUs. The weights are the published ones: VGG16's as torchvision
offers them, alpha and beta as the package has them.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, relu

FILES = ("vgg16_features.pth", "dists_weights.pt")
URLS = (
    "https://download.pytorch.org/models/vgg16-397923af.pth",
    "https://raw.githubusercontent.com/dingkeyan93/DISTS/master/DISTS_pytorch/weights.pt",
)
"""The first has the classifier, too: 528 MB, of which the 59 of `features` are read."""

STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""VGG16's convolutions by their number in torchvision's `features`. The picture is pooled between stages; statistics are of what each ends in."""
CHANNELS = (3, 64, 128, 256, 512, 512)
"""Of the picture itself, which is compared as well, and of the stages."""
TINY = 1e-6
"""Of both ratios, so that what is nowhere is equal."""
SMALLEST = 32
"""Pixels: the last stage then is two wide and has a variance."""


class DISTS(nn.Module):
    """The distance of two pictures of one size, each [height width 3] in [0, 1] and at least 32 pixels wide and high.

    Pictures are compared at the size they have. The authors' figures on datasets of quality are of pictures whose shorter side was resized to 256.
    """

    def __init__(self, trunk: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        """Weights by torchvision's and the package's names: `features.N.weight`, `features.N.bias`; `alpha`, `beta`. Raises KeyError for a missing one."""
        super().__init__()
        for number in sum(STAGES, ()):
            for kind in ("weight", "bias"):
                self.register_buffer(
                    f"features_{number}_{kind}", trunk[f"features.{number}.{kind}"].float()
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
        """With weights from a folder that has `FILES`, or downloaded to torch.hub's cache. Raises FileNotFoundError that says what is missing."""
        if folder is None:
            names = (None, FILES[1])  # "weights.pt" could be anyone's
            return cls(
                *(
                    torch.hub.load_state_dict_from_url(
                        url, map_location="cpu", progress=True, file_name=name, weights_only=True
                    )
                    for url, name in zip(URLS, names, strict=True)
                )
            )
        for name in FILES:
            if not (folder / name).exists():
                raise FileNotFoundError(
                    f"there is no {name} in {folder}, which is to hold DISTS's weights: {', '.join(FILES)}"
                )
        return cls(
            *(torch.load(folder / name, map_location="cpu", weights_only=True) for name in FILES)
        )

    @torch.no_grad()
    def forward(
        self, a: Float[Tensor, "height width 3"], b: Float[Tensor, "height width 3"]
    ) -> float:
        """Raises ValueError for pictures that are too small."""
        if min(a.shape[:2]) < SMALLEST:
            raise ValueError(
                f"DISTS of pictures of {list(a.shape)}; choose pictures at least {SMALLEST} pixels wide and high"
            )
        first, second = (
            picture.to(self.shift).clamp(0, 1).permute(2, 0, 1)[None] for picture in (a, b)
        )
        return float(self.distances(first, second))

    def distances(
        self, a: Float[Tensor, "picture 3 height width"], b: Float[Tensor, "picture 3 height width"]
    ) -> Float[Tensor, "picture"]:
        """Of several pairs at once, with gradients."""
        values = torch.cat([a, b])
        total = values.new_zeros(len(a))
        shares = zip(self.alpha.split(CHANNELS), self.beta.split(CHANNELS), strict=True)
        for stage, (alpha, beta) in enumerate(shares):
            if stage:
                values = self._stage(values, stage - 1)
            mean = values.mean((2, 3))
            around = values - mean[..., None, None]
            variance = around.square().mean((2, 3))
            covariance = (around[: len(a)] * around[len(a) :]).mean((2, 3))
            for weight, both, (x, y) in (
                (alpha, mean[: len(a)] * mean[len(a) :], mean.square().split(len(a))),
                (beta, covariance, variance.split(len(a))),
            ):
                # One less the similarity, channel by channel: the weights sum to one, and equal pictures are at 0, not at what rounding leaves.
                total = total + (weight * (1 - (2 * both + TINY) / (x + y + TINY))).sum(1)
        return total

    def _stage(
        self, values: Float[Tensor, "picture channel height width"], stage: int
    ) -> Float[Tensor, "picture features rows columns"]:
        if stage == 0:
            values = (values - self.shift[:, None, None]) / self.scale[:, None, None]
        else:  # root of the mean square under a Hann window, every second pixel: unlike the largest, it does not alias
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
