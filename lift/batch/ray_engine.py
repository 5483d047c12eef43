"""Pictures as tasks of a Ray cluster. Ray places them, and notices lost workers and machines."""

import faulthandler
import math
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from lift.registry import ComponentError

CORES = 4
"""CPU cores of a task by default."""

_GRACE = 60.0
"""Seconds after its time in which a task may end by itself."""

_NUMBERS = ("num_cpus", "num_gpus", "memory")


class RayEngine:
    """Runs each picture as a task of Ray.

    Args:
        processes: Largest number of tasks at a time; None for what the cluster has.
        options: `address` of the cluster (default: RAY_ADDRESS, else a cluster of this machine),
            and what a task needs: `num_cpus`, `num_gpus` (1 where the cluster has GPUs), `memory`
            in bytes.
    """

    def __init__(self, processes: int | None, options: dict[str, str]) -> None:
        ray = _import_ray()
        needs = _read_needs(options)
        self._was_running = ray.is_initialized()
        if not self._was_running:
            variables = {k: v for k, v in os.environ.items() if k.startswith(("LIFT_", "HF_"))}
            variables["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
            ray.init(
                address=options.get("address"),
                runtime_env={"env_vars": variables},
                configure_logging=False,
                include_dashboard=False if options.get("address") is None else None,
            )
        total = ray.cluster_resources()
        cores = int(total.get("CPU", 1))
        needs.setdefault("num_gpus", 1 if total.get("GPU") else 0)
        needs.setdefault("num_cpus", max(1, min(CORES, cores)))
        self._processes = processes
        self._needs = needs
        self._ray = ray
        self._task = ray.remote(_run_in_worker).options(max_retries=0, **needs)

    @property
    def capacity(self) -> int:
        """Number of tasks to hand to Ray: twice what runs, so that an autoscaler sees a need."""
        if self._processes is not None:
            return self._processes
        total = self._ray.cluster_resources()
        per_cpu = total.get("CPU", 0) / max(self._needs["num_cpus"], 1e-3)
        per_gpu = math.inf
        if self._needs["num_gpus"]:
            per_gpu = total.get("GPU", 0) / self._needs["num_gpus"]
        return 2 * max(1, int(min(per_cpu, per_gpu)))

    def submit(
        self, function: Callable[..., Any], *arguments: Any, timeout: float | None
    ) -> Future[Any]:
        """Run a function in a worker. See `lift.batch.engine.Engine.submit`."""
        cores = self._needs["num_cpus"]
        return self._task.remote(function, arguments, timeout, cores).future()

    def close(self) -> None:
        """Leave the cluster. Tasks that run are ended."""
        if not self._was_running:
            self._ray.shutdown()


def _run_in_worker(
    function: Callable[..., Any], arguments: tuple[Any, ...], timeout: float | None, cores: float
) -> Any:
    """Run a function in a worker of Ray, at most for a time."""
    os.environ.setdefault("NUMBA_NUM_THREADS", str(max(1, int(cores))))
    if timeout is None:
        return function(*arguments)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGALRM, _raise_timeout)
        signal.setitimer(signal.ITIMER_REAL, timeout)
    faulthandler.dump_traceback_later(timeout + _GRACE, exit=True)  # if a loop in C holds Python
    try:
        return function(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()


def _raise_timeout(*_: object) -> None:
    raise TimeoutError("it took longer than --timeout allows")


def _read_needs(options: dict[str, str]) -> dict[str, float]:
    """Read what a task needs."""
    needs = {}
    for key, value in options.items():
        if key == "address":
            continue
        if key not in _NUMBERS:
            choices = ", ".join(("address", *_NUMBERS))
            raise ComponentError(f"--engine-option is {key}={value}; choose one of {choices}")
        try:
            needs[key] = float(value)
        except ValueError:
            needs[key] = math.nan
        if not 0 <= needs[key] < 1e15:
            raise ComponentError(f"--engine-option is {key}={value}; choose a number of at least 0")
    return needs


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ComponentError("--engine ray needs Ray: pip install 'lift[ray]'") from error
    return ray
