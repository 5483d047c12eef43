"""CUDA kernel that chooses the best patch of each pixel.

It does what `patches` does in torch, which keeps all differences of all candidates in memory.
"""

# Triton has incomplete type stubs.
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false
# pyright: reportAssignmentType=false, reportArgumentType=false

import torch
import triton.language as tl
from torch import Tensor

from lift.runtime.jit import cdiv, triton_jit
from lift.warping.gpu.patches import NEARER_FACTOR
from lift.warping.patches import PATCH_RADIUS

_TARGETS = tl.constexpr(128)
"""Pixels in a program."""
_RADIUS = tl.constexpr(PATCH_RADIUS)
_NEARER = tl.constexpr(NEARER_FACTOR)


def best_candidates(
    color: Tensor,
    sources: Tensor,
    key: Tensor,
    source: Tensor,
    targets: Tensor,
    weight: Tensor,
    candidates: Tensor,
    stride: int,
) -> Tensor:
    """Return the best candidate of each pixel. The first candidates win draws.

    Args:
        color: Colours of the pixels, float32 [pixel 3].
        sources: Colours of the candidates, float32 [pixel 3].
        key: See `patches._Level`, float32 [pixel 3].
        source: Centres of patches that may be copied, bool [pixel].
        targets: Flat indices of the pixels, int64 [target].
        weight: See `cost_weight` of `patches._Level`, float32 [target patch 1].
        candidates: Flat indices, int32 or int64 [target candidate].
        stride: Flat offset of the next row.
    """
    best = torch.empty(len(targets), dtype=candidates.dtype, device=targets.device)
    if count := len(targets):
        arrays = (color, sources, key, source.view(torch.uint8), targets, weight, candidates, best)
        _choose[cdiv(count, _TARGETS),](*arrays, count, candidates.shape[1], stride)
    return best


@triton_jit
def _choose(
    colors, sources, keys, source, targets, weights, candidates, best, count, length, stride
):
    item = tl.program_id(0) * _TARGETS + tl.arange(0, _TARGETS)
    inside = item < count
    target = tl.load(targets + item, mask=inside, other=0)
    lowest = tl.full((_TARGETS,), float("inf"), tl.float32)
    chosen = tl.load(candidates + item * length, mask=inside, other=0)
    side = 2 * _RADIUS + 1
    for number in range(length):
        option = tl.load(candidates + item * length + number, mask=inside, other=0)
        usable = inside & (tl.load(source + option, mask=inside, other=0) != 0)
        # The cost: differences of depth, row and column, then of the patches.
        cost = tl.zeros((_TARGETS,), tl.float32)
        for axis in range(3):
            other = tl.load(keys + 3 * option + axis, mask=usable, other=0.0)
            step = other - tl.load(keys + 3 * target + axis, mask=usable, other=0.0)
            factor = tl.where((axis == 0) & (step > 0), _NEARER, 1.0)
            cost += factor * step * step
        for place in range(side * side):
            offset = (place // side - _RADIUS) * stride + place % side - _RADIUS
            weight = tl.load(weights + item * (side * side) + place, mask=usable, other=0.0)
            squared = tl.zeros((_TARGETS,), tl.float32)
            for channel in range(3):
                own = tl.load(colors + 3 * (target + offset) + channel, mask=usable, other=0.0)
                copy = tl.load(sources + 3 * (option + offset) + channel, mask=usable, other=0.0)
                squared += (copy - own) * (copy - own)
            cost += weight * weight * squared
        better = usable & (cost < lowest)
        lowest = tl.where(better, cost, lowest)
        chosen = tl.where(better, option, chosen)
    tl.store(best + item, chosen, mask=inside)
