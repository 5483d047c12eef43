"""Layers of Stable Virtual Camera's UNet. Attribute names are those of the published weights."""

from typing import NamedTuple

from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

HEAD_CHANNELS = 64
"""Channels of an attention head."""


class ViewConditioning(NamedTuple):
    """What every layer of the UNet may use besides its features."""

    time: Float[Tensor, "view e"]
    """Embedding of the noise level."""
    image: Float[Tensor, "view 1 c"]
    """Embedding of the reference views, the same for all views of a scene."""
    rays: Float[Tensor, "view 6 y x"]
    """Plücker rays at the resolution of the latents."""
    num_views: int
    """Views of a scene."""


class MultiviewSequential(nn.Sequential):
    """Layers in a row, some of which use the conditioning."""

    def forward(self, features: Tensor, conditioning: ViewConditioning) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Run all layers.

        Args:
            features: Features of all views, [view channel y x].
            conditioning: What layers may use besides.

        Returns:
            New features.
        """
        for layer in self:
            plain = isinstance(layer, nn.Conv2d | Downsample | Upsample)
            features = layer(features) if plain else layer(features, conditioning)
        return features


class Downsample(nn.Module):
    """A convolution that halves the resolution.

    Args:
        channels: Channels of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, 2, 1)

    def forward(self, features: Float[Tensor, "view c y x"]) -> Float[Tensor, "view c h w"]:
        """Halve the resolution.

        Args:
            features: Features of all views.

        Returns:
            Features of half the height and width.
        """
        return self.op(features)


class Upsample(nn.Module):
    """Nearest neighbours at twice the resolution, then a convolution.

    Args:
        channels: Channels of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, features: Float[Tensor, "view c y x"]) -> Float[Tensor, "view c h w"]:
        """Double the resolution.

        Args:
            features: Features of all views.

        Returns:
            Features of twice the height and width.
        """
        return self.conv(interpolate(features, scale_factor=2.0, mode="nearest"))


class RayModulatedBlock(nn.Module):
    """Two convolutions, modulated by the rays and shifted by the noise level.

    Args:
        inputs: Channels of the features.
        outputs: Channels of the new features.
        embedded: Channels of the embedding of the noise level.
        rays: Channels of the rays.
    """

    def __init__(self, inputs: int, outputs: int, embedded: int, rays: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, 1, 1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedded, outputs))
        self.dense_emb_layers = nn.Sequential(nn.Conv2d(rays, 2 * inputs, 1))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, outputs),
            nn.SiLU(),
            nn.Identity(),  # dropout in training
            nn.Conv2d(outputs, outputs, 3, 1, 1),
        )
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(
        self, features: Float[Tensor, "view c y x"], conditioning: ViewConditioning
    ) -> Float[Tensor, "view d y x"]:
        """Run the block.

        Args:
            features: Features of all views.
            conditioning: Noise level and rays.

        Returns:
            New features.
        """
        size = features.shape[2:]
        rays = interpolate(conditioning.rays, size, mode="bilinear", align_corners=True)
        scale, shift = self.dense_emb_layers(rays).chunk(2, 1)
        normed = self.in_layers[1](self.in_layers[0](features))
        hidden = self.in_layers[2](normed * (1 + scale) + shift)
        hidden = hidden + self.emb_layers(conditioning.time)[:, :, None, None]
        return self.skip_connection(features) + self.out_layers(hidden)


class ViewBlock(nn.Module):
    """Self-attention, attention to the reference views' embedding and a feed-forward layer.

    Args:
        width: Channels of the tokens.
        context: Channels of the embedding.
    """

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        heads = width // HEAD_CHANNELS
        self.attn1 = Attention(width, heads=heads, dim_head=HEAD_CHANNELS)
        self.ff = FeedForward(width, activation_fn="geglu")
        self.attn2 = Attention(width, context, heads=heads, dim_head=HEAD_CHANNELS)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def attend(
        self, tokens: Float[Tensor, "item token c"], context: Float[Tensor, "item 1 d"]
    ) -> Float[Tensor, "item token c"]:
        """Run both attentions.

        Args:
            tokens: Tokens.
            context: Embedding of the reference views.

        Returns:
            Tokens of the same shape.
        """
        tokens = self.attn1(self.norm1(tokens)) + tokens
        return self.attn2(self.norm2(tokens), encoder_hidden_states=context) + tokens

    def forward(
        self, tokens: Float[Tensor, "item token c"], context: Float[Tensor, "item 1 d"]
    ) -> Float[Tensor, "item token c"]:
        """Run the block.

        Args:
            tokens: Tokens of one view, or of all views of a scene.
            context: Embedding of the reference views.

        Returns:
            Tokens of the same shape.
        """
        tokens = self.attend(tokens, context)
        return self.ff(self.norm3(tokens)) + tokens


class ViewMixingBlock(ViewBlock):
    """The same across views, for each position alone. Its output is added by the caller.

    Args:
        width: Channels of the tokens.
        context: Channels of the embedding.
    """

    def __init__(self, width: int, context: int) -> None:
        super().__init__(width, context)
        self.norm_in = nn.LayerNorm(width)
        self.ff_in = FeedForward(width, activation_fn="geglu")

    def forward(
        self, tokens: Float[Tensor, "item token c"], context: Float[Tensor, "item 1 d"]
    ) -> Float[Tensor, "item token c"]:
        """Run the block.

        Args:
            tokens: Tokens of all views at one position.
            context: Embedding of the reference views.

        Returns:
            Tokens of the same shape.
        """
        tokens = self.ff_in(self.norm_in(tokens)) + tokens
        return self.ff(self.norm3(self.attend(tokens, context)))


class MultiviewTransformer(nn.Module):
    """Attention within a view, or over all pixels of all views, and across views.

    Args:
        channels: Channels of the features.
        context: Channels of the embedding of the reference views.
        joint: Whether the first block attends to all pixels of all views.
        depth: Number of blocks of each kind.
    """

    def __init__(self, channels: int, context: int, joint: bool, depth: int = 1) -> None:
        super().__init__()
        self.joint = joint
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList(ViewBlock(channels, context) for _ in range(depth))
        self.proj_out = nn.Linear(channels, channels)
        self.time_mix_blocks = nn.ModuleList(
            ViewMixingBlock(channels, context) for _ in range(depth)
        )

    def forward(
        self, features: Float[Tensor, "view c y x"], conditioning: ViewConditioning
    ) -> Float[Tensor, "view c y x"]:
        """Run the transformer.

        Args:
            features: Features of the views of one scene or several.
            conditioning: Embedding of the reference views, and the views of a scene.

        Returns:
            Features of the same shape.
        """
        views = conditioning.num_views
        positions = features.shape[2] * features.shape[3]
        scenes = conditioning.image[::views]
        tokens = self.proj_in(self.norm(features).flatten(2).mT)
        for block, mixing in zip(self.transformer_blocks, self.time_mix_blocks, strict=True):
            if self.joint:
                joined = tokens.unflatten(0, (-1, views)).flatten(1, 2)
                tokens = block(joined, scenes).unflatten(1, (views, -1)).flatten(0, 1)
            else:
                tokens = block(tokens, conditioning.image)
            across = tokens.unflatten(0, (-1, views)).transpose(1, 2).flatten(0, 1)
            mixed = mixing(across, scenes.repeat_interleave(positions, 0))
            tokens = tokens + mixed.unflatten(0, (-1, positions)).transpose(1, 2).flatten(0, 1)
        return self.proj_out(tokens).mT.unflatten(2, features.shape[2:]) + features
