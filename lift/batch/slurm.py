"""Pictures as an array of SLURM jobs, submitted by submitit.

Each job makes its shard of the list with a pool of processes, and writes a record for each picture
to a file of its own. The driver reads these files as they grow. A job that is lost, or that ends at
its time limit, is submitted again. It passes over the pictures that have a record.
"""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from lift.batch.driver import find_record
from lift.batch.jobs import Options, run_tasks, snapshot
from lift.batch.pictures import shard
from lift.batch.progress import Progress
from lift.batch.records import Journal, Record, Summary, follow_records
from lift.batch.slurm_executor import CLUSTERS, Watch, cancel, make_executor, submit
from lift.batch.tasks import LOCKS, BatchTask, find_finished, make_scene
from lift.registry import ComponentError

MAX_JOBS = {"slurm": 100, "local": 2}
"""Largest number of jobs by default, for each cluster."""

_POLL_SECONDS = 1.0
"""How often the driver looks at jobs, if there are few."""

_POLL_PER_JOB = 0.05
"""Seconds by which each job makes the driver look less often."""

Find = Callable[[BatchTask], Record | None]
Make = Callable[[BatchTask], Record]


def run_slurm(
    tasks: Sequence[BatchTask],
    options: Options,
    summary: Summary,
    make: Make = make_scene,
    find: Find | None = None,
) -> list[Record]:
    """Submit jobs, wait for them, and collect what became of the pictures.

    Args:
        tasks: The pictures.
        options: Options of the command. `processes` is the number of jobs. Engine options are
            those of submitit: `timeout_min`, `gpus_per_node`, `slurm_partition` and so on, and
            `cluster=local` for jobs on this machine.
        summary: Gets the records.
        make: Makes a record of a task, in a worker of a job.
        find: Returns the record of a task that needs no worker, else None; by default that of a
            finished scene.

    Returns:
        The records in the order of the tasks, without their stages. With `fail_fast`, those that
        there are.

    Raises:
        ComponentError: An option is wrong, or SLURM does not take the jobs.
    """
    folder = summary.path.parent.absolute() / LOCKS / f"slurm-{uuid4().hex[:12]}"
    executor = make_executor(folder, options.engine_options)
    path = Path(options.prometheus) if options.prometheus else None
    progress = Progress(len(tasks), options.as_json, path, options.noun)
    batch = _Batch(tasks, options, summary, progress, executor)
    waiting = []
    look = find or partial(find_finished, view=snapshot(tasks))
    for index, task in enumerate(tasks):
        if (record := find_record(task, look, summary)) is None:
            waiting.append(index)
        else:
            batch.keep(index, record)
    if waiting:
        cluster = options.engine_options.get("cluster", CLUSTERS[0])
        count = min(options.processes or MAX_JOBS[cluster], len(waiting))
        try:
            batch.submit(waiting, folder, count, (make, find))
            batch.follow()
        except BaseException:
            batch.stop()
            raise
    records = [batch.records[index] for index in sorted(batch.records)]
    if all(record.state != "failed" for record in records):
        shutil.rmtree(folder, ignore_errors=True)
    return records


def run_shard(
    tasks: list[BatchTask], options: Options, path: str, make: Make, find: Find | None
) -> int:
    """Make the scenes of one shard, in a job.

    Args:
        tasks: Pictures of the shard.
        options: Options of the command.
        path: File for the records. Pictures that it has are passed over.
        make: As for `run_slurm`.
        find: As for `run_slurm`.

    Returns:
        The number of pictures that had no record.

    Raises:
        RuntimeError: SLURM has stopped the job, at its time limit for example.
    """
    os.chdir(tasks[0].folder)
    with _stop_by_signals(), Journal(Path(path)) as journal:
        waiting = [task for task in tasks if task.key not in journal.keys]
        suspects = [task for task in waiting if task.key in journal.begun]
        groups = [[task for task in waiting if task.key not in journal.begun]]
        groups += [[task] for task in suspects]  # one of them may have ended the job before

        look = find or partial(find_finished, view=snapshot(waiting))

        def find_or_begin(task: BatchTask) -> Record | None:
            record = look(task)
            if record is None:
                journal.begin(task.key)
            return record

        for group in filter(None, groups):
            records = run_tasks(group, options, journal, make, find_or_begin)
            if options.fail_fast and any(record.state == "failed" for record in records):
                break
    return len(waiting)


class _Stopped(KeyboardInterrupt):
    """SLURM has sent a signal. What handles Ctrl-C handles this, too."""


@contextmanager
def _stop_by_signals() -> Iterator[None]:
    """End the block in order when SLURM stops the job: workers end, no record is written.

    submitit would ignore SIGTERM, which would end the workers alone: their pictures would count as
    failed.
    """
    name = os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2")  # what submitit asks SLURM to send

    def stop(number: int, _: object) -> None:
        raise _Stopped(signal.Signals(number).name)

    numbers = (signal.SIGTERM, getattr(signal, f"SIG{name}"))
    before = [(number, signal.signal(number, stop)) for number in numbers]
    try:
        yield
    except _Stopped as stopped:
        raise RuntimeError(f"the job was stopped by {stopped}") from None
    finally:
        for number, handler in before:
            signal.signal(number, handler)


@dataclass
class _Job:
    """One job, and what has come of it."""

    arguments: tuple[Any, ...]
    """Those of `run_shard`."""
    missing: dict[tuple[str, ...], int]
    """Key of each picture without a record -> its number in the list."""
    watch: Watch | None = None
    """None if it has ended."""
    attempts: int = 0
    """How often it was submitted."""
    losses: int = 0
    """How often it was lost in a row without a new record."""
    has_progress: bool = False
    """Whether it has written a record since it was submitted."""
    new_records: Iterator[list[Record]] = field(init=False)

    def __post_init__(self) -> None:
        self.new_records = follow_records(Path(self.arguments[2]))


class _Batch:
    """An array of jobs from its submission to its last record.

    Args:
        tasks: All pictures.
        options: Options of the command.
        summary: Gets the records.
        progress: Tells the user.
        executor: submitit's executor.
    """

    def __init__(
        self,
        tasks: Sequence[BatchTask],
        options: Options,
        summary: Summary,
        progress: Progress,
        executor: Any,
    ) -> None:
        self.records: dict[int, Record] = {}
        self._tasks = tasks
        self._options = options
        self._summary = summary
        self._progress = progress
        self._executor = executor
        self._jobs: list[_Job] = []
        self._is_failed = False

    def keep(self, index: int, record: Record) -> None:
        """Keep the record of a picture.

        Args:
            index: Its number in the list.
            record: The record.
        """
        self.records[index] = record.brief()
        self._summary.add(record)
        self._progress.finish(record, index)

    def submit(
        self, waiting: Sequence[int], folder: Path, count: int, functions: tuple[Make, Find | None]
    ) -> None:
        """Submit jobs.

        Args:
            waiting: Numbers of the pictures in the list.
            folder: Folder for the files of jobs.
            count: Number of jobs.
            functions: As for `run_slurm`.
        """
        inner = replace(
            self._options,
            engine="local",
            engine_options={},
            processes=None,
            shard=None,
            as_json=False,
            prometheus=None,
        )
        for number in range(count):
            indices = shard(waiting, number, count)
            tasks = [self._tasks[index] for index in indices]
            missing = {task.key: index for task, index in zip(tasks, indices, strict=True)}
            path = folder / f"records-{number}.jsonl"
            self._jobs.append(_Job((tasks, inner, str(path), *functions), missing))
        self._start(self._jobs)
        names = [job.watch.job.job_id for job in self._jobs if job.watch]
        text = names[0] if count == 1 else f"{names[0]} to {names[-1]}"
        self._progress.note(
            "submitted",
            f"{len(waiting)} {self._options.noun} in {count} jobs: {text}; logs in {folder}",
            jobs=names,
            pictures=len(waiting),
            logs=str(folder),
        )

    def _start(self, jobs: Sequence[_Job]) -> None:
        """Submit some of the jobs as one array."""
        submitted = submit(self._executor, run_shard, [job.arguments for job in jobs])
        for job, its_job in zip(jobs, submitted, strict=True):
            job.watch = Watch(its_job)
            job.attempts += 1
            job.has_progress = False

    def follow(self) -> None:
        """Wait for the jobs, and tell what they have done."""
        while running := [job for job in self._jobs if job.watch is not None]:
            time.sleep(_POLL_SECONDS + _POLL_PER_JOB * len(running))
            for job in running:
                self._look(job)
            if self._is_failed and self._options.fail_fast:
                self.stop()

    def _look(self, job: _Job) -> None:
        """Read the new records of a job, and see whether it has ended."""
        assert job.watch is not None
        has_ended, error = job.watch.look()  # before the records are read: none comes after this
        self._read(job)
        if has_ended:
            watch, job.watch = job.watch, None
            if error is None and not self._options.fail_fast:
                error = f"it ended without records of all its {self._options.noun}"
            if error is not None and job.missing:
                self._handle_loss(job, watch, error)

    def _read(self, job: _Job) -> None:
        """Read the new records of a job."""
        for record in next(job.new_records):
            index = job.missing.pop(record.key, None)
            if index is not None:
                job.has_progress = True
                self._is_failed |= record.state == "failed"
                self.keep(index, record)

    def _handle_loss(self, job: _Job, watch: Watch, error: str) -> None:
        """Submit a lost job again, or count its pictures as failed."""
        job.losses = 1 if job.has_progress else job.losses + 1
        may_return = job.has_progress or job.losses <= self._options.retries
        name = watch.job.job_id
        if may_return and not watch.is_cancelled():
            try:
                self._start([job])
            except ComponentError as refusal:
                error = f"{error}; {refusal}"
        if job.watch is None:
            self._progress.note("lost", f"job {name} was lost: {error}", job=name, error=error)
            for index in job.missing.values():
                record = self._tasks[index].record(
                    "failed",
                    error=f"its job was lost: {error}",
                    cause="transient",
                    attempts=job.attempts,
                )
                self.keep(index, record)
            self._is_failed = True
            return
        again = job.watch.job.job_id
        self._progress.note(
            "resubmitted",
            f"job {name} was lost with {len(job.missing)} {self._options.noun} left, and is "
            f"submitted again as {again}: {error}",
            job=again,
            lost=name,
            pictures=len(job.missing),
            error=error,
        )

    def stop(self) -> None:
        """Cancel the jobs that have not ended, and read their last records."""
        jobs = [job for job in self._jobs if job.watch is not None]
        if not jobs:
            return
        cancel([job.watch.job for job in jobs if job.watch])
        for job in jobs:
            job.watch = None
            self._read(job)
        self._progress.note("cancelled", f"{len(jobs)} jobs were cancelled", jobs=len(jobs))
