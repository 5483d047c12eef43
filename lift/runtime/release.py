"""Release the memory of a finished run."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def released_memory() -> Iterator[None]:
    """Release the memory of a run after the block, however it ends."""
    try:
        yield
    finally:
        release_memory()


def release_memory() -> None:
    """Release the memory of a finished run."""
    import torch

    from lift.runtime.cuda_graphs import release_graphs

    release_graphs()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
