"""Work that threads do while the main thread goes on, and queues between the two.

Encoders, compression and NumPy let other threads run meanwhile. A block of `background` ends when
all of its work has ended, also after an error and after Ctrl-C.
"""

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch

from lift.runtime.profiling import measured_beside

ResultT = TypeVar("ResultT")
ItemT = TypeVar("ItemT")

MAX_THREADS = 4
"""Largest number of tasks that run at the same time, apart from those on threads of their own."""


class BackgroundTask(Generic[ResultT]):
    """Work on another thread.

    Args:
        future: Its future result.
    """

    def __init__(self, future: "Future[ResultT]") -> None:
        self._future = future
        self._is_asked = False

    def result(self) -> ResultT:
        """Wait for the end of the task, and return its result or raise its error."""
        self._is_asked = True
        return self._future.result()

    def raise_error(self) -> None:
        """Raise the error of the task if it has failed, and nobody has asked for its result."""
        if not self._is_asked and self._future.done():
            self.result()


def finished_task(result: ResultT) -> BackgroundTask[ResultT]:
    """Return a task that has ended.

    Args:
        result: Its result.
    """
    future: Future[ResultT] = Future()
    future.set_result(result)
    return BackgroundTask(future)


class Background:
    """Tasks of one block. See `background`."""

    def __init__(self, threads: int) -> None:
        self._torch_threads = torch.get_num_threads()
        self._pools = [self._make_pool(threads)]
        self._tasks: list[BackgroundTask] = []

    def start(
        self, name: str, function: Callable[[], ResultT], own_thread: bool = False
    ) -> BackgroundTask[ResultT]:
        """Start a task. Tasks begin in the order of the calls, as threads become free.

        Args:
            name: What it does, for profiles.
            function: The task. It may wait for tasks that were started before.
            own_thread: Whether the task waits for the main thread, so that it must begin at once.

        Returns:
            The task.
        """
        pool = self._pools[0]
        if own_thread:
            pool = self._make_pool(1)
            self._pools.append(pool)
        context = contextvars.copy_context()
        task = BackgroundTask(pool.submit(context.run, measured_beside(name, function)))
        self._tasks.append(task)
        return task

    def _make_pool(self, threads: int) -> ThreadPoolExecutor:
        """Make threads on which torch uses as many threads as on this one."""
        return ThreadPoolExecutor(
            threads, initializer=torch.set_num_threads, initargs=(self._torch_threads,)
        )

    def close(self, cancel: bool) -> None:
        """Wait for the tasks.

        Args:
            cancel: Whether to leave out tasks that have not begun.
        """
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=cancel)
        for pool in self._pools:
            pool.shutdown(wait=True)

    def raise_error(self) -> None:
        """Raise the error of the first task that has failed and was not asked for its result."""
        for task in self._tasks:
            task.raise_error()


@contextmanager
def background(threads: int | None = None) -> Iterator[Background]:
    """Run tasks on other threads within the block. At its end all of them have ended.

    An error in the block leaves out tasks that have not begun, and waits for the others.

    Args:
        threads: Number of tasks at the same time. None: half of torch's threads, at most 4.

    Yields:
        What starts tasks.

    Raises:
        Exception: The error of a task whose result the block did not ask for.
    """
    count = max(1, min(MAX_THREADS, torch.get_num_threads() // 2)) if threads is None else threads
    tasks = Background(count)
    try:
        yield tasks
    except BaseException:
        tasks.close(cancel=True)
        raise
    tasks.close(cancel=False)
    tasks.raise_error()


class HandoverError(Exception):
    """The thread that hands over items has failed. Its own error says why."""


class Handover(Generic[ItemT]):
    """A queue from one thread to another, of limited length.

    Used as a context by the thread that puts items in: the block's end is the end of the items,
    and an error in the block becomes a `HandoverError` of the other thread.

    Args:
        length: Largest number of items that wait.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._items: deque[ItemT] = deque()
        self._changed = threading.Condition()
        self._is_complete = False
        self._has_failed = False
        self._is_abandoned = False

    def put(self, item: ItemT) -> bool:
        """Hand over an item, when there is room.

        Args:
            item: The item.

        Returns:
            False if nobody takes items any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_abandoned or len(self._items) < self._length)
            if not self._is_abandoned:
                self._items.append(item)
                self._changed.notify_all()
            return not self._is_abandoned

    def abandon(self) -> None:
        """Take no more items."""
        with self._changed:
            self._is_abandoned = True
            self._items.clear()
            self._changed.notify_all()

    def __enter__(self) -> "Handover[ItemT]":
        """Begin to hand over items."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Tell the other thread that this was all."""
        with self._changed:
            self._is_complete = True
            self._has_failed = kind is not None
            self._changed.notify_all()

    def __iter__(self) -> Iterator[ItemT]:
        """Yield the items in their order.

        Raises:
            HandoverError: The other thread has failed.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._is_complete)
                if self._has_failed:
                    raise HandoverError
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
