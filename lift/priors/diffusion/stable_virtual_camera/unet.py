"""Stable Virtual Camera's UNet."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn

from lift.priors.diffusion.stable_virtual_camera.layers import (
    Downsample,
    MultiviewSequential,
    MultiviewTransformer,
    RayModulatedBlock,
    Upsample,
    ViewConditioning,
)

JOINT_STRIDES = (2, 4)
"""Levels of the decoder, by their stride in latents, that attend to all pixels of all views."""
JOINT_MIDDLE_STRIDE = 8
"""The same for the middle of the UNet."""


class MultiviewUNet(ModelMixin, ConfigMixin):
    """The denoiser: it predicts the noise of the latents of all views of a scene.

    Args:
        inputs: Channels of the latents with the mask of reference views and the rays.
        outputs: Channels of the output.
        channels: Channels of the first level.
        multipliers: Channels of each level, in units of `channels`.
        attention: Whether each level has attention.
        blocks: Residual blocks of a level.
        context: Channels of the embedding of the reference views.
        rays: Channels of the rays.
    """

    @register_to_config
    def __init__(
        self,
        inputs: int = 11,
        outputs: int = 4,
        channels: int = 320,
        multipliers: tuple[int, ...] = (1, 2, 4, 4),
        attention: tuple[bool, ...] = (True, True, True, False),
        blocks: int = 2,
        context: int = 1024,
        rays: int = 6,
    ) -> None:
        super().__init__()
        embedded = 4 * channels
        self.channels = channels
        self.time_embed = nn.Sequential(
            nn.Linear(channels, embedded), nn.SiLU(), nn.Linear(embedded, embedded)
        )

        def layers(inner: int, level: int, joint: bool) -> list[nn.Module]:
            width = channels * multipliers[level]
            transformer = [MultiviewTransformer(width, context, joint)] if attention[level] else []
            return [RayModulatedBlock(inner, width, embedded, rays), *transformer]

        self.input_blocks = nn.ModuleList(
            [MultiviewSequential(nn.Conv2d(inputs, channels, 3, padding=1))]
        )
        skips = [channels]
        last = len(multipliers) - 1
        for level, multiplier in enumerate(multipliers):
            for _ in range(blocks):
                self.input_blocks.append(MultiviewSequential(*layers(skips[-1], level, False)))
                skips.append(channels * multiplier)
            if level < last:
                self.input_blocks.append(MultiviewSequential(Downsample(skips[-1])))
                skips.append(skips[-1])
        width = skips[-1]
        self.middle_block = MultiviewSequential(
            RayModulatedBlock(width, width, embedded, rays),
            MultiviewTransformer(width, context, 2**last == JOINT_MIDDLE_STRIDE),
            RayModulatedBlock(width, width, embedded, rays),
        )
        self.output_blocks = nn.ModuleList()
        for level in range(last, -1, -1):
            for k in range(blocks + 1):
                parts = layers(width + skips.pop(), level, 2**level in JOINT_STRIDES)
                width = channels * multipliers[level]
                if level and k == blocks:
                    parts.append(Upsample(width))
                self.output_blocks.append(MultiviewSequential(*parts))
        self.out = nn.Sequential(
            nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, outputs, 3, padding=1)
        )

    def forward(
        self,
        latents: Float[Tensor, "view c y x"],
        times: Float[Tensor, "view"],
        image: Float[Tensor, "view 1 d"],
        rays: Float[Tensor, "view 6 y x"],
        num_views: int,
    ) -> Float[Tensor, "view 4 y x"]:
        """Predict the noise.

        Args:
            latents: Noisy latents, the mask of reference views and the rays.
            times: Noise level, 0 to 999.
            image: Embedding of the reference views.
            rays: Plücker rays at the resolution of the latents.
            num_views: Views of a scene.

        Returns:
            The noise of the latents.
        """
        embedding = get_timestep_embedding(
            times, self.channels, flip_sin_to_cos=True, downscale_freq_shift=0
        )
        time = self.time_embed(embedding.to(latents.dtype))
        conditioning = ViewConditioning(time, image, rays, num_views)
        features = latents
        skips = []
        for block in self.input_blocks:
            features = block(features, conditioning)
            skips.append(features)
        features = self.middle_block(features, conditioning)
        for block in self.output_blocks:
            features = block(torch.cat([features, skips.pop()], 1), conditioning)
        return self.out(features)


def unet_sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read the sizes of the UNet from its weights.

    Args:
        state: Weights by their published names.

    Returns:
        Keyword arguments of `MultiviewUNet`.

    Raises:
        KeyError: If the weights are those of something else.
    """
    first = state["input_blocks.0.0.weight"]
    entries = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("input_blocks."))
    levels = 1 + sum(f"input_blocks.{k}.0.op.weight" in state for k in range(entries))
    # A level has `blocks` entries and one that halves the resolution. The last level has no such
    # entry, but the first convolution is one more.
    blocks = entries // levels - 1
    starts = [1 + level * (blocks + 1) for level in range(levels)]
    widths = [len(state[f"input_blocks.{k}.0.in_layers.2.weight"]) for k in starts]
    context = state["middle_block.1.transformer_blocks.0.attn2.to_k.weight"]
    return {
        "inputs": first.shape[1],
        "outputs": len(state["out.2.weight"]),
        "channels": len(first),
        "multipliers": tuple(width // len(first) for width in widths),
        "attention": tuple(f"input_blocks.{k}.1.proj_in.weight" in state for k in starts),
        "blocks": blocks,
        "context": context.shape[1],
        "rays": state["middle_block.0.dense_emb_layers.0.weight"].shape[1],
    }
