"""A small network that fills holes with their background. fill.md describes its training."""

from functools import cache
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad, relu, scaled_dot_product_attention

WEIGHTS = Path(__file__).with_name("fill.safetensors")
"""The shipped weights."""
CHECKSUM = "5f7fab9dd7ed6bbe280db46fe93d78ff1ee01b9a42fb570a9e8b857a6b819bde"
"""SHA-256 of the weights."""
WIDTHS = (32, 64, 96, 128, 160)
"""Channels at each halving of the resolution."""
HEADS = 4
FOREGROUND_RATIO = 1.1
"""A pixel is foreground if its inverse depth exceeds the nearby hole's by this factor."""
SIZE_MULTIPLE = 2 ** (len(WIDTHS) - 1)
"""Sides of the network's input are multiples of it. `fill_holes` pads to them."""

Pictures = Float[Tensor, "picture 3 height width"]
"""A batch of colours in [0, 1]."""
Depths = Float[Tensor, "picture height width"]
"""A batch of inverse depths."""
Holes = Bool[Tensor, "picture height width"]
"""A batch of masks."""


class FillNetwork(nn.Module):
    """Predicts colours of holes from smoothly filled pictures and depth.

    A U-net with wide depthwise kernels and attention between its coarsest cells. It has 1.4 million
    parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(6, WIDTHS[0], 5, padding=2)
        pairs = list(zip(WIDTHS, WIDTHS[1:], strict=False))
        self.down = nn.ModuleList(
            nn.Sequential(_Wide(a), nn.Conv2d(a, b, 4, 2, 1)) for a, b in pairs
        )
        self.middle = nn.ModuleList(
            layer for _ in range(2) for layer in (_Wide(WIDTHS[-1]), _PixelAttention(WIDTHS[-1]))
        )
        self.up = nn.ModuleList(_Up(b, a) for a, b in reversed(pairs))
        self.leave = nn.Conv2d(WIDTHS[0], 3, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(self, smooth: Pictures, hole: Holes, weight: Holes, inverse: Depths) -> Pictures:
        """Fill holes. Known pixels stay unchanged.

        Args:
            smooth: Colours in [0, 1] with holes smoothly filled.
            hole: Pixels to fill.
            weight: Known pixels that are not foreground of a hole.
            inverse: Inverse depth with holes filled.

        Returns:
            Colours in [0, 1].
        """
        masks = torch.stack([hole.float(), weight.float(), _normalize_log(inverse, hole)], 1)
        x = self.enter(torch.cat([2 * smooth - 1, masks], 1))
        skips = []
        for layer in self.down:
            skips.append(x)
            x = layer(x)
        for layer in self.middle:
            x = layer(x)
        for layer in self.up:
            x = layer(x, skips.pop())
        return torch.where(hole[:, None], (smooth + self.leave(x)).clamp(0, 1), smooth)


@cache
def load_shipped(device: torch.device | None = None) -> FillNetwork:
    """Load the network with the shipped weights, in evaluation mode.

    Args:
        device: Device of the network. None: the CPU.
    """
    network = FillNetwork()
    network.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return network.eval().to(device)


def fill_holes(network: FillNetwork, rgb: Pictures, inverse: Depths, hole: Holes) -> Pictures:
    """Fill holes in pictures of any size. Known pixels stay unchanged.

    Args:
        network: The network.
        rgb: Colours in [0, 1].
        inverse: Inverse depth. In holes that of the background.
        hole: Pixels to fill.

    Returns:
        Colours in [0, 1].
    """
    height, width = hole.shape[1:]
    margin = (0, -width % SIZE_MULTIPLE, 0, -height % SIZE_MULTIPLE)
    if any(margin):
        rgb, inverse = (pad(a, margin, "replicate") for a in (rgb, inverse))
        hole = pad(hole.float()[:, None], margin, "replicate")[:, 0] > 0
    smooth, weight = prepare_input(rgb, inverse, hole)
    return network(smooth, hole, weight, inverse)[:, :, :height, :width]


def prepare_input(rgb: Pictures, inverse: Depths, hole: Holes) -> tuple[Pictures, Holes]:
    """Fill holes smoothly from the background.

    Args:
        rgb: Colours in [0, 1].
        inverse: Inverse depth. In holes that of the background.
        hole: Pixels to fill.

    Returns:
        Colours with holes smoothly filled, and the mask of background pixels.
    """
    background = diffuse_pyramid(inverse[:, None], hole)[:, 0]
    weight = ~hole & (inverse < FOREGROUND_RATIO * background)
    # Without any background pixel the gap is within the foreground.
    weight = weight | (~hole & ~weight.flatten(1).any(1)[:, None, None])
    return torch.where(hole[:, None], diffuse_pyramid(rgb, weight), rgb), weight


def diffuse_pyramid(
    values: Float[Tensor, "picture channel height width"], valid: Holes, blend_levels: int = 0
) -> Float[Tensor, "picture channel height width"]:
    """Interpolate valid pixels smoothly to all pixels, from coarse to fine.

    Args:
        values: Values to interpolate.
        valid: Mask of valid pixels.
        blend_levels: Number of the finest levels at which valid pixels do not count, so that they
            are replaced by the mean of their surroundings too.

    Returns:
        Values everywhere.

    Reference:
        Gortler et al., "The lumigraph", SIGGRAPH 1996.
    """
    weight = valid[:, None].float()
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
        coarse = interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        coarse = coarse[:, :, : value.shape[2], : value.shape[3]]
        if len(levels) >= blend_levels:
            coarse = value + (1 - weight) * coarse
        else:  # where every cell has a value, none is taken from coarser levels
            coarse = torch.where((weight >= 1).all(), value, coarse)
    return coarse


class _PictureNorm(nn.GroupNorm):
    """Normalisation over all channels and pixels of a picture.

    On CUDA, GroupNorm sums up each group in one block of threads, which leaves the GPU idle.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise, and apply a factor and an offset for each channel."""
        if input.device.type == "cpu":
            return super().forward(input)
        variance, mean = torch.var_mean(input, (1, 2, 3), correction=0, keepdim=True)
        factor = self.weight[:, None, None] * (variance + self.eps).rsqrt()
        return (input - mean) * factor + self.bias[:, None, None]


class _Wide(nn.Module):
    """A residual block of 7x7 depthwise and pointwise convolutions, as in ConvNeXt.

    Reference:
        Liu et al., "A ConvNet for the 2020s", CVPR 2022.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.around = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = _PictureNorm(1, width)
        self.wide = nn.Conv2d(width, 2 * width, 1)
        self.back = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        return x + self.back(relu(self.wide(self.norm(self.around(x)))))


class _PixelAttention(nn.Module):
    """Self-attention over all cells: a hole's content may be anywhere in the picture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _PictureNorm(1, width)
        self.given = nn.Conv2d(width, 3 * width, 1)
        self.taken = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the attention."""
        query, key, value = (
            self.given(self.norm(x))
            .flatten(2)
            .mT.unflatten(-1, (3, HEADS, -1))
            .permute(2, 0, 3, 1, 4)
        )
        values = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return x + self.taken(values.mT.unflatten(2, x.shape[2:]))


class _Up(nn.Module):
    """Upsamples by two and adds the encoder's features of that resolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(in_channels, out_channels, 1)
        self.mix = _Wide(out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Upsample `x` and add `skip`."""
        return self.mix(
            interpolate(self.enter(x), scale_factor=2, mode="bilinear", align_corners=False) + skip
        )


def _normalize_log(inverse: Depths, hole: Holes) -> Depths:
    """Compute the logarithm of inverse depth relative to its mean in the holes, clamped."""
    log = inverse.clamp(min=1e-6).log()
    count = hole.flatten(1).sum(1).clamp(min=1)
    return (log - ((log * hole).flatten(1).sum(1) / count)[:, None, None]).clamp(-2, 2)
