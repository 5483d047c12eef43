"""Multi-head attention on sequences of tokens."""

from jaxtyping import Float
from torch import Tensor

from lift.priors.diffusion.attention import chunked_attention

HEAD_CHANNELS = 64
"""Channels of an attention head in the UNet, the resampler and the text transformer."""
IMAGE_HEAD_CHANNELS = 80
"""Channels of an attention head in the image transformer, OpenCLIP's ViT-H/14."""


def multi_head_attention(
    query: Float[Tensor, "item q c"],
    key: Float[Tensor, "item k c"],
    value: Float[Tensor, "item k c"],
    heads: int,
    causal: bool = False,
) -> Float[Tensor, "item q c"]:
    """Compute multi-head attention without projections.

    Args:
        query: Queries.
        key: Keys.
        value: Values.
        heads: Heads that the channels are split into.
        causal: Whether a query attends only to keys up to its own position.

    Returns:
        The attended values.
    """
    query, key, value = (
        part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value)
    )
    return chunked_attention(query, key, value, causal).transpose(1, 2).flatten(2)
