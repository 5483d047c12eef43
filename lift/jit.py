"""Loops compiled by numba."""

import inspect
import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import numba


def compiled(**options: Any) -> Callable[[Callable], Callable]:
    """numba.njit with a cache on disk, where one can be written."""

    def decorate(function: Callable) -> Callable:
        bare = inspect.unwrap(function)  # an import hook that checks types wraps every function; numba compiles the bare one
        try:
            return numba.njit(bare, cache=True, nogil=True, **options)
        except RuntimeError as error:  # neither the installed package nor the user's cache folder can be written
            _warn_uncached(str(error))
            return numba.njit(bare, nogil=True, **options)

    return decorate


@cache
def _warn_uncached(reason: str) -> None:
    logging.getLogger(__name__).warning("loops are compiled anew in each process; set NUMBA_CACHE_DIR to a folder: %s", reason)
