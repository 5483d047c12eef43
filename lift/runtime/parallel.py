"""Use of the CPU's cores: by many small pieces of torch work, and by torch's and other threads."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def parallel_map(function: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> list[ResultT]:
    """Apply a function to all items on as many threads as torch uses.

    Within a thread torch does not split its operations. On small tensors splitting costs more than
    it gains, and many times more on a busy machine. Results do not depend on the number of threads.
    The items are read in the calling thread, beside the work on those before.

    Args:
        function: Called once with each item.
        items: Items in any number.

    Returns:
        The results in the order of the items.
    """
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(function, items))
    finally:
        # A worker's setting is also the default of threads that start later.
        torch.set_num_threads(threads)


@contextmanager
def torch_on_one_thread(enabled: bool = True) -> Iterator[None]:
    """Let torch use one thread in the block.

    Use it for work whose large loops run on other threads. After each operation torch's threads
    wait in a busy loop for the next one, on cores that the other threads need.

    Args:
        enabled: False changes nothing.
    """
    if enabled:
        import numba

        # This starts numba's threads, which also sets torch's number of threads. Later it would
        # undo what is set here.
        numba.get_num_threads()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if enabled else threads)
        yield
    finally:
        torch.set_num_threads(threads)
