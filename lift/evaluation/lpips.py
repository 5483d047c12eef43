"""LPIPS, learned perceptual similarity (Zhang et al., CVPR 2018), version 0.1 on AlexNet: lower is more alike.

The trunk and the distance are written here, because the package `lpips` needs torchvision, which from PyPI breaks a torch for CPUs. The
weights are the published ones: AlexNet's as torchvision offers them, the heads' as the package has them.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, max_pool2d, relu

FILES = ("alexnet_features.pth", "heads_v0.1/alex.pth")
URLS = (
    "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/alex.pth",
)

LAYERS = {
    "features.0": (4, 2),
    "features.3": (1, 2),
    "features.6": (1, 1),
    "features.8": (1, 1),
    "features.10": (1, 1),
}
"""Of AlexNet's convolutions: stride and padding."""
POOLED = ("features.3", "features.6")
"""Before these, the largest of three by three is taken."""


class LPIPS(nn.Module):
    """The distance of two pictures of one size, each [height width 3] in [0, 1] and at least 31 pixels wide and high."""

    def __init__(self, trunk: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> None:
        """Weights by torchvision's and the lpips package's names. Raises KeyError for a missing one."""
        super().__init__()
        for name in LAYERS:
            for kind in ("weight", "bias"):
                self.register_buffer(
                    f"{name}.{kind}".replace(".", "_"), trunk[f"{name}.{kind}"].float()
                )
        for index in range(len(LAYERS)):
            self.register_buffer(f"head_{index}", heads[f"lin{index}.model.1.weight"].float())
        # From [-1, 1] as the package takes them, to what AlexNet was trained on.
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]))

    @classmethod
    def load(cls, folder: Path | None = None) -> "LPIPS":
        """With weights from a folder that has `FILES`, or downloaded to torch.hub's cache. Raises FileNotFoundError that says what is missing."""
        if folder is None:
            return cls(
                *(
                    torch.hub.load_state_dict_from_url(url, map_location="cpu", progress=True)
                    for url in URLS
                )
            )
        for name in FILES:
            if not (folder / name).exists():
                raise FileNotFoundError(
                    f"there is no {name} in {folder}, which is to hold LPIPS's weights: {', '.join(FILES)}"
                )
        return cls(
            *(torch.load(folder / name, map_location="cpu", weights_only=True) for name in FILES)
        )

    @torch.no_grad()
    def forward(
        self,
        a: Float[Tensor, "height width 3"],
        b: Float[Tensor, "height width 3"],
        mask: Bool[Tensor, "height width"] | None = None,
    ) -> float:
        """Over the pixels of a mask, if given, as `distances` says. Raises ValueError for pictures that are too small."""
        if min(a.shape[:2]) < 31:
            raise ValueError(
                f"LPIPS of pictures of {list(a.shape)}; choose pictures at least 31 pixels wide and high"
            )
        first, second = (
            picture.to(self.shift).clamp(0, 1).permute(2, 0, 1)[None] for picture in (a, b)
        )
        return float(
            self.distances(
                first, second, None if mask is None else mask.to(self.shift.device)[None]
            )
        )

    def distances(
        self,
        a: Float[Tensor, "picture 3 height width"],
        b: Float[Tensor, "picture 3 height width"],
        mask: Bool[Tensor, "picture height width"] | None = None,
    ) -> Float[Tensor, "picture"]:
        """Of several pairs at once, with gradients.

        mask: pixels to take the mean over; NaN where there are none. Each layer's map of distances is then stretched over the picture, bilinearly, as
        the package `lpips` does with `spatial=True`. What lies around the mask still counts a little: features look some 100 pixels away. With a mask
        of everything it is not quite the plain distance, which weighs all places of a layer alike: 0.1 % off at 31 pixels, 0.001 % at 256.
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
            # The first summand is there for the gradient where nothing is.
            units = values / ((values.square().sum(1, keepdim=True) + 1e-20).sqrt() + 1e-10)
            difference = (units[: len(a)] - units[len(a) :]).square()
            distance = conv2d(difference, getattr(self, f"head_{index}"))
            if mask is None:
                total = total + distance.mean((1, 2, 3))
            else:
                spread = interpolate(
                    distance, mask.shape[1:], mode="bilinear", align_corners=False
                )[:, 0]
                total = total + (spread * mask).sum((1, 2)) / mask.sum((1, 2))
        return total
