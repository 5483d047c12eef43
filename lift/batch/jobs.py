"""A batch from its pictures to its exit status."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from omegaconf import DictConfig

from lift.batch.driver import Driver, Policy
from lift.batch.engine import Engine, LocalEngine
from lift.batch.pictures import BatchPicture, scene_titles, shard
from lift.batch.progress import Progress
from lift.batch.records import Record, RecordWriter, Summary
from lift.batch.summaries import fetch_summary, share_summary
from lift.batch.tasks import LOCKS, BatchTask, configure, find_finished, make_scene
from lift.errors import format_error, is_transient
from lift.registry import ComponentError
from lift.remote.store import check_writable
from lift.remote.urls import is_url, local_output, output_url
from lift.remote.views import StoreSnapshot
from lift.runtime import distributed
from lift.runtime.devices import check_one_device
from lift.runtime.launcher import WorkerError

ENGINES = ("local", "ray", "slurm")
"""Choices of the option `--engine`."""

FAILED = 1
"""Exit status if a picture failed for good."""

TRY_AGAIN = 75
"""Exit status if only transient failures are left: EX_TEMPFAIL of sysexits.h."""

_MAX_LISTED = 50
"""Largest number of failed pictures that the last message names."""


Task = TypeVar("Task", bound=BatchTask)


@dataclass(frozen=True)
class Options:
    """Options of `lift batch`. Its help says what they mean."""

    engine: str = "local"
    engine_options: dict[str, str] = field(default_factory=dict)
    processes: int | None = None
    shard: tuple[int, int] | None = None
    retries: int = 1
    timeout: float | None = None
    fail_fast: bool = False
    as_json: bool = False
    prometheus: str | None = None
    plan: bool = False
    noun: str = "pictures"
    """What tasks are called, in the plural."""

    @property
    def policy(self) -> Policy:
        """What happens to pictures that fail."""
        return Policy(self.retries, self.timeout, self.fail_fast)

    @property
    def has_logs(self) -> bool:
        """Whether workers write messages to files. Those of Ray may be on other machines."""
        return self.as_json or self.engine == "ray"


def make_tasks(pictures: Sequence[BatchPicture], settings: tuple[str, ...]) -> list[BatchTask]:
    """Make the tasks of a batch.

    Args:
        pictures: The pictures.
        settings: Settings of all pictures, and options such as `--config-dir=FOLDER`.
    """
    titles = scene_titles([picture.image for picture in pictures])
    return [
        BatchTask(picture.image, title, settings, picture.settings, os.getcwd())
        for picture, title in zip(pictures, titles, strict=True)
    ]


def run_batch(pictures: Sequence[BatchPicture], settings: tuple[str, ...], options: Options) -> int:
    """Make the scenes of pictures.

    Args:
        pictures: The pictures.
        settings: Settings of all pictures, and options such as `--config-dir=FOLDER`.
        options: Options of the command.

    Returns:
        The exit status 0.

    Raises:
        ComponentError: A setting or an option is wrong.
        WorkerError: A picture failed.
    """
    try:
        return _run_batch(make_tasks(pictures, settings), options)
    except OSError as error:
        if not is_transient(error):
            raise
        raise WorkerError(f"lift: {format_error(error)}", TRY_AGAIN) from error


def _run_batch(tasks: list[BatchTask], options: Options) -> int:
    """Make the scenes of pictures. Errors of a store are not handled."""
    config = configure(replace(tasks[0], own_settings=()))
    check_one_device("batch", config.trainer)
    _check_fetched(tasks, config)
    name, tasks = select_shard(tasks, options)
    output = local_output(config)
    if options.plan:
        return _plan(tasks, options)
    if options.has_logs:
        tasks = [
            replace(task, log=str(output.absolute() / LOCKS / f"{task.title}.log"))
            for task in tasks
        ]
    fetch_summary(config, output / name)
    summary = Summary(output / name)
    count = count_own(tasks)  # before the engine clears the ranks
    records = run_tasks(tasks, options, summary, make_scene)
    summary.close()
    status = 0
    try:
        share_summary(config, summary.path)
    except OSError as error:  # what failed is still told
        print(f"note: {summary.path} was not uploaded: {format_error(error)}", file=sys.stderr)
        status = TRY_AGAIN
    return finish(records, count, options, summary.path) or status


def select_shard(tasks: list[Task], options: Options) -> tuple[str, list[Task]]:
    """Select the tasks of the shard of the options.

    Args:
        tasks: All tasks.
        options: Options of the command.

    Returns:
        Name of the file for its records, and its tasks.
    """
    if options.shard is None:
        return "summary.jsonl", tasks
    number, count = options.shard
    return f"summary-{number}-of-{count}.jsonl", shard(tasks, number, count)


def count_own(tasks: Sequence[BatchTask]) -> int:
    """Return how many tasks this process does, if srun or torchrun has started several.

    Args:
        tasks: The tasks of all of them.
    """
    process = distributed.process_info()
    return len(shard(tasks, process.rank, process.world_size))


def _check_fetched(tasks: Sequence[BatchTask], config: DictConfig) -> None:
    """Refuse to remove a fetched picture that other tasks need.

    Raises:
        ComponentError: `cache.keep` is false, and a URL is there twice.
    """
    counts = Counter(task.image for task in tasks if is_url(task.image))
    twice = [image for image, count in counts.items() if count > 1]
    if twice and not config.cache.keep:
        raise ComponentError(
            "cache.keep is false, which removes a fetched picture after its scene, but "
            f"{twice[0]!r} is there several times; leave out cache.keep=false"
        )


def run_tasks(
    tasks: Sequence[BatchTask],
    options: Options,
    summary: RecordWriter,
    make: Callable[[BatchTask], Record],
    find: Callable[[BatchTask], Record | None] | None = None,
) -> list[Record]:
    """Do tasks on the engine of the options.

    Args:
        tasks: The tasks.
        options: Options of the command.
        summary: Gets the records. For SLURM it is a `Summary`, beside which jobs write.
        make: Makes a record of a task, in a worker.
        find: Returns the record of a task that needs no worker, else None; by default that of a
            finished scene.

    Returns:
        The records in the order of the tasks, without their stages. With `fail_fast`, those that
        there are.
    """
    if options.engine == "slurm":
        from lift.batch.slurm import run_slurm

        assert isinstance(summary, Summary)
        return run_slurm(tasks, options, summary, make, find)
    process = distributed.process_info()
    local_rank = None
    if process.world_size > 1:
        if options.processes is not None:
            raise ComponentError(
                f"--processes is {options.processes}, but {process.world_size} processes have been "
                "started already; leave it out"
            )
        tasks = shard(tasks, process.rank, process.world_size)
        local_rank = (process.local_rank, process.local_world_size)
        distributed.clear_ranks()
    path = Path(options.prometheus) if options.prometheus else None
    progress = Progress(len(tasks), options.as_json, path, options.noun)

    def make_engine() -> Engine:
        output = output_url(configure(replace(tasks[0], own_settings=())))
        if output is not None:
            check_writable(output)
        if options.engine == "ray":
            from lift.batch.ray_engine import RayEngine

            return RayEngine(options.processes, options.engine_options)
        if options.engine_options:
            raise ComponentError("--engine-option has no meaning for --engine local")
        count = 1 if local_rank else options.processes or _gpu_count() or 1
        return LocalEngine(min(count, len(tasks)), local_rank)

    driver = Driver(make_engine, make, options.policy, summary, progress)
    return driver.run(tasks, find or partial(find_finished, view=snapshot(tasks)))


def snapshot(tasks: Sequence[BatchTask]) -> StoreSnapshot:
    """Return what looks up pictures and results in stores, with few requests.

    Args:
        tasks: The tasks that will be looked up.
    """
    return StoreSnapshot([task.image for task in tasks], [task.title for task in tasks])


def _gpu_count() -> int:
    """Return the number of CUDA devices. Where there is no driver, torch is not imported."""
    if not any(Path(name).exists() for name in ("/dev/nvidiactl", "/dev/dxg")):
        return 0
    import torch

    return torch.cuda.device_count()


def _plan(tasks: Sequence[BatchTask], options: Options) -> int:
    """Say what would be done."""
    from lift.runtime.dry_run import dry_run

    view = snapshot(tasks)
    waiting = [task for task in tasks if find_finished(task, view) is None]
    done = len(tasks) - len(waiting)
    print(f"{len(tasks)} pictures: {done} finished before, {len(waiting)} to make")
    if waiting:
        workers = options.processes or (_gpu_count() or 1 if options.engine == "local" else None)
        print(f"engine {options.engine}, {workers or 'as many as fit'} at a time; the first one:")
        print(dry_run(configure(waiting[0])))
    return 0


def finish(records: Sequence[Record], count: int, options: Options, summary: Path) -> int:
    """Return the exit status of a command.

    Args:
        records: What became of the tasks.
        count: Number of tasks of this process.
        options: Options of the command.
        summary: The file with all records.

    Raises:
        WorkerError: A task failed. The message lists what failed.
    """
    failed = [record for record in records if record.state == "failed"]
    held = sum(record.state == "held" for record in records)
    if held and not options.as_json:
        print(f"{held} {options.noun} are being made by other jobs", file=sys.stderr)
    left = max(0, count - len(records))
    if not failed:
        return TRY_AGAIN if left else 0
    lines = [f"  {record.image}: {record.error}" for record in failed[:_MAX_LISTED]]
    if len(failed) > _MAX_LISTED:
        lines.append(f"  and {len(failed) - _MAX_LISTED} more; {summary} has all")
    head = f"lift: {len(failed)} of {count} {options.noun} failed:"
    if left:
        head = f"lift: {len(failed)} of {count} {options.noun} failed, and {left} were not begun:"
    permanent = any(record.cause == "permanent" for record in failed)
    raise WorkerError("\n".join([head, *lines]), FAILED if permanent else TRY_AGAIN)
