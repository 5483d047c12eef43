"""Write finished stages to disk beside the computation of the next ones."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from filelock import FileLock

MAX_PENDING = 2
"""Number of functions that may wait or run. A further one waits, so that little can be lost."""


class DeferredWriter:
    """Calls functions one after the other in a thread, each under a lock that is held already.

    A lock is released by the thread that acquired it, when its function has returned.
    """

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._pending: list[tuple[Future[None], FileLock]] = []

    def submit(self, write: Callable[[], None], lock: FileLock) -> None:
        """Let the thread call a function. Wait while too many are pending.

        Args:
            write: The function.
            lock: A lock that this thread holds. It is released in a later call.

        Raises:
            Exception: What an earlier function raised.
        """
        if self._executor is None:
            # A new thread of torch has one thread while `parallel_map` runs.
            self._executor = ThreadPoolExecutor(
                1,
                thread_name_prefix="lift-writer",
                initializer=torch.set_num_threads,
                initargs=(torch.get_num_threads(),),
            )
        self._pending.append((self._executor.submit(write), lock))
        while len(self._pending) > MAX_PENDING:
            self._finish_first()

    def release_finished(self) -> None:
        """Release the locks of functions that have returned.

        Raises:
            Exception: What a function raised.
        """
        while self._pending and self._pending[0][0].done():
            self._finish_first()

    def flush(self) -> None:
        """Wait until all functions have returned, and release their locks, also after Ctrl-C.

        Raises:
            Exception: What the first of the functions that failed raised.
        """
        first_error: BaseException | None = None
        while self._pending:
            try:
                self._finish_first()
            except BaseException as error:
                first_error = first_error or error
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None
        if first_error is not None:
            raise first_error

    def _finish_first(self) -> None:
        """Wait for the first function, release its lock, and raise its error."""
        future, lock = self._pending[0]
        try:
            future.result()
        except KeyboardInterrupt:
            future.exception()  # what is being written is finished first
            raise
        finally:
            self._pending.pop(0)
            lock.release()
