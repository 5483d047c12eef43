"""Sharing a CPU's cores: among many small pieces of torch work, and between torch's threads and others'."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def each(function: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> list[ResultT]:
    """The results in order, one item a thread, on as many threads as torch uses.

    Within a thread torch does not split its operations: on small tensors that costs more than it gains, many times more when the
    machine is busy. The results do not depend on the number of threads.
    """
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(function, items))
    finally:
        torch.set_num_threads(threads)  # a worker's setting is also the default of threads to come


@contextmanager
def torch_on_one_thread(wanted: bool = True) -> Iterator[None]:
    """For work whose large loops are others': after each of its own torch's threads wait in a busy loop for the next, on cores that the
    others' threads need.
    """
    if wanted:
        import numba

        numba.get_num_threads()  # starts its threads, which sets how many torch uses, too: later it would undo what is set here
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if wanted else threads)
        yield
    finally:
        torch.set_num_threads(threads)
