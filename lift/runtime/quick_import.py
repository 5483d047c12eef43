"""The start of a command and the import of large packages in less time."""

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def pause_collector() -> Iterator[None]:
    """Search for no garbage within the block, such as the composition of settings.

    The block makes many objects that stay, so searches find little and take a tenth of its time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _unfreeze() -> None:
    """Let the interpreter free frozen objects at its end, which takes a third of a second.

    Only Triton needs it. It reports what is left at the end as leaked.
    """
    if "triton" in sys.modules:
        gc.unfreeze()


@contextmanager
def quick_import() -> Iterator[None]:
    """Import packages in the block without a search for garbage, in a fifth less time.

    Imports make a million objects that stay. If this is the command line without torch yet, what
    the process has after the block is never searched again (`gc.freeze`). Loops that numba loads
    and settings that are composed later need less time, too.
    """
    is_young = "torch" not in sys.modules and "lift.cli" in sys.modules
    with pause_collector():
        try:
            yield
        finally:
            if is_young:
                gc.freeze()
                atexit.register(_unfreeze)
