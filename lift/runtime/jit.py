"""Loops compiled by numba for the CPU, kernels by Triton for CUDA."""

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

PARALLEL = {"prange": True} | dict.fromkeys(
    ("comprehension", "reduction", "inplace_binop", "setitem", "numpy", "stencil", "fusion"), False
)
"""Only the loops that say so: numba would also start threads to fill an array, and take twice as long to compile."""

one_at_a_time = threading.Lock()
"""To be held around parallel loops: numba's simplest threading layer ends the process when two threads start work at the same time."""


def kernel(function: Callable) -> Any:
    """triton.jit of the bare function: an import hook that checks types wraps every one."""
    import triton

    return triton.jit(inspect.unwrap(function))


def cdiv(count: int, size: Any) -> int:
    """How many times `size`, a constexpr of Triton's, it takes for `count`. Triton's own takes as long as a launch, where no kernel calls it."""
    return -(-count // size.value)


def fused(*tensors: Tensor) -> bool:
    """Whether Triton's kernels can take these: float32 on CUDA, and Triton there (it comes with torch for CUDA on Linux)."""
    return all(t.is_cuda and t.dtype == torch.float32 for t in tensors) and _has_triton()


def on_cpu(*tensors: Tensor) -> bool:
    """Whether numba's loops can take these: float32 on the CPU."""
    return all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def compiled(stamp: str | None = None, **options: Any) -> Callable[[Callable], Callable]:
    """numba.njit with a cache on disk, where one can be written.

    stamp: hash (`stamp`) of all source that goes into the loop, where that is more than its own file: numba itself looks at that file alone, and
    would load from its cache what was compiled from an older version of a function that the loop calls.
    """

    def decorate(function: Callable) -> Callable:
        bare = inspect.unwrap(
            function
        )  # an import hook that checks types wraps every function; numba compiles the bare one
        try:
            loop = numba.njit(bare, cache=True, nogil=True, **options)
            if stamp:
                loop._cache._cache_file._source_stamp = stamp
            return loop
        except (
            RuntimeError
        ) as error:  # neither the installed package nor the user's cache folder can be written
            _warn_uncached(str(error))
            return numba.njit(bare, nogil=True, **options)

    return decorate


def cached(loop: Any) -> bool:
    """Whether numba's cache on disk has the loop for this processor, compiled from the source as it is; also if there is no cache."""
    file = getattr(loop._cache, "_cache_file", None)
    machine = loop.targetctx.codegen().magic_tuple()
    return file is None or any(machine in key for key in file._load_index())


def stamp(*files: str | Path) -> str:
    """Hash of source files."""
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()


def array(value: Tensor) -> np.ndarray:
    """A tensor on the CPU as loops take it: dense, without history."""
    return value.detach().contiguous().numpy()


@cache
def _warn_uncached(reason: str) -> None:
    logging.getLogger(__name__).warning(
        "loops are compiled anew in each process; set NUMBA_CACHE_DIR to a folder: %s", reason
    )
