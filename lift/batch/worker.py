"""A worker process of an engine: its device, its part of the cores, its messages and its end."""

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lift.errors import format_error
from lift.runtime.atomic_io import acquire, open_lock
from lift.runtime.kept_networks import keep_networks

_POLL_SECONDS = 0.5
_rank_lock = None
"""The lock of this worker's local rank, kept until the process ends."""
_problem: str | None = None
"""Why this worker cannot work."""


def start_worker(driver: int, ranks: str, count: int, rank: tuple[int, int] | None) -> None:
    """Prepare a process that does one task after another.

    Args:
        driver: Process id of the driver. When it ends, so does the worker.
        ranks: Folder with a lock for each local rank. A worker has the GPU with the number of its
            rank. A rank becomes free when its worker ends, however that comes about.
        count: Number of workers of this machine.
        rank: The worker's local rank and the number of ranks, if they are given by others.
    """
    global _problem
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the driver, which ends workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # As in a process that nobody started: locks of packages are not left to the resource tracker.
    multiprocessing.set_start_method(None, force=True)  # pyright: ignore[reportArgumentType]
    threading.Thread(target=_follow, args=(driver,), daemon=True).start()
    keep_networks(workers=count if rank is None else rank[1])
    try:
        _take_rank(ranks, count, rank)
    except Exception as error:  # an error here would end the pool, and with it all other workers
        _problem = f"its worker could not start: {format_error(error)}"


def start_problem() -> str | None:
    """Return why this worker cannot work, in one line; None if it can."""
    return _problem


def _take_rank(ranks: str, count: int, rank: tuple[int, int] | None) -> None:
    """Bind this process to a GPU and to its part of the cores."""
    from lift.runtime.distributed import ProcessInfo, bind_device, clear_ranks

    global _rank_lock
    clear_ranks()
    if rank is not None:
        bind_device(ProcessInfo(*rank, *rank))
        return
    number = 0
    with suppress(FileNotFoundError):  # somebody has cleaned up the folder of temporary files
        for number in range(count):
            _rank_lock = open_lock(Path(ranks) / f"{number}.lock")
            if acquire(_rank_lock):
                break
    bind_device(ProcessInfo(number, count, number, count))


def _follow(driver: int) -> None:
    """End this process when the driver has ended."""
    while True:
        try:
            os.kill(driver, 0)
        except ProcessLookupError:
            os.kill(os.getpid(), signal.SIGKILL)
        except PermissionError:
            return
        time.sleep(_POLL_SECONDS)


@contextmanager
def errors_to_file(name: str | None) -> Iterator[None]:
    """Write what the block prints on standard error to the end of a file, programs included.

    Args:
        name: The file. None changes nothing.
    """
    if name is None:
        yield
        return
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    before = os.dup(2)
    with open(name, "ab") as stream:
        os.dup2(stream.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)


@contextmanager
def folder_of_ranks() -> Iterator[str]:
    """Make the folder of local ranks of `start_worker`, and remove it after the block."""
    with tempfile.TemporaryDirectory(prefix="lift-batch-", ignore_cleanup_errors=True) as folder:
        yield folder
