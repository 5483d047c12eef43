"""Attention processors for the UNet of Stable Video Diffusion."""

from typing import Any

from torch import Tensor

from lift.priors.diffusion.attention import chunked_attention


class SingleTokenAttention:
    """Attention to a single token, the CLIP embedding of the picture.

    With one token all attention weights are 1. So the output is the token's value at every
    position, and it is computed once a clip.
    """

    clips = 1
    """Clips in the batch. Set it before the network runs."""

    def __call__(
        self,
        attention: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        *_: Any,
        **__: Any,
    ) -> Tensor:
        """Replace diffusers' attention.

        Args:
            attention: The layer, with its projections.
            hidden_states: Queries, [item query channel].
            encoder_hidden_states: The token of each item, [item 1 channel].

        Returns:
            The output, of the shape of the queries.
        """
        # All frames, or positions, of a clip share one token.
        items_per_clip = len(encoder_hidden_states) // self.clips
        value = attention.to_out[0](attention.to_v(encoder_hidden_states[::items_per_clip]))
        return value.repeat_interleave(items_per_clip, 0).expand_as(hidden_states)


class ChunkedSelfAttention:
    """Self-attention of diffusers for batches of any size."""

    def __call__(self, attention: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        """Replace diffusers' attention.

        Args:
            attention: The layer, with its projections.
            hidden_states: The sequence of each item, [item token channel].

        Returns:
            The output, of the same shape.
        """
        query, key, value = (
            projection(hidden_states).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
            for projection in (attention.to_q, attention.to_k, attention.to_v)
        )
        output = chunked_attention(query, key, value)
        return attention.to_out[0](output.transpose(1, 2).flatten(2))
