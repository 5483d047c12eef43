"""Scaled dot-product attention for batches of any size."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

MAX_ATTENTION_BATCH = 65_535
"""Largest batch of one attention call: CUDA grids have no room for more."""


def chunked_attention(query: Tensor, key: Tensor, value: Tensor, causal: bool = False) -> Tensor:
    """Compute scaled dot-product attention in chunks of the batch.

    A few clips have more spatial positions than one CUDA grid allows.

    Args:
        query: Queries, [batch head query channel].
        key: Keys, [batch head key channel].
        value: Values, [batch head key channel].
        causal: Whether a query attends only to keys up to its own position.

    Returns:
        The attended values, [batch head query channel].
    """
    chunks = zip(*(part.split(MAX_ATTENTION_BATCH) for part in (query, key, value)), strict=True)
    outputs = [scaled_dot_product_attention(*chunk, is_causal=causal) for chunk in chunks]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)
