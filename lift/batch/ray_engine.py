"""Pictures as tasks of a Ray cluster. Ray places them, and notices lost workers and machines."""

import faulthandler
import json
import logging
import math
import os
import re
import signal
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from lift.batch.engine import KILLED, WorkerLostError
from lift.errors import summarize_error
from lift.registry import ComponentError

CORES = 4.0
"""Largest number of CPU cores of a task by default."""

GRACE = 20.0
"""Seconds after its time in which a task may end by itself. Then its process is ended."""

_RESOURCES = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
"""What Ray calls the options of a task among the resources of a node."""

_REFRESH_SECONDS = 2.0
"""How long the driver believes what it knows about the nodes."""

_MISSING = re.compile(r"No module named '[^']+'")
"""What Ray says if a node cannot import what a task needs."""

_VARIABLES = ("LIFT_", "HF_", "TORCH_HOME")
"""How the names of environment variables begin that workers get from the driver."""


class RayEngine:
    """Runs each picture as a task of Ray.

    Args:
        processes: Largest number of tasks at a time; None for what the cluster has.
        options: `address` of the cluster (default: RAY_ADDRESS, else a cluster that runs on this
            machine, else a new one; `local` for a new one in any case), and what a task needs:
            `num_cpus`, `num_gpus` (1 where the cluster has GPUs), `memory` in bytes.
            `autoscale=true` if nodes may be added later.

    Raises:
        ComponentError: An option is wrong, there is no cluster, or no node has what a task needs.
    """

    def __init__(self, processes: int | None, options: dict[str, str]) -> None:
        needs, autoscale = _read_options(options)
        self._ray = _import_ray()
        self._running: dict[Future[Any], Any] = {}
        self._was_running = self._ray.is_initialized()
        if not self._was_running:
            _connect(self._ray, options.get("address"))
        try:
            self._needs = _choose_needs(needs, self._nodes(), autoscale)
        except ComponentError:
            self.close()
            raise
        self._processes = processes
        self._capacity, self._capacity_time = 0, -math.inf
        resources = self._needs | {"memory": int(self._needs.get("memory", 0)) or None}
        # Ray may give the next task of a worker another GPU than the one that it has opened.
        calls = {"max_calls": 1} if self._needs["num_gpus"] else {}
        self._task = self._ray.remote(max_retries=0, **calls, **resources)(_run_in_worker)

    @property
    def capacity(self) -> int:
        """Number of tasks to hand to Ray: twice what runs, so that an autoscaler sees a need."""
        if self._processes is not None:
            return self._processes
        now = time.monotonic()
        if now > self._capacity_time + _REFRESH_SECONDS:
            fitting = sum(_count_tasks(node, self._needs) for node in self._nodes())
            self._capacity, self._capacity_time = 2 * max(1, fitting), now
        return self._capacity

    def submit(
        self, function: Callable[..., Any], *arguments: Any, timeout: float | None
    ) -> Future[Any]:
        """Run a function in a worker. See `lift.batch.engine.Engine.submit`."""
        self._running = {f: task for f, task in self._running.items() if not f.done()}
        limit = None if timeout is None else (timeout, timeout + GRACE)
        task = self._task.remote(function, arguments, limit, self._needs["num_cpus"])
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        end = None if limit is None else time.monotonic() + limit[1]
        task.future().add_done_callback(partial(_forward, future, end))
        self._running[future] = task
        return future

    def close(self) -> None:
        """Leave the cluster. Tasks that run are ended."""
        if not self._was_running:
            self._ray.shutdown()
            return
        for future, task in self._running.items():
            if not future.done():
                self._ray.cancel(task, force=True)

    def _nodes(self) -> list[dict[str, float]]:
        """Return the resources of each node."""
        return [
            {name: float(amount) for name, amount in node["Resources"].items()}
            for node in self._ray.nodes()
            if node["Alive"]
        ]


def _connect(ray: Any, address: str | None) -> None:
    """Connect to a cluster, or start one on this machine."""
    variables = {
        key: value
        for key, value in os.environ.items()
        if key.startswith(_VARIABLES) and key != "HF_TOKEN"  # users of the dashboard read these
    }
    variables["PYTHONPATH"] = os.pathsep.join(_own_folders())
    given = _job_variables()  # `ray job submit` sets them, and does not let them be set again
    address = address or os.environ.get("RAY_ADDRESS")
    if address and "://" in address:
        raise ComponentError(
            f"the address of the Ray cluster is {address!r}; choose HOST:PORT, and run lift batch "
            "on a machine of the cluster, or by ray job submit"
        )
    logging.getLogger("ray").setLevel(logging.ERROR)
    # Ray prints each lost node and worker on standard output, and has no option against it.
    ray._private.worker.print_to_stdstream = _print_nothing
    with _same_signal_handlers():
        try:
            ray.init(
                address=address,
                runtime_env={"env_vars": {k: v for k, v in variables.items() if k not in given}},
                configure_logging=False,
                log_to_driver=False,  # each task writes to a file of its own
                include_dashboard=False if address in (None, "local") else None,
            )
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            message = summarize_error(error, 300)
            where = f"the Ray cluster at {address}" if address else "Ray on this machine"
            raise ComponentError(f"cannot use {where}: {message}") from error


def _print_nothing(*_: object, **__: object) -> None:
    """Stand for a function of Ray that prints."""


def _own_folders() -> list[str]:
    """Return the folders of Python's path that do not belong to its installation."""
    names = ("stdlib", "platstdlib", "purelib", "platlib", "scripts")
    roots = tuple(_real_folder(sysconfig.get_path(name)) for name in names)
    folders = dict.fromkeys(os.path.abspath(path) for path in sys.path)
    return [f for f in folders if os.path.isdir(f) and not _real_folder(f).startswith(roots)]


def _real_folder(name: str) -> str:
    """Return the path of a folder without links, with a separator at its end."""
    return os.path.join(os.path.realpath(name), "")


def _job_variables() -> Mapping[str, str]:
    """Return the environment variables of workers that a submitted job has set."""
    with suppress(ValueError, AttributeError):
        config = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
        return (config.get("runtime_env") or {}).get("env_vars") or {}
    return {}


@contextmanager
def _same_signal_handlers() -> Iterator[None]:
    """Keep Ray from replacing the handler of SIGTERM, after which the exit status would be 15."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _forward(future: Future[Any], end: float | None, done: Future[Any]) -> None:
    """Pass on what a task of Ray returned, and say in plain words how its worker was lost.

    Args:
        future: Gets it.
        end: Time after which a task's process is ended.
        done: The future of Ray.
    """
    from ray import exceptions

    error = done.exception()
    if error is None:
        future.set_result(done.result())
        return
    if isinstance(error, exceptions.OutOfMemoryError):
        error = WorkerLostError("Ray ended its process, because its node was out of memory")
    elif isinstance(error, exceptions.WorkerCrashedError):
        error = TimeoutError()  # of `faulthandler`
        if end is None or time.monotonic() < end:
            error = WorkerLostError(KILLED)
    elif isinstance(error, (exceptions.NodeDiedError, exceptions.LocalRayletDiedError)):
        error = WorkerLostError("its node was lost")
    elif missing := _MISSING.search(str(error)):
        error = ImportError(f"{missing[0]}; install the same packages on all nodes")
    elif isinstance(error, exceptions.RayTaskError) and isinstance(error.cause, Exception):
        error = error.cause
    future.set_exception(error)


def _run_in_worker(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    limit: tuple[float, float] | None,
    cores: float,
) -> Any:
    """Run a function in a worker of Ray.

    Args:
        function: The function.
        arguments: Its arguments.
        limit: Seconds after which it is interrupted, and after which its process is ended.
        cores: Number of CPU cores of the task.
    """
    from lift.runtime.distributed import clear_ranks
    from lift.runtime.kept_networks import keep_networks

    clear_ranks()  # srun starts nodes of Ray, too, and leaves its variables to the workers
    os.environ.setdefault("NUMBA_NUM_THREADS", str(max(1, int(cores))))
    keep_networks()
    with _time_limit(limit):
        return function(*arguments)


class _TimeIsUpError(BaseException):
    """A task took too long. What handles `Exception` does not handle this."""


@contextmanager
def _time_limit(limit: tuple[float, float] | None) -> Iterator[None]:
    """Interrupt the block after a time. End the process later if that does not help."""
    if limit is None:
        yield
        return
    before = signal.signal(signal.SIGALRM, _raise_time_is_up)
    faulthandler.dump_traceback_later(limit[1], exit=True)  # if a loop in C holds Python
    signal.setitimer(signal.ITIMER_REAL, limit[0])
    try:
        yield
    except _TimeIsUpError:
        raise TimeoutError from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def _raise_time_is_up(*_: object) -> None:
    raise _TimeIsUpError


def _read_options(options: Mapping[str, str]) -> tuple[dict[str, float], bool]:
    """Read what a task needs, and whether nodes may be added later."""
    needs: dict[str, float] = {}
    autoscale = False
    for key, value in options.items():
        if key == "autoscale":
            if value not in ("true", "false"):
                raise ComponentError(f"--engine-option is {key}={value}; choose true or false")
            autoscale = value == "true"
        elif key in _RESOURCES:
            needs[key] = _read_number(key, value)
        elif key != "address":
            choices = ", ".join(("address", *_RESOURCES, "autoscale"))
            raise ComponentError(f"--engine-option is {key}={value}; choose one of {choices}")
    return needs, autoscale


def _read_number(key: str, value: str) -> float:
    """Read a number of cores, of GPUs or of bytes, as Ray takes it."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if key == "num_cpus" and not 0 < number < 1e6:
        raise ComponentError(f"--engine-option is {key}={value}; choose a number above 0")
    if not 0 <= number < 1e15:
        raise ComponentError(f"--engine-option is {key}={value}; choose a number of at least 0")
    if key != "memory" and number > 1 and not number.is_integer():
        raise ComponentError(f"--engine-option is {key}={value}; choose a whole number above 1")
    return number


def _choose_needs(
    needs: Mapping[str, float], nodes: Sequence[Mapping[str, float]], autoscale: bool
) -> dict[str, float]:
    """Complete what a task needs.

    Args:
        needs: What the user chose.
        nodes: Resources of each node.
        autoscale: Whether nodes may be added later.

    Returns:
        What a task needs, with `num_cpus` and `num_gpus`.

    Raises:
        ComponentError: No node has that.
    """
    chosen = dict(needs)
    chosen.setdefault("num_gpus", 1.0 if any(node.get("GPU") for node in nodes) else 0.0)
    fitting = [node for node in nodes if _count_tasks(node, chosen)]
    if "num_cpus" not in chosen:
        shares = [node.get("CPU", 0.0) // max(1.0, node.get("GPU", 0.0)) for node in fitting]
        chosen["num_cpus"] = max(1.0, min(CORES, max(shares, default=CORES)))
    if not autoscale and not any(_count_tasks(node, chosen) for node in nodes):
        wanted = ", ".join(f"{key}={value:g}" for key, value in chosen.items())
        largest = ", ".join(
            f"{key}={max((node.get(name, 0.0) for node in nodes), default=0.0):g}"
            for key, name in _RESOURCES.items()
        )
        raise ComponentError(
            f"a worker needs {wanted}, and no node of the Ray cluster has that; the largest "
            f"values are {largest}. Change --engine-option, or choose autoscale=true"
        )
    return chosen


def _count_tasks(node: Mapping[str, float], needs: Mapping[str, float]) -> int:
    """Return how many tasks a node runs at the same time."""
    counts = [node.get(_RESOURCES[key], 0.0) / value for key, value in needs.items() if value]
    return int(min(counts, default=1.0) + 1e-9)


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ComponentError("--engine ray needs Ray: pip install 'lift[ray]'") from error
    return ray
