"""Connected components of masks, on tensors of any device."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.functional import max_pool2d

from lift.runtime.cuda_graphs import cuda_graph

MAX_PIXELS = 1 << 24
"""Largest number that a float32, which is pooled, counts to."""

_ROUNDS_PER_CHECK = 4
"""Rounds between two looks at whether labels still change. A look waits for the device."""


def label_components(mask: Bool[Tensor, "height width"]) -> Int[Tensor, "height width"]:
    """Label the connected components of a mask; neighbours may touch at a corner.

    Args:
        mask: The mask.

    Returns:
        One more than the index of a component's last pixel, and 0 outside.

    Raises:
        ValueError: The mask has more than `MAX_PIXELS` pixels.
    """
    if mask.numel() > MAX_PIXELS:
        raise ValueError(
            f"the picture has {mask.numel()} pixels, and more than {MAX_PIXELS} cannot be warped "
            "on a GPU; choose a smaller preprocess.size, or device=cpu"
        )
    index = torch.arange(1, mask.numel() + 1, device=mask.device, dtype=torch.float32)
    label = index.view(mask.shape) * mask
    while True:
        label, changes = _spread(label, mask)
        if not changes:
            return label.long()


@cuda_graph
def _spread(label: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Spread labels for some rounds. Return them, and whether any is new."""
    before = label
    for _ in range(_ROUNDS_PER_CHECK):
        grown = max_pool2d(label[None, None], 3, 1, 1)[0, 0] * mask
        # A pixel's label is a pixel of its component, whose label may be larger already.
        label = grown.flatten()[(grown - 1).clamp(min=0).long()] * mask
    return label, (label != before).any()
