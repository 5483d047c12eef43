"""Hand tasks to an engine, try again what may succeed, and write down what became of each."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any

from lift.batch.engine import Engine, describe_loss
from lift.batch.progress import Progress
from lift.batch.records import Record, RecordWriter, read_result
from lift.batch.tasks import BatchTask
from lift.errors import format_error, is_transient
from lift.registry import ComponentError

_POLL_SECONDS = 1.0
"""How long the driver waits for results before it looks at its time."""


HELD_SECONDS = 120.0
"""How long pictures that others hold are looked at again, once nothing else is left. Where the
folder of a lost machine is shared, its locks live on for a while."""


def _is_long_ago(since: float | None) -> bool:
    return since is not None and time.monotonic() - since > HELD_SECONDS


@dataclass(frozen=True)
class Policy:
    """What happens to tasks that fail."""

    retries: int = 1
    """How often a task is tried again after a transient failure, at least 0."""
    timeout: float | None = None
    """Seconds that a try may take; None for no limit."""
    fail_fast: bool = False
    """Whether no task is started after one that has failed for good."""


def find_record(
    task: BatchTask, find_finished: Callable[[BatchTask], Record | None], summary: RecordWriter
) -> Record | None:
    """Return the record of a task that needs no worker, else None.

    Args:
        task: The task.
        find_finished: Returns the record of a task that was finished before, else None.
        summary: Has the records of jobs before.
    """
    try:
        record = find_finished(task)
    except (ComponentError, OSError, ValueError) as error:
        if is_transient(error):  # a worker tries it, and tries it again
            return None
        return task.record("failed", error=format_error(error), cause="permanent")  # a wrong row
    if record is not None and not summary.has(record):
        read_result(record)
    return record


class Driver:
    """Runs tasks on an engine.

    Args:
        make_engine: Makes the engine when the first task needs it.
        function: Makes a record of a task, in a worker.
        policy: What happens to tasks that fail.
        summary: Gets the records.
        progress: Tells the user.
    """

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        function: Callable[[BatchTask], Record],
        policy: Policy,
        summary: RecordWriter,
        progress: Progress,
    ) -> None:
        self._make_engine = make_engine
        self._function = function
        self._policy = policy
        self._summary = summary
        self._progress = progress
        self._engine: Engine | None = None
        self._attempts: dict[int, int] = {}
        self._records: dict[int, Record] = {}
        self._was_held: set[int] = set()
        self._is_stopped = False

    def run(
        self, tasks: Sequence[BatchTask], find_finished: Callable[[BatchTask], Record | None]
    ) -> list[Record]:
        """Run tasks.

        Args:
            tasks: The tasks.
            find_finished: Returns the record of a task that needs no worker, else None.

        Returns:
            The records in the order of the tasks, without their stages. With `fail_fast`, those
            that there are.
        """
        queue = deque(range(len(tasks)))
        held: list[int] = []
        running: dict[Future[Record], int] = {}
        only_held_since: float | None = None
        try:
            while queue or running or held:
                if not queue and not running:  # what others held may be finished now, or free
                    if only_held_since is None:
                        only_held_since = time.monotonic()
                    else:
                        time.sleep(_POLL_SECONDS)
                    queue, held = deque(held), []
                self._fill(tasks, queue, running, find_finished)
                done = wait(running, _POLL_SECONDS, FIRST_COMPLETED).done if running else ()
                for future in done:
                    index = running.pop(future)
                    record = self._outcome(tasks[index], index, future)
                    if record.state == "held":
                        self._attempts[index] -= 1
                        self._was_held.add(index)
                    else:
                        only_held_since = None  # there is progress
                    if self._is_stopped:
                        self._keep(index, record)
                    elif record.state == "held" and not _is_long_ago(only_held_since):
                        held.append(index)  # also by a worker that was lost, and is ending
                    elif record.is_transient and self._may_retry(index):
                        self._progress.retry(record)
                        queue.append(index)
                    else:
                        self._keep(index, record)
                if self._is_stopped:
                    queue.clear()
                    held.clear()
        finally:
            if self._engine is not None:
                self._engine.close()
        return [self._records[index] for index in sorted(self._records)]

    def _fill(
        self,
        tasks: Sequence[BatchTask],
        queue: deque[int],
        running: dict[Future[Record], int],
        find_finished: Callable[[BatchTask], Record | None],
    ) -> None:
        """Start tasks until the engine is busy or the queue is empty."""
        while (
            queue
            and not self._is_stopped
            and (self._engine is None or len(running) < self._engine.capacity)
        ):
            index = queue.popleft()
            first = index not in self._attempts
            if first and (record := find_record(tasks[index], find_finished, self._summary)):
                self._keep(index, record)
                continue
            self._engine = self._engine or self._make_engine()
            self._attempts[index] = self._attempts.get(index, 0) + 1
            if index not in self._was_held:
                self._progress.start(tasks[index].image, index)
            timeout = self._policy.timeout
            future = self._engine.submit(self._function, tasks[index], timeout=timeout)
            running[future] = index

    def _may_retry(self, index: int) -> bool:
        return self._attempts[index] <= self._policy.retries

    def _keep(self, index: int, record: Record) -> None:
        """Keep the last record of a task."""
        self._records[index] = record.brief()
        self._summary.add(record)
        self._progress.finish(record, index)
        self._is_stopped |= record.state == "failed" and self._policy.fail_fast

    def _outcome(self, task: BatchTask, index: int, future: Future[Any]) -> Record:
        """Return the record of a task that has ended in some way."""
        try:
            record = future.result()
        except (TimeoutError, FutureTimeoutError):  # two classes in Python 3.10
            record = task.record(
                "failed",
                error=f"it took longer than {self._policy.timeout:g} s",
                cause="transient",
                seconds=self._policy.timeout or 0.0,
            )
        except Exception as error:
            # A worker that cannot import what others can is not set up.
            cause = "permanent" if isinstance(error, ImportError) else "transient"
            record = task.record("failed", error=describe_loss(error), cause=cause)
        record.attempts = self._attempts[index]
        record.when = time.time()
        return record
