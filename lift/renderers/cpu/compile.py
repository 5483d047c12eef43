"""How all kernels of the CPU renderer are compiled."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lift.runtime import jit

f32 = np.float32
"""The type of all constants in kernels."""

FASTMATH = {"nsz", "arcp", "contract", "reassoc", "afn"}
"""Fast math without `nnan` and `ninf`: comparisons with NaN stay false.

This is how a degenerate Gaussian gets culled.
"""


@cache
def source_hash() -> str:
    """Return the hash of all sources that kernels are compiled from.

    It covers every file of this package, because numba itself checks only the file of a kernel
    and not those of the functions that the kernel calls.
    """
    folder = Path(__file__).parent
    return jit.source_hash(*sorted(folder.glob("*.py")), folder.parent / "__init__.py")


def compile_kernel(**options: Any) -> Callable[[Callable], Any]:
    """Return a decorator that compiles a loop with the options that all kernels share.

    Args:
        **options: Further options of `numba.njit`.

    Returns:
        The decorator.
    """
    return jit.njit_cached(source_hash(), error_model="numpy", fastmath=FASTMATH, **options)
