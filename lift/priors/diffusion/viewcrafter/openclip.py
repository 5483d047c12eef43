"""The image and text transformers of OpenCLIP, as far as ViewCrafter uses them."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import gelu

from lift.priors.diffusion.viewcrafter.attention import (
    HEAD_CHANNELS,
    IMAGE_HEAD_CHANNELS,
    multi_head_attention,
)

PROMPTS = ("", "Rotating view of a scene")
"""The negative prompt, and the only prompt that ViewCrafter was trained with."""
PROMPT_TOKENS = ((), (32265, 1093, 539, 320, 3562))
"""The prompts in CLIP's vocabulary."""
START_TOKEN = 49406
END_TOKEN = 49407
PROMPT_LENGTH = 77
"""Tokens of a prompt with start, end and padding."""


class PackedAttention(nn.Module):
    """Self-attention with the projections of queries, keys and values in one matrix.

    Args:
        width: Channels of the tokens.
        heads: Attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "item token c"], causal: bool
    ) -> Float[Tensor, "item token c"]:
        """Run the attention.

        Args:
            x: Tokens.
            causal: Whether a token attends only to tokens up to its own position.

        Returns:
            Tokens of the same shape.
        """
        projected = nn.functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = projected.chunk(3, -1)
        return self.out_proj(multi_head_attention(query, key, value, self.heads, causal))


class ClipLayer(nn.Module):
    """Attention and a feed-forward layer.

    Args:
        width: Channels of the tokens.
        heads: Attention heads.
        inner: Channels within the feed-forward layer.
    """

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.ln_2 = nn.LayerNorm(width)
        self.attn = PackedAttention(width, heads)
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, inner), "c_proj": nn.Linear(inner, width)}
        )

    def forward(
        self, x: Float[Tensor, "item token c"], causal: bool
    ) -> Float[Tensor, "item token c"]:
        """Run the layer.

        Args:
            x: Tokens.
            causal: Whether a token attends only to tokens up to its own position.

        Returns:
            Tokens of the same shape.
        """
        x = x + self.attn(self.ln_1(x), causal)
        return x + self.mlp["c_proj"](gelu(self.mlp["c_fc"](self.ln_2(x))))


class ClipTransformer(nn.Module):
    """Transformer layers with OpenCLIP's names.

    Args:
        state: Its weights, of which only the shapes are used.
        head_channels: Channels of an attention head.
    """

    def __init__(self, state: Mapping[str, Tensor], head_channels: int) -> None:
        super().__init__()
        inner, width = state["transformer.resblocks.0.mlp.c_fc.weight"].shape
        depth = 1 + max(
            int(key.split(".")[2]) for key in state if key.startswith("transformer.resblocks.")
        )
        layers = [ClipLayer(width, width // head_channels, inner) for _ in range(depth)]
        self.positional_embedding = nn.Parameter(torch.empty(state["positional_embedding"].shape))
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(layers)})

    def run_layers(
        self, x: Float[Tensor, "item token c"], causal: bool
    ) -> Float[Tensor, "item token c"]:
        """Run all layers.

        Args:
            x: Tokens.
            causal: Whether a token attends only to tokens up to its own position.

        Returns:
            Tokens of the same shape.
        """
        layers = self.transformer["resblocks"]
        assert isinstance(layers, nn.ModuleList)
        for layer in layers:
            x = layer(x, causal)
        return x


class ClipImageEncoder(ClipTransformer):
    """Image transformer. Its output is that of the last layer, not normalised, not projected.

    Args:
        state: Its weights, of which only the shapes are used.
    """

    unused = ("ln_post.", "proj")
    """Prefixes of published weights that are not used."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__(state, IMAGE_HEAD_CHANNELS)
        width, _, patch, _ = state["conv1.weight"].shape
        self.size = patch * math.isqrt(len(state["positional_embedding"]) - 1)
        """Width and height of the image in pixels."""
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.ln_pre = nn.LayerNorm(width)

    def forward(self, images: Float[Tensor, "item 3 y x"]) -> Float[Tensor, "item token c"]:
        """Encode images.

        Args:
            images: Images of `size` pixels, normalised with CLIP's mean and standard deviation.

        Returns:
            The class token, then one token a patch.
        """
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_embedding.expand(len(images), 1, -1), patches], 1)
        return self.run_layers(self.ln_pre(tokens + self.positional_embedding), causal=False)


class ClipTextEncoder(ClipTransformer):
    """Text transformer. Its output is that of the second-to-last layer, normalised.

    Args:
        state: Its weights without the last layer, of which only the shapes are used.
    """

    unused = ("text_projection", "logit_scale", "attn_mask")
    """Prefixes of published weights that are not used, beside the last layer."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__(state, HEAD_CHANNELS)
        tokens, width = state["token_embedding.weight"].shape
        self.token_embedding = nn.Embedding(tokens, width)
        self.ln_final = nn.LayerNorm(self.token_embedding.embedding_dim)

    def forward(self, tokens: Int[Tensor, "item token"]) -> Float[Tensor, "item token c"]:
        """Encode texts.

        Args:
            tokens: Tokens in CLIP's vocabulary.

        Returns:
            One embedding a token.
        """
        embeddings = self.token_embedding(tokens) + self.positional_embedding
        return self.ln_final(self.run_layers(embeddings, causal=True))


def prompt_tokens() -> Int[Tensor, "prompt token"]:
    """Return both prompts as the text transformer takes them.

    Returns:
        Start, prompt, end and zeros, `PROMPT_LENGTH` tokens a prompt.
    """
    sequences = [[START_TOKEN, *tokens, END_TOKEN] for tokens in PROMPT_TOKENS]
    return torch.tensor([tokens + [0] * (PROMPT_LENGTH - len(tokens)) for tokens in sequences])
