"""ViewCrafter's video UNet."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lift.priors.diffusion.viewcrafter.attention import HEAD_CHANNELS
from lift.priors.diffusion.viewcrafter.layers import (
    ConditionedSequential,
    Conditioning,
    NearestUpsample,
    SpatialTransformer,
    SpatioTemporalResidual,
    StridedDownsample,
    TemporalTransformer,
)

INITIAL_HEADS = 8
"""Heads of the attention over time that follows the first convolution."""
TOKENS_PER_FRAME = 16
"""Image tokens of each frame in a video of 16 frames.

The resampler's 256 tokens are split between the frames. With another number of frames, every frame
gets all of them.
"""


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of the UNet."""

    inputs: int = 8
    """Channels of the noisy latents and of the render's latents together."""
    outputs: int = 4
    """Channels of the output."""
    channels: int = 320
    """Channels of the first level."""
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    """Channels of each level, in units of `channels`."""
    attention: tuple[bool, ...] = (True, True, True, False)
    """Whether each level has attention."""
    blocks: int = 2
    """Residual blocks of a level."""
    context: int = 1024
    """Channels of the text and image tokens."""

    @classmethod
    def of_state(cls, state: Mapping[str, Tensor]) -> "UNetConfig":
        """Read the sizes from the weights.

        Args:
            state: The UNet's weights by name.

        Returns:
            Sizes of a UNet with these weights.
        """
        first = state["input_blocks.0.0.weight"]
        context = state["middle_block.1.transformer_blocks.0.attn2.to_k.weight"]
        count = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("input_blocks."))
        levels = 1 + sum(f"input_blocks.{i}.0.op.weight" in state for i in range(count))
        # Each level has `blocks` entries and a downsampling entry. The last level has no
        # downsampling, but the first convolution is one more entry.
        blocks = count // levels - 1
        starts = [1 + level * (blocks + 1) for level in range(levels)]
        multipliers = [
            state[f"input_blocks.{i}.0.out_layers.3.weight"].shape[0] // first.shape[0]
            for i in starts
        ]
        attention = [f"input_blocks.{i}.1.proj_in.weight" in state for i in starts]
        return cls(
            inputs=first.shape[1],
            outputs=state["out.2.weight"].shape[0],
            channels=first.shape[0],
            multipliers=tuple(multipliers),
            attention=tuple(attention),
            blocks=blocks,
            context=context.shape[1],
        )


def sinusoidal_embedding(values: Float[Tensor, "item"], width: int) -> Float[Tensor, "item width"]:
    """Embed numbers as cosines, then sines.

    Args:
        values: The numbers.
        width: Channels of the embedding. Half of it is the number of frequencies, which fall
            geometrically from 1 to almost 1 / 10000.

    Returns:
        One embedding a number.
    """
    frequencies = torch.exp(
        -math.log(10000) * torch.arange(width // 2, device=values.device) / (width // 2)
    )
    angles = values[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)


class VideoUNet(nn.Module):
    """The denoiser: it predicts the velocity of noisy latents beside those of a render.

    Args:
        config: Sizes of the network.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        width = config.channels
        embedded = 4 * width
        self.time_embed, self.fps_embedding = (
            nn.Sequential(nn.Linear(width, embedded), nn.SiLU(), nn.Linear(embedded, embedded))
            for _ in range(2)
        )
        self.input_blocks = nn.ModuleList(
            [ConditionedSequential(nn.Conv2d(config.inputs, width, 3, padding=1))]
        )
        self.init_attn = ConditionedSequential(TemporalTransformer(width, INITIAL_HEADS))
        skip_channels = [width]
        channels = width
        last_level = len(config.multipliers) - 1
        for level, multiplier in enumerate(config.multipliers):
            for _ in range(config.blocks):
                self.input_blocks.append(
                    ConditionedSequential(*self._block(channels, multiplier * width, level))
                )
                channels = multiplier * width
                skip_channels.append(channels)
            if level < last_level:
                self.input_blocks.append(ConditionedSequential(StridedDownsample(channels)))
                skip_channels.append(channels)
        self.middle_block = ConditionedSequential(
            SpatioTemporalResidual(channels, channels, embedded),
            *self._transformers(channels),
            SpatioTemporalResidual(channels, channels, embedded),
        )
        self.output_blocks = nn.ModuleList()
        for level in range(last_level, -1, -1):
            for k in range(config.blocks + 1):
                outputs = config.multipliers[level] * width
                block = self._block(channels + skip_channels.pop(), outputs, level)
                upsample = [NearestUpsample(outputs)] if level and k == config.blocks else []
                self.output_blocks.append(ConditionedSequential(*block, *upsample))
                channels = outputs
        self.out = nn.Sequential(
            nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, config.outputs, 3, padding=1)
        )

    def _block(self, inputs: int, outputs: int, level: int) -> list[nn.Module]:
        residual = SpatioTemporalResidual(inputs, outputs, 4 * self.config.channels)
        attention = self._transformers(outputs) if self.config.attention[level] else []
        return [residual, *attention]

    def _transformers(self, channels: int) -> list[nn.Module]:
        heads = channels // HEAD_CHANNELS
        return [
            SpatialTransformer(channels, heads, self.config.context),
            TemporalTransformer(channels, heads),
        ]

    def forward(
        self,
        latents: Float[Tensor, "clip frame inputs y x"],
        times: Float[Tensor, "clip"],
        fps: Float[Tensor, "clip"],
        text: Float[Tensor, "clip token context"],
        image: Float[Tensor, "clip image_token context"],
    ) -> Float[Tensor, "clip frame outputs y x"]:
        """Predict the velocity.

        Args:
            latents: Noisy latents, then those of the render.
            times: Noise level, 0 to 999.
            fps: Frames a second.
            text: Text tokens.
            image: Image tokens.

        Returns:
            The velocity of the noisy latents.
        """
        frames = latents.shape[1]
        width = self.config.channels
        dtype = latents.dtype
        embedding = self.time_embed(sinusoidal_embedding(times, width).to(dtype))
        embedding = embedding + self.fps_embedding(sinusoidal_embedding(fps, width).to(dtype))
        if image.shape[1] == TOKENS_PER_FRAME * frames:
            text = text.repeat_interleave(frames, 0)
            image = image.reshape(-1, TOKENS_PER_FRAME, image.shape[2])
        conditioning = Conditioning(embedding.repeat_interleave(frames, 0), text, image, frames)
        x = self.input_blocks[0](latents.flatten(0, 1), conditioning)
        x = self.init_attn(x, conditioning)
        skips = [x]
        for block in list(self.input_blocks)[1:]:
            x = block(x, conditioning)
            skips.append(x)
        x = self.middle_block(x, conditioning)
        for block in self.output_blocks:
            x = block(torch.cat([x, skips.pop()], 1), conditioning)
        return self.out(x).unflatten(0, (-1, frames))
