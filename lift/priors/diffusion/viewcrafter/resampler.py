"""The resampler between the image transformer and ViewCrafter's UNet."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lift.priors.diffusion.viewcrafter.attention import HEAD_CHANNELS, multi_head_attention


class PerceiverAttention(nn.Module):
    """Attention of queries to the tokens and to one another.

    Args:
        width: Channels of tokens and queries.
        heads: Attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * HEAD_CHANNELS
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(
        self, tokens: Float[Tensor, "item token c"], queries: Float[Tensor, "item query c"]
    ) -> Float[Tensor, "item query c"]:
        """Run the attention.

        Args:
            tokens: Image tokens.
            queries: Queries.

        Returns:
            The attended values of the queries.
        """
        queries = self.norm2(queries)
        key, value = self.to_kv(torch.cat([self.norm1(tokens), queries], 1)).chunk(2, -1)
        return self.to_out(multi_head_attention(self.to_q(queries), key, value, self.heads))


class TokenResampler(nn.Module):
    """Turn the tokens of the image transformer into a fixed number of tokens for the UNet.

    Args:
        state: Its weights, of which only the shapes are used.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        _, count, width = state["latents"].shape
        outputs = state["proj_out.weight"].shape[0]
        heads = state["layers.0.0.to_q.weight"].shape[0] // HEAD_CHANNELS
        inner = state["layers.0.1.1.weight"].shape[0]
        depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("layers."))
        self.latents = nn.Parameter(torch.empty(1, count, width))
        self.proj_in = nn.Linear(state["proj_in.weight"].shape[1], width)
        self.proj_out = nn.Linear(width, outputs)
        self.norm_out = nn.LayerNorm(outputs)

        def feed_forward() -> nn.Module:
            return nn.Sequential(
                nn.LayerNorm(width),
                nn.Linear(width, inner, bias=False),
                nn.GELU(),
                nn.Linear(inner, width, bias=False),
            )

        self.layers = nn.ModuleList(
            [
                nn.ModuleList([PerceiverAttention(width, heads), feed_forward()])
                for _ in range(depth)
            ]
        )

    def forward(self, tokens: Float[Tensor, "item token c"]) -> Float[Tensor, "item query d"]:
        """Resample tokens.

        Args:
            tokens: Tokens of the image transformer.

        Returns:
            Tokens for the UNet.
        """
        queries = self.latents.expand(len(tokens), -1, -1)
        tokens = self.proj_in(tokens)
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            attention, feed_forward = layer
            queries = queries + attention(tokens, queries)
            queries = queries + feed_forward(queries)
        return self.norm_out(self.proj_out(queries))
