"""CUDA kernels that map the colours of pictures, for `appearance`.

Plain torch takes dozens of passes over all pixels for it. The sums over all pixels in the
gradient of a colour map have a fixed order.
"""

# Triton has incomplete type stubs.
# pyright: reportGeneralTypeIssues=false

import torch
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from lift.distortions.kernels.common_triton import load_color
from lift.runtime.jit import cdiv, triton_jit

_BLOCK = tl.constexpr(256)


def map_colors(rgb: Tensor, maps: Tensor) -> Tensor:
    """Add an affine map of each colour to the colour.

    Args:
        rgb: [view height width 3], float32 on a CUDA device.
        maps: [view 3 4], out and in; the last of `in` is an offset.

    Returns:
        The mapped pictures, [view height width 3].
    """
    return _MapColors.apply(rgb.contiguous(), maps.contiguous())


class _MapColors(Function):
    @staticmethod
    def forward(ctx, rgb, maps):
        views, height, width, _ = rgb.shape
        out = torch.empty_like(rgb)
        _map_colors[cdiv(height * width, _BLOCK), views](rgb, maps, out, height * width)
        ctx.save_for_backward(rgb, maps)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, outer):
        rgb, maps = ctx.saved_tensors
        views, height, width, _ = rgb.shape
        blocks = cdiv(height * width, _BLOCK)
        by_rgb = torch.empty_like(rgb)
        sums = rgb.new_empty(views, blocks, 12)
        _map_colors_gradient[blocks, views](
            rgb, maps, outer.contiguous(), by_rgb, sums, height * width
        )
        return by_rgb, sums.sum(1).view(maps.shape)


@triton_jit
def _map_colors(rgb, maps, out, size):
    pixel = tl.program_id(0) * _BLOCK + tl.arange(0, _BLOCK)
    mask = pixel < size
    offset = 3 * (tl.program_id(1) * size + pixel)
    matrix = maps + 12 * tl.program_id(1)
    red, green, blue = load_color(rgb + offset, mask)
    for o in tl.static_range(3):
        channel = red if o == 0 else (green if o == 1 else blue)
        row = matrix + 4 * o
        change = (
            tl.load(row) * red
            + tl.load(row + 1) * green
            + tl.load(row + 2) * blue
            + tl.load(row + 3)
        )
        tl.store(out + offset + o, channel + change, mask=mask)


@triton_jit
def _map_colors_gradient(rgb, maps, outer, to_rgb, sums, size):
    pixel = tl.program_id(0) * _BLOCK + tl.arange(0, _BLOCK)
    mask = pixel < size
    offset = 3 * (tl.program_id(1) * size + pixel)
    matrix = maps + 12 * tl.program_id(1)
    red, green, blue = load_color(rgb + offset, mask)
    by_red = 0.0 * red
    by_green = 0.0 * red
    by_blue = 0.0 * red
    to = sums + 12 * (tl.program_id(1) * tl.num_programs(0) + tl.program_id(0))
    for o in tl.static_range(3):
        by_channel = tl.load(outer + offset + o, mask=mask, other=0.0)
        row = matrix + 4 * o
        by_red += tl.load(row) * by_channel
        by_green += tl.load(row + 1) * by_channel
        by_blue += tl.load(row + 2) * by_channel
        tl.store(to + 4 * o, tl.sum(by_channel * red))
        tl.store(to + 4 * o + 1, tl.sum(by_channel * green))
        tl.store(to + 4 * o + 2, tl.sum(by_channel * blue))
        tl.store(to + 4 * o + 3, tl.sum(by_channel))
    red_pointer = to_rgb + offset
    tl.store(red_pointer, tl.load(outer + offset, mask=mask, other=0.0) + by_red, mask=mask)
    green_pointer = to_rgb + offset + 1
    tl.store(green_pointer, tl.load(outer + offset + 1, mask=mask, other=0.0) + by_green, mask=mask)
    blue_pointer = to_rgb + offset + 2
    tl.store(blue_pointer, tl.load(outer + offset + 2, mask=mask, other=0.0) + by_blue, mask=mask)
