"""Write finished stages to disk beside the computation of the next ones."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from filelock import FileLock


class DeferredWriter:
    """Calls functions one after the other in a thread, each under a lock that is held already.

    A lock is released by the thread that acquired it, when its function has returned.
    """

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._pending: list[tuple[Future[None], FileLock]] = []

    def submit(self, write: Callable[[], None], lock: FileLock) -> None:
        """Let the thread call a function.

        Args:
            write: The function.
            lock: A lock that this thread holds until `release_finished` or `flush` releases it.
        """
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="lift-writer")
        self._pending.append((self._executor.submit(write), lock))

    def release_finished(self) -> None:
        """Release the locks of functions that have returned.

        Raises:
            Exception: What a function raised. The others are still called.
        """
        while self._pending and self._pending[0][0].done():
            future, lock = self._pending.pop(0)
            lock.release()
            future.result()

    def flush(self) -> None:
        """Wait until all functions have returned, and release their locks.

        Raises:
            Exception: What the first of the functions that failed raised.
        """
        errors = []
        for future, lock in self._pending:
            if error := future.exception():
                errors.append(error)
            lock.release()
        self._pending.clear()
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None
        if errors:
            raise errors[0]
