"""The import of large packages in less time."""

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_import() -> Iterator[None]:
    """Import packages in the block without a search for garbage, in a fifth less time.

    Imports make a million objects that stay. If this is the command line without torch yet, what
    the process has after the block is never searched again (`gc.freeze`). Loops that numba loads
    and settings that are composed later need less time, too.
    """
    is_young = "torch" not in sys.modules and "lift.cli" in sys.modules
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_young:
            gc.freeze()
            atexit.register(gc.unfreeze)  # Triton reports what is left at the end as leaked
        if was_enabled:
            gc.enable()
