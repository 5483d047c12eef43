"""Release the memory of a finished run."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_failed = False
"""Whether the last run of this process ended with an error."""


@contextmanager
def released_memory() -> Iterator[None]:
    """Release the memory of a run after the block, however it ends."""
    try:
        yield
    finally:
        release_memory()


@contextmanager
def freeze_older_objects() -> Iterator[None]:
    """Let searches for garbage within the block leave out what the process has before it.

    Imported packages are a million objects. To search them takes half a second. What a block that
    failed has left is searched before the next one, because it may hold a GPU's memory.
    """
    global _failed
    is_first = gc.get_freeze_count() == 0
    if is_first:
        if _failed:
            gc.collect()
        gc.freeze()
    _failed = True
    try:
        yield
        _failed = False
    finally:
        if is_first:
            gc.unfreeze()


def release_memory() -> None:
    """Release the memory of a finished run."""
    import torch

    from lift.runtime.cuda_graphs import release_graphs

    release_graphs()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
