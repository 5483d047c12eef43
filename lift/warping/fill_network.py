"""A small network that fills what comes into view behind things, by what lies behind them. What it learned from: fill.md beside this file."""

from functools import cache
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad, relu, scaled_dot_product_attention

WEIGHTS = Path(__file__).with_name("fill.safetensors")
CHECKSUM = "5f7fab9dd7ed6bbe280db46fe93d78ff1ee01b9a42fb570a9e8b857a6b819bde"
"""SHA-256 of the weights."""
WIDTHS = (32, 64, 96, 128, 160)
"""Channels at each halving of the resolution."""
HEADS = 4
NEARER = 1.1
"""Inverse depth, in units of the hole's beside it, from which on a pixel stands before the hole and says nothing of what is in it."""
SHARED = 2 ** (len(WIDTHS) - 1)
"""Sides of what the network sees are multiples of it; `fill` takes care of that."""

Pictures = Float[Tensor, "picture 3 height width"]
Depths = Float[Tensor, "picture height width"]
Holes = Bool[Tensor, "picture height width"]


class Network(nn.Module):
    """What is known, a smooth filling of it and depth go in; colours for the holes come out. A U-net with wide depthwise kernels and attention
    between its coarsest cells, 1.4 million parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(6, WIDTHS[0], 5, padding=2)
        pairs = list(zip(WIDTHS, WIDTHS[1:], strict=False))
        self.down = nn.ModuleList(
            nn.Sequential(_Wide(a), nn.Conv2d(a, b, 4, 2, 1)) for a, b in pairs
        )
        self.middle = nn.ModuleList(
            layer for _ in range(2) for layer in (_Wide(WIDTHS[-1]), _Attention(WIDTHS[-1]))
        )
        self.up = nn.ModuleList(_Up(b, a) for a, b in reversed(pairs))
        self.leave = nn.Conv2d(WIDTHS[0], 3, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, smooth: Pictures, hole: Holes, weight: Holes, inverse: Depths) -> Pictures:
        """smooth: colours in [0, 1], holes smoothly filled; weight: pixels that are known and do not stand before a hole. Known pixels come out as
        they went in.
        """
        where = torch.stack([hole.float(), weight.float(), _leveled(inverse, hole)], 1)
        x, kept = self.enter(torch.cat([2 * smooth - 1, where], 1)), []
        for layer in self.down:
            kept.append(x)
            x = layer(x)
        for layer in self.middle:
            x = layer(x)
        for layer in self.up:
            x = layer(x, kept.pop())
        return torch.where(hole[:, None], (smooth + self.leave(x)).clamp(0, 1), smooth)


@cache
def shipped() -> Network:
    """With the weights that come with the package, on the CPU, ready to be asked."""
    network = Network()
    network.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return network.eval()


def fill(network: Network, rgb: Pictures, inverse: Depths, hole: Holes) -> Pictures:
    """Rgb in [0, 1]; inverse depth [picture height width], in holes that of what lies behind. Known pixels are not touched."""
    height, width = hole.shape[1:]
    more = (0, -width % SHARED, 0, -height % SHARED)
    if any(more):
        rgb, inverse = (pad(a, more, "replicate") for a in (rgb, inverse))
        hole = pad(hole.float()[:, None], more, "replicate")[:, 0] > 0
    smooth, weight = prepared(rgb, inverse, hole)
    return network(smooth, hole, weight, inverse)[:, :, :height, :width]


def prepared(rgb: Pictures, inverse: Depths, hole: Holes) -> tuple[Pictures, Holes]:
    """Holes smoothly filled from what does not stand before them, and which pixels those are."""
    beside = spread(inverse[:, None], hole)[:, 0]
    weight = ~hole & (inverse < NEARER * beside)
    weight = weight | (
        ~hole & ~weight.flatten(1).any(1)[:, None, None]
    )  # a gap within the foreground
    return torch.where(hole[:, None], spread(rgb, weight), rgb), weight


def spread(
    values: Float[Tensor, "picture channel height width"], known: Holes
) -> Float[Tensor, "picture channel height width"]:
    """Smooth interpolation of known pixels to all others, coarse to fine (Gortler et al., "The lumigraph", SIGGRAPH 1996)."""
    weight = known[:, None].float()
    levels = [(values * weight, weight)]
    while max(levels[-1][1].shape[2:]) > 1:
        value, weight = levels[-1]
        odd = (0, weight.shape[3] % 2, 0, weight.shape[2] % 2)
        value, weight = (4 * avg_pool2d(pad(a, odd), 2) for a in (value, weight))
        total = weight.clamp(max=1)
        levels.append((value * (total / weight.clamp(min=1e-9)), total))
    value, weight = levels.pop()
    coarse = value / weight.clamp(min=1e-9)
    while levels:
        value, weight = levels.pop()
        coarse = interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)[
            :, :, : value.shape[2], : value.shape[3]
        ]
        coarse = value + (1 - weight) * coarse
    return coarse


class _Wide(nn.Module):
    """Depthwise seven by seven, then each pixel by itself (as in ConvNeXt, Liu et al., CVPR 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.around, self.norm = (
            nn.Conv2d(width, width, 7, padding=3, groups=width),
            nn.GroupNorm(1, width),
        )
        self.wide, self.back = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.back(relu(self.wide(self.norm(self.around(x)))))


class _Attention(nn.Module):
    """What is to come into a hole may lie anywhere in the picture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.given, self.taken = (
            nn.GroupNorm(1, width),
            nn.Conv2d(width, 3 * width, 1),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            self.given(self.norm(x))
            .flatten(2)
            .mT.unflatten(-1, (3, HEADS, -1))
            .permute(2, 0, 3, 1, 4)
        )
        heard = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return x + self.taken(heard.mT.unflatten(2, x.shape[2:]))


class _Up(nn.Module):
    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.enter, self.mix = nn.Conv2d(inside, outside, 1), _Wide(outside)

    def forward(self, x: Tensor, beside: Tensor) -> Tensor:
        return self.mix(
            interpolate(self.enter(x), scale_factor=2, mode="bilinear", align_corners=False)
            + beside
        )


def _leveled(inverse: Depths, hole: Holes) -> Depths:
    """Logarithm of inverse depth less that of the holes, in the mean; within bounds."""
    log = inverse.clamp(min=1e-6).log()
    count = hole.flatten(1).sum(1).clamp(min=1)
    return (log - ((log * hole).flatten(1).sum(1) / count)[:, None, None]).clamp(-2, 2)
