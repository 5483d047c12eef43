"""Layers of ViewCrafter's UNet."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate

from lift.priors.diffusion.viewcrafter.attention import HEAD_CHANNELS, multi_head_attention


class Conditioning(NamedTuple):
    """Inputs of every layer beside its features. Text and image are per clip, or per frame."""

    embedding: Float[Tensor, "frames_of_clips embedded"]
    """Embedding of the noise level and of the frames a second."""
    text: Float[Tensor, "item token context"]
    """Text tokens."""
    image: Float[Tensor, "item image_token context"]
    """Image tokens."""
    frames: int
    """Frames of a clip."""


class ConditionedSequential(nn.Sequential):
    """Layers in sequence. All but plain convolutions get the conditioning."""

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Float[Tensor, "frames_of_clips c y x"], conditioning: Conditioning
    ) -> Float[Tensor, "frames_of_clips d v u"]:
        """Run the layers.

        Args:
            x: Features.
            conditioning: Inputs of every layer.

        Returns:
            Features, of another size after down- or upsampling.
        """
        for layer in self:
            x = layer(x) if isinstance(layer, nn.Conv2d) else layer(x, conditioning)
        return x


class StridedDownsample(nn.Module):
    """Halve the resolution with a strided convolution.

    Args:
        channels: Channels of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, conditioning: Conditioning) -> Tensor:
        """Downsample features.

        Args:
            x: Features, [frame channel y x].
            conditioning: Not used.

        Returns:
            Features of half the resolution.
        """
        return self.op(x)


class NearestUpsample(nn.Module):
    """Double the resolution with nearest neighbours and a convolution.

    Args:
        channels: Channels of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, conditioning: Conditioning) -> Tensor:
        """Upsample features.

        Args:
            x: Features, [frame channel y x].
            conditioning: Not used.

        Returns:
            Features of twice the resolution.
        """
        return self.conv(interpolate(x, scale_factor=2.0, mode="nearest"))


class TemporalConvolutions(nn.Module):
    """Four convolutions over three frames each, as a residual.

    Args:
        channels: Channels of the features.
    """

    conv1: nn.Sequential
    conv2: nn.Sequential
    conv3: nn.Sequential
    conv4: nn.Sequential

    def __init__(self, channels: int) -> None:
        super().__init__()
        for k in range(1, 5):
            dropout = [] if k == 1 else [nn.Identity()]  # only used in training
            convolution = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))
            setattr(
                self,
                f"conv{k}",
                nn.Sequential(nn.GroupNorm(32, channels), nn.SiLU(), *dropout, convolution),
            )

    def forward(
        self, x: Float[Tensor, "frames_of_clips c y x"], frames: int
    ) -> Float[Tensor, "frames_of_clips c y x"]:
        """Add the convolved features.

        Args:
            x: Features.
            frames: Frames of a clip.

        Returns:
            Features of the same shape.
        """
        video = x.unflatten(0, (-1, frames)).transpose(1, 2)
        residual = self.conv4(self.conv3(self.conv2(self.conv1(video))))
        return x + residual.transpose(1, 2).flatten(0, 1)


class SpatioTemporalResidual(nn.Module):
    """Two convolutions within a frame with the embedding between them, then those over time.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        embedded: Channels of the embedding.
    """

    def __init__(self, inputs: int, outputs: int, embedded: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedded, outputs))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, outputs),
            nn.SiLU(),
            nn.Identity(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        self.temopral_conv = TemporalConvolutions(outputs)

    def forward(
        self, x: Float[Tensor, "frames_of_clips c y x"], conditioning: Conditioning
    ) -> Float[Tensor, "frames_of_clips d y x"]:
        """Run the block.

        Args:
            x: Features.
            conditioning: Its embedding is used.

        Returns:
            Features of the same resolution.
        """
        inner = self.in_layers(x) + self.emb_layers(conditioning.embedding)[..., None, None]
        return self.temopral_conv(
            self.skip_connection(x) + self.out_layers(inner), conditioning.frames
        )


class TextImageAttention(nn.Module):
    """Self-attention, or attention to text plus attention to the image with its own keys.

    Args:
        width: Channels of the tokens.
        heads: Attention heads.
        context: Channels of the text and image tokens. None: self-attention.
    """

    def __init__(self, width: int, heads: int, context: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * HEAD_CHANNELS
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_k, self.to_v = (nn.Linear(context or width, inner, bias=False) for _ in range(2))
        if context:
            self.to_k_ip, self.to_v_ip = (nn.Linear(context, inner, bias=False) for _ in range(2))
        self.to_out = nn.Sequential(nn.Linear(inner, width))

    def forward(
        self, x: Float[Tensor, "item token c"], conditioning: Conditioning | None = None
    ) -> Float[Tensor, "item token c"]:
        """Run the attention.

        Args:
            x: Tokens.
            conditioning: Text and image tokens. None: self-attention.

        Returns:
            The attended tokens.
        """
        query = self.to_q(x)
        source = x if conditioning is None else conditioning.text
        output = multi_head_attention(query, self.to_k(source), self.to_v(source), self.heads)
        if conditioning is not None:
            output = output + multi_head_attention(
                query,
                self.to_k_ip(conditioning.image),
                self.to_v_ip(conditioning.image),
                self.heads,
            )
        return self.to_out(output)


class GatedProjection(nn.Module):
    """Linear layer with a GELU gate.

    Args:
        width: Input channels.
        inner: Output channels.
    """

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        """Project tokens.

        Args:
            x: Tokens, [... width].

        Returns:
            Tokens, [... inner].
        """
        x, gate = self.proj(x).chunk(2, -1)
        return x * gelu(gate)


class GatedFeedForward(nn.Module):
    """Two linear layers on each token, the first with a gate.

    Args:
        width: Channels of the tokens.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            GatedProjection(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Run the layers.

        Args:
            x: Tokens, [... width].

        Returns:
            Tokens of the same shape.
        """
        return self.net(x)


class UNetTransformerBlock(nn.Module):
    """Self-attention, attention to the conditioning or again to itself, and a feed-forward layer.

    Args:
        width: Channels of the tokens.
        heads: Attention heads.
        context: Channels of the text and image tokens. None: self-attention twice.
    """

    def __init__(self, width: int, heads: int, context: int | None) -> None:
        super().__init__()
        self.attn1 = TextImageAttention(width, heads)
        self.attn2 = TextImageAttention(width, heads, context)
        self.ff = GatedFeedForward(width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(
        self, x: Float[Tensor, "item token c"], conditioning: Conditioning | None = None
    ) -> Float[Tensor, "item token c"]:
        """Run the block.

        Args:
            x: Tokens.
            conditioning: Text and image tokens. None: self-attention twice.

        Returns:
            Tokens of the same shape.
        """
        x = x + self.attn1(self.norm1(x))
        if conditioning is None:
            x = x + self.attn2(self.norm2(x))
        else:  # frames with the same text and image form one sequence of queries
            queries = self.norm2(x).reshape(len(conditioning.text), -1, x.shape[-1])
            x = x + self.attn2(queries, conditioning).reshape(x.shape)
        return x + self.ff(self.norm3(x))


class UNetTransformer(nn.Module):
    """Base class of the UNet's transformers.

    Args:
        channels: Channels of the features.
        heads: Attention heads.
        context: Channels of the text and image tokens. None: self-attention alone.
    """

    def __init__(self, channels: int, heads: int, context: int | None = None) -> None:
        super().__init__()
        inner = heads * HEAD_CHANNELS
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, inner)
        self.proj_out = nn.Linear(inner, channels)
        self.transformer_blocks = nn.ModuleList([UNetTransformerBlock(inner, heads, context)])


class SpatialTransformer(UNetTransformer):
    """Attention within each frame, and to text and image."""

    def forward(
        self, x: Float[Tensor, "frames_of_clips c y x"], conditioning: Conditioning
    ) -> Float[Tensor, "frames_of_clips c y x"]:
        """Run the transformer.

        Args:
            x: Features.
            conditioning: Text and image tokens.

        Returns:
            Features of the same shape.
        """
        tokens = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        for block in self.transformer_blocks:
            tokens = block(tokens, conditioning)
        return x + self.proj_out(tokens).transpose(1, 2).unflatten(2, x.shape[2:])


class TemporalTransformer(UNetTransformer):
    """Attention over the frames of each position. The frames have no position encoding."""

    def forward(
        self, x: Float[Tensor, "frames_of_clips c y x"], conditioning: Conditioning
    ) -> Float[Tensor, "frames_of_clips c y x"]:
        """Run the transformer.

        Args:
            x: Features.
            conditioning: Its number of frames is used.

        Returns:
            Features of the same shape.
        """
        videos = self.norm(x.unflatten(0, (-1, conditioning.frames)).transpose(1, 2))
        tokens = self.proj_in(videos.permute(0, 3, 4, 2, 1).flatten(0, 2))
        for block in self.transformer_blocks:
            tokens = block(tokens)
        positions = self.proj_out(tokens).unflatten(0, (len(videos), *x.shape[2:]))
        return x + positions.permute(0, 3, 4, 1, 2).flatten(0, 1)
