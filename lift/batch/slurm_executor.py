"""submitit's executor for the options of `lift batch --engine slurm`, and the loss of its jobs."""

import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lift.errors import summarize_error
from lift.registry import ComponentError

CLUSTERS = ("slurm", "local")
"""Where jobs run: `local` starts them on this machine, which is for tests."""

SHARED = ("cpus_per_task", "gpus_per_node", "mem_gb", "name", "stderr_to_stdout", "timeout_min")
"""Options of submitit for all clusters. Each job is one process on one node."""

TIMEOUT_MIN = 240
"""Minutes of a job by default. A job that ends at its limit is submitted again."""

_EXCLUDED = ("additional_parameters", "nodes", "ntasks_per_node", "stderr_to_stdout", "use_srun")
"""Options of submitit for SLURM that are no plain text or that make several processes."""

_LISTS = ("setup", "srun_args", "teardown")
"""Options of submitit that are lists. The value is the only entry."""

_RESULT_SECONDS = 20.0
"""How long the result of a job that has ended may take to appear on a shared disk."""

_END_SECONDS = 5.0
"""How long a job on this machine may take to end in order."""

_MAX_ERROR = 300
"""Largest number of characters of the message of a lost job."""


def make_executor(folder: Path, options: dict[str, str]) -> Any:
    """Make submitit's executor.

    Args:
        folder: Folder for the files of jobs.
        options: Engine options.

    Raises:
        ComponentError: An option is wrong, or there is no SLURM.
    """
    try:
        import submitit
    except ImportError as error:
        raise ComponentError(
            "--engine slurm needs submitit: pip install 'lift[cluster]'"
        ) from error
    options = dict(options)
    cluster = options.pop("cluster", CLUSTERS[0])
    if cluster not in CLUSTERS:
        raise ComponentError(
            f"--engine-option is cluster={cluster}; choose one of {', '.join(CLUSTERS)}"
        )
    parameters = read_parameters(options)
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise ComponentError(
            "--engine slurm finds no program sbatch on this machine; run the command where jobs "
            "are submitted, or choose --engine local"
        )
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**parameters)
    except (AssertionError, NameError, RuntimeError, TypeError, ValueError) as error:
        raise ComponentError(f"--engine slurm cannot be used: {_one_line(error)}") from error
    return executor


def read_parameters(options: dict[str, str]) -> dict[str, Any]:
    """Read engine options as submitit's parameters.

    Args:
        options: Texts by name.

    Raises:
        ComponentError: A name or a value is wrong.
    """
    from submitit import AutoExecutor, SlurmExecutor

    types = AutoExecutor._typed_parameters()
    special = sorted(set(SlurmExecutor._valid_parameters()) - {*_EXCLUDED, "time", "job_name"})
    choices = ("cluster", *SHARED, *(f"slurm_{name}" for name in special))
    parameters: dict[str, Any] = {"name": "lift", "timeout_min": TIMEOUT_MIN}
    for key, text in options.items():
        if key not in choices:
            raise ComponentError(
                f"--engine-option is {key}={text}; choose one of {', '.join(choices)}"
            )
        value = _read_value(text)
        kind = types.get(key)
        if kind is str:
            value = text
        elif kind in (int, float) and (
            isinstance(value, bool)
            or not isinstance(value, int if kind is int else (int, float))
            or not 0 <= value < 1e9
        ):
            number = "a whole number" if kind is int else "a number"
            raise ComponentError(f"--engine-option is {key}={text}; choose {number} of at least 0")
        elif kind is bool and not isinstance(value, bool):
            raise ComponentError(f"--engine-option is {key}={text}; choose true or false")
        parameters[key] = [text] if key.removeprefix("slurm_") in _LISTS else value
    return parameters


def _read_value(text: str) -> bool | int | float | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def submit(executor: Any, function: Any, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Submit an array of jobs.

    Args:
        executor: The executor.
        function: What each job calls.
        arguments: The arguments of each job.

    Returns:
        The jobs.

    Raises:
        ComponentError: SLURM does not take them.
    """
    try:
        return executor.map_array(function, *zip(*arguments, strict=True))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        raise ComponentError(f"SLURM does not take the jobs: {_one_line(error)}") from error


def cancel(jobs: Sequence[Any]) -> None:
    """Cancel jobs. Those on this machine have ended when this returns.

    Args:
        jobs: The jobs.
    """
    processes = [process for job in jobs if (process := _process_of(job)) is not None]
    if processes:
        for process in processes:
            process.terminate()  # which submitit passes on to the job
        for job, process in zip(jobs, processes, strict=True):
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                job.cancel(check=False)
    elif jobs:
        subprocess.call(["scancel", *(job.job_id for job in jobs)])


class Watch:
    """Watches a job until it has ended.

    Args:
        job: The job of submitit.
    """

    def __init__(self, job: Any) -> None:
        self.job = job
        self._is_local = _process_of(job) is not None
        self._ended: float | None = None
        """Time at which SLURM said so."""

    def look(self) -> tuple[bool, str | None]:
        """Return whether the job has ended, and why it is lost if it is."""
        if self.job.paths.result_pickle.exists():
            error = self.job.exception()
            return True, None if error is None else self._describe(str(error))
        if not self.job.done():
            self._ended = None
            return False, None
        self._ended = self._ended or time.monotonic()
        delay = 0.0 if self._is_local else _RESULT_SECONDS
        if time.monotonic() - self._ended < delay or self.job.paths.result_pickle.exists():
            return False, None
        state = "it ended without a result"
        if not self._is_local:
            state = f"it ended without a result, in the state {self.job.state}"
        return True, self._describe(f"{self.job.stderr() or ''}\n{state}")

    def is_cancelled(self) -> bool:
        """Whether somebody has cancelled the job, so that it shall not come back."""
        return not self._is_local and str(self.job.state).startswith("CANCELLED")

    def _describe(self, text: str) -> str:
        """Choose the line of a log that says most."""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if _is_error(line)]
        return f"{(errors or lines)[-1][:_MAX_ERROR]} (log: {self.job.paths.stderr})"


def _process_of(job: Any) -> Any:
    """Return the process of a job on this machine; None for a job of SLURM."""
    return getattr(job, "_process", None)


def _is_error(line: str) -> bool:
    """Whether a line looks like the last one of a traceback, or like a message of SLURM."""
    name = line.partition(":")[0]
    is_exception = name.endswith(("Error", "Exception", "Interrupt")) and " " not in name
    return is_exception or line.startswith(("slurmstepd: error", "srun: error"))


def _one_line(error: BaseException) -> str:
    return summarize_error(error, _MAX_ERROR)
