"""Loops that numba compiles for the CPU, and kernels that Triton compiles for CUDA."""

import hashlib
import importlib.util
import inspect
import logging
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from lift.runtime.loop_cache import has_own_version, has_stored_version, prepare_cache

PARALLEL = {"prange": True} | dict.fromkeys(
    ("comprehension", "reduction", "inplace_binop", "setitem", "numpy", "stencil", "fusion"), False
)
"""Setting `parallel` of numba: only `prange` loops run in parallel.

Otherwise numba also starts threads to fill an array, and takes twice as long to compile.
"""

parallel_lock = threading.Lock()
"""Hold this lock around parallel loops.

numba's simplest threading layer ends the process when two threads start work at the same time.
"""


_SIZES = {
    *("count", "views", "blocks", "frames", "width", "height", "length", "size", "per_view"),
    *("rows", "columns"),
    *("stride", "sh_stride", "mean_stride", "pixel_stride", "rgb_step", "depth_step"),
}
"""Names of numbers of elements among the parameters of Triton kernels."""


def triton_jit(function: Callable) -> Any:
    """Compile a function with `triton.jit`, without the wrapper of a type-checking import hook.

    A kernel is compiled once for all sizes. By itself Triton would compile it again when a number
    of elements becomes a multiple of 16, which takes about a second a kernel.

    Args:
        function: Python function with the source of a Triton kernel.
    """
    import triton

    kernel = inspect.unwrap(function)
    sizes = [name for name in inspect.signature(kernel).parameters if name in _SIZES]
    compile_kernel: Any = triton.jit
    return compile_kernel(kernel, do_not_specialize=sizes)


def cdiv(count: int, size: Any) -> int:
    """Divide and round up.

    Triton's own function takes as long as a launch when it is called outside a kernel.

    Args:
        count: Number of elements.
        size: Number of elements in a block, a `constexpr` of Triton's.
    """
    return -(-count // size.value)


def can_use_triton(*tensors: Tensor) -> bool:
    """Return whether Triton is installed and all tensors are float32 on CUDA.

    Triton comes with torch for CUDA on Linux.
    """
    return all(t.is_cuda and t.dtype == torch.float32 for t in tensors) and _has_triton()


def can_use_numba(*tensors: Tensor) -> bool:
    """Return whether all tensors are float32 on the CPU."""
    return all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def njit_cached(source_stamp: str | None = None, **options: Any) -> Callable[[Callable], Any]:
    """Return a decorator: `numba.njit` with a cache on disk.

    numba writes to its cache if it can. Compiled versions in the folder NUMBA_CACHE_DIR or beside
    the source are used, too, if these folders can only be read.

    Args:
        source_stamp: Hash (`source_hash`) of all source that goes into the loop, if that is more
            than its own file. numba itself compares that file alone. It would load a loop that was
            compiled with an older version of a function that the loop calls.
        **options: Arguments of `numba.njit`.
    """

    def decorate(function: Callable) -> Any:
        # An import hook that checks types wraps every function. numba compiles the bare one.
        bare = inspect.unwrap(function)
        reason = None
        try:
            loop: Any = numba.njit(bare, cache=True, nogil=True, **options)
        except RuntimeError as error:
            # Neither the installed package nor the user's cache folder can be written.
            reason = str(error)
            loop = numba.njit(bare, nogil=True, **options)
        prepare_cache(loop, source_stamp)
        if reason and not has_stored_version(loop):
            _warn_uncached(reason)
        return loop

    return decorate


def is_cached(loop: Any) -> bool:
    """Return whether a cache on disk has the loop for this processor and this source.

    Args:
        loop: A function that `njit_cached` decorated.

    Returns:
        True also if there is no cache that could be written.
    """
    return has_stored_version(loop) or has_own_version(loop)


def source_hash(*files: str | Path) -> str:
    """Return the SHA-256 hash of source files."""
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()


def to_numpy(value: Tensor) -> np.ndarray:
    """Return a contiguous array of a tensor on the CPU, without its gradient history.

    Args:
        value: Tensor on the CPU, of any shape.
    """
    return value.detach().contiguous().numpy()


@cache
def _warn_uncached(reason: str) -> None:
    logging.getLogger(__name__).warning(
        "loops are compiled anew in each process; set NUMBA_CACHE_DIR to a folder: %s", reason
    )
