"""What a driver needs of an engine, and the engine on this machine: a pool of processes."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, Protocol, runtime_checkable

from pebble import ProcessExpired, ProcessPool

from lift.batch.worker import folder_of_ranks, start_worker
from lift.errors import summarize_error

PRELOADED = ("torch", "pytorch_lightning", "numba", "hydra")
"""Packages that the first worker imports for all that follow it, also for those after a crash."""

START_METHOD = "LIFT_START_METHOD"
"""Environment variable: how worker processes start, as `multiprocessing` calls it."""

KILLED = "its process was killed (SIGKILL), as a system does that runs out of memory"
"""How a worker was lost that ended without a word."""


class WorkerLostError(Exception):
    """A worker was lost. The message says how, in one line."""


@runtime_checkable
class Engine(Protocol):
    """Runs functions in worker processes."""

    @property
    def capacity(self) -> int:
        """Number of tasks to hand over at the same time."""
        ...

    def submit(
        self, function: Callable[..., Any], *arguments: Any, timeout: float | None
    ) -> Future[Any]:
        """Run a function of a module in a worker.

        Args:
            function: The function.
            *arguments: Its arguments. They are pickled.
            timeout: Seconds after which the worker is ended; None for no limit.

        Returns:
            What gets the result. Its error is TimeoutError after the time, and any other one of
            the engine if the worker is lost.
        """
        ...

    def close(self) -> None:
        """End all workers, and wait for them."""
        ...


class LocalEngine:
    """A pool of processes of this machine (the package pebble).

    Args:
        processes: Number of processes. Each has a GPU of its own if there are several, and its
            part of the cores.
        rank: Local rank of this process, and number of those that share the machine, if another
            program started them. Then `processes` is 1.
    """

    def __init__(self, processes: int, rank: tuple[int, int] | None = None) -> None:
        self._processes = processes
        self._futures: set[Future[Any]] = set()
        self._resources = ExitStack()
        folder = self._resources.enter_context(folder_of_ranks())
        context = multiprocessing.get_context(os.environ.get(START_METHOD) or _start_method())
        if context.get_start_method() == "forkserver":
            context.set_forkserver_preload([*PRELOADED])
        self._pool = ProcessPool(
            max_workers=processes,
            initializer=start_worker,
            initargs=(os.getpid(), folder, processes, rank),
            context=context,  # pyright: ignore[reportArgumentType]
        )

    @property
    def capacity(self) -> int:
        """Number of processes."""
        return self._processes

    def submit(
        self, function: Callable[..., Any], *arguments: Any, timeout: float | None
    ) -> Future[Any]:
        """Run a function in a worker. See `Engine.submit`."""
        self._futures = {future for future in self._futures if not future.done()}
        future = self._pool.schedule(function, args=arguments, timeout=timeout)
        self._futures.add(future)
        return future

    def close(self) -> None:
        """End all workers, and wait for them."""
        if any(not future.done() for future in self._futures):
            self._pool.stop()
        else:
            self._pool.close()
        self._pool.join()
        self._resources.close()


def _start_method() -> str:
    """Choose how processes start: without the threads and locks of this one.

    On macOS, frameworks of the system do not survive a fork after their import.
    """
    return "forkserver" if sys.platform == "linux" else "spawn"


def describe_loss(error: BaseException) -> str:
    """Say in one line how a worker was lost.

    Args:
        error: The error of an engine's future.
    """
    if isinstance(error, WorkerLostError):
        return str(error)
    if isinstance(error, ProcessExpired):
        code = error.exitcode or 0
        if code == -9:
            return KILLED
        ending = f"by signal {-code}" if code < 0 else f"with status {code}"
        return f"its process ended {ending}"
    return f"its worker was lost: {summarize_error(error, 300, with_type=True)}"
