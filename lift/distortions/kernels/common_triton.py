"""Device functions that several kernels of the distortions share."""

import triton.language as tl

from lift.runtime.jit import triton_jit


@triton_jit
def load_color(pointer, mask):
    """Load red, green and blue, which lie side by side; 0 where masked out.

    Args:
        pointer: Pointers to the red value of each pixel.
        mask: True where the pixel exists.
    """
    return (
        tl.load(pointer, mask=mask, other=0.0),
        tl.load(pointer + 1, mask=mask, other=0.0),
        tl.load(pointer + 2, mask=mask, other=0.0),
    )
