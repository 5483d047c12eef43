"""Write finished stages to disk beside the computation of the next ones."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import torch
from filelock import FileLock

MAX_PENDING = 2
"""Number of functions that may wait or run. A further one waits, so that little can be lost."""


class DeferredWriter:
    """Calls functions one after the other in a thread, each under a lock that is held already.

    The thread releases a lock when its function has returned, so that other processes need not wait
    longer.
    """

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._pending: list[Future[None]] = []

    def submit(self, write: Callable[[], None], lock: FileLock) -> None:
        """Let the thread call a function. Wait while too many are pending.

        Args:
            write: The function.
            lock: A lock that is held, and that another thread may release (`open_lock`).

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

        def write_and_release() -> None:
            try:
                write()
            finally:
                lock.release()

        self._pending.append(self._executor.submit(write_and_release))
        while len(self._pending) > MAX_PENDING:
            self._finish_first()

    def raise_errors(self) -> None:
        """Raise what functions that have returned raised.

        Raises:
            Exception: What the first of them raised.
        """
        while self._pending and self._pending[0].done():
            self._finish_first()

    def wait(self) -> None:
        """Wait until all functions have returned. Their errors are raised later."""
        wait(self._pending)

    def flush(self) -> None:
        """Wait until all functions have returned, also after Ctrl-C.

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
        """Wait for the first function, and raise its error."""
        future = self._pending[0]
        try:
            future.result()
        except KeyboardInterrupt:
            future.exception()  # what is being written is finished first
            raise
        finally:
            self._pending.pop(0)
