"""Prompts of Wan's models."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

PROMPT_LENGTH = 512
"""Tokens of a prompt in training."""


@torch.no_grad()
def encode_prompts(
    pipe: Any, prompts: Sequence[str], device: torch.device
) -> Float[Tensor, "prompt token channel"]:
    """Encode prompts as Wan was trained with them.

    Args:
        pipe: A pipeline of Wan with tokenizer and text encoder.
        prompts: The prompts.
        device: Device to compute on.

    Returns:
        The embeddings, zeros after the end of each prompt.
    """
    tokens = pipe.tokenizer(
        list(prompts),
        padding="max_length",
        max_length=PROMPT_LENGTH,
        truncation=True,
        return_attention_mask=True,
        return_tensors="pt",
    ).to(device)
    states = pipe.text_encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
    return states * tokens.attention_mask[..., None]
