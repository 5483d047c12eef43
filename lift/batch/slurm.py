"""Pictures as an array of SLURM jobs, submitted by submitit.

Each job makes its shard of the list with a pool of processes. A job that is lost is submitted
again, and passes over what it had finished.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lift.batch.jobs import Options, make_tasks, run_tasks
from lift.batch.pictures import Picture, shard
from lift.batch.progress import Progress
from lift.batch.records import Record, Summary, read_summary
from lift.registry import ComponentError

MAX_JOBS = 100
"""Largest number of jobs by default."""

_POLL_SECONDS = 2.0


def run_slurm(
    pictures: Sequence[Picture],
    settings: tuple[str, ...],
    options: Options,
    summary: Summary,
) -> list[Record]:
    """Submit jobs, wait for them, and collect what became of the pictures.

    Args:
        pictures: The pictures.
        settings: Settings of all pictures, and options such as `--config-dir=FOLDER`.
        options: Options of the command. `processes` is the number of jobs. Engine options are
            those of submitit: `timeout_min`, `gpus_per_node`, `slurm_partition` and so on, and
            `cluster=local` for jobs on this machine.
        summary: Gets the records.
    """
    pictures = shard(pictures, *options.shard) if options.shard else list(pictures)
    count = min(options.processes or MAX_JOBS, len(pictures))
    folder = summary.path.parent.absolute() / ".batch"
    executor = _make_executor(folder / "jobs", dict(options.engine_options))
    inner = replace(options, engine="local", engine_options={}, processes=None, shard=None)
    arguments = [
        (pictures, settings, inner, number, count, str(folder / f"{number}-of-{count}.jsonl"))
        for number in range(count)
    ]
    progress = Progress(len(pictures), options.as_json)
    waiting = _submit(executor, arguments)
    attempts = dict.fromkeys(range(count), 1)
    lost: dict[int, str] = {}
    while waiting:
        time.sleep(_POLL_SECONDS)
        for number, job in list(waiting.items()):
            if not job.done():
                continue
            del waiting[number]
            error = job.exception()
            if error is None:
                continue
            lost[number] = " ".join(str(error).split())[:300]
            if attempts[number] <= options.retries:
                attempts[number] += 1
                del lost[number]
                waiting |= {number: _submit(executor, [arguments[number]])[0]}
    records = [
        record
        for number in range(count)
        for record in _collect(arguments[number], lost.get(number), attempts[number])
    ]
    for index, record in enumerate(records):
        summary.add(record)
        progress.finish(record, index)
    return records


def run_shard(
    pictures: list[Picture],
    settings: tuple[str, ...],
    options: Options,
    number: int,
    count: int,
    path: str,
) -> list[dict[str, Any]]:
    """Make the scenes of one shard, in a job.

    Args:
        pictures: All pictures.
        settings: As for `run_slurm`.
        options: Options of the command.
        number: Number of the shard.
        count: Number of shards.
        path: File for the records, which is there also if the job is lost.

    Returns:
        The records.
    """
    tasks = shard(make_tasks(pictures, settings), number, count)
    summary = Summary(Path(path))
    records = run_tasks(tasks, options, summary)
    summary.close()
    return [asdict(record) for record in records]


def _submit(executor: Any, arguments: Sequence[tuple[Any, ...]]) -> dict[int, Any]:
    """Submit an array of jobs."""
    jobs = executor.map_array(run_shard, *zip(*arguments, strict=True))
    return dict(enumerate(jobs))


def _collect(arguments: tuple[Any, ...], lost: str | None, attempts: int) -> list[Record]:
    """Return the records of a shard, those of pictures that its lost job did not reach included."""
    pictures, settings, _, number, count, path = arguments
    tasks = shard(make_tasks(pictures, settings), number, count)
    known = {}
    if Path(path).is_file():
        known = {(record.title, *record.settings): record for record in read_summary(Path(path))}
    records = []
    for task in tasks:
        record = known.get((task.title, *task.own_settings))
        if record is None:
            record = task.record("held")
            if lost is not None:
                error = f"its job was lost: {lost}"
                record = task.record("failed", error=error, cause="transient", attempts=attempts)
        records.append(record)
    return records


def _make_executor(folder: Path, options: dict[str, str]) -> Any:
    """Make submitit's executor."""
    try:
        import submitit
    except ImportError as error:
        raise ComponentError(
            "--engine slurm needs submitit: pip install 'lift[cluster]'"
        ) from error
    cluster = options.pop("cluster", None)
    parameters: dict[str, Any] = {
        key: int(value) if value.lstrip("-").isdecimal() else value
        for key, value in options.items()
    }
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(name="lift", **parameters)
    except (NameError, TypeError, ValueError, RuntimeError) as error:
        message = " ".join(str(error).split())
        raise ComponentError(f"--engine slurm cannot be used: {message}") from error
    return executor
