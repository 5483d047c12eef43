"""Start `lift` in several processes of one machine, and report why one of them failed.

`launch` uses torchrun as a library. A launched process ends when its launcher does. The launcher
prints the message of the first process that fails.
"""

import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from lift.runtime.child_process import module_command

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

_PARENT = "LIFT_LAUNCHED_BY"
"""Environment variable: process id of the launcher."""
_TORCHRUN_SIGNALS = "TORCHELASTIC_SIGNALS_TO_HANDLE"
"""Environment variable of torchrun, which it sets for itself."""
_REPORT = "LIFT_REPORT"
"""Environment variable: file in which the first process that fails says why."""

RANK_VARIABLES = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "TORCHELASTIC_RUN_ID",
    "SLURM_NTASKS",
    "SLURM_PROCID",
)
"""Environment variables by which torchrun and srun tell a process its rank."""

_ERROR_DELAY = 2.0
"""Seconds that an unexpected error is held back.

A broken connection mostly follows from the end of another process. The launcher then ends this
process, too, within less time, and the message of the other process is the useful one.
"""


class WorkerError(Exception):
    """A launched process has failed; the message says all that there is to say.

    Args:
        message: Message for the user.
        status: Exit status to pass on.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def standalone_environment() -> dict[str, str]:
    """Return the environment for a helper process.

    The helper has no rank, reports to no launcher, and ends when this process does.
    """
    excluded = (*RANK_VARIABLES, _REPORT)
    inherited = {name: value for name, value in os.environ.items() if name not in excluded}
    return inherited | {_PARENT: str(os.getpid())}


def launch(arguments: list[str], count: int) -> None:
    """Run `lift` in several processes of this machine, and return when all have ended.

    When one process fails, or this process receives a signal to end, all are ended.

    Args:
        arguments: Command line arguments of `lift`.
        count: Number of processes.

    Raises:
        WorkerError: A process failed; the message is that of the first that failed.
        KeyboardInterrupt: The user pressed Ctrl-C.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory(prefix="lift-") as folder:
        report = Path(folder) / "report.json"
        config = LaunchConfig(
            1,
            1,
            count,
            run_id=Path(folder).name,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            monitor_interval=0.1,
            logs_specs=DefaultLogsSpecs(folder),
        )
        variables = {_PARENT: str(os.getpid()), _REPORT: str(report)}
        os.environ.update(variables)
        logging.disable(logging.CRITICAL)  # torchrun logs how it ends the other processes
        try:
            program, *options = module_command("lift", arguments)
            with _restored_signal_handlers():
                elastic_launch(config, program)(*options)
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise WorkerError(
                f"lift: {stopped_message(error.sigval.name)}",
                128 + error.sigval,
            ) from None
        except ChildFailedError as error:
            if report.exists():
                raise WorkerError(**json.loads(report.read_text(encoding="utf-8"))) from None
            raise _unreported_error(error, count) from None
        finally:
            logging.disable(logging.NOTSET)
            for name in variables:
                os.environ.pop(name, None)


@contextmanager
def _restored_signal_handlers() -> Iterator[None]:
    """Put back the handlers that torchrun replaces, and the variable that it sets beside them."""
    is_main_thread = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    was_set = _TORCHRUN_SIGNALS in os.environ
    try:
        yield
    finally:
        for number, handler in before.items():
            if is_main_thread and signal.getsignal(number) is not handler and handler is not None:
                signal.signal(number, handler)
        if not was_set:
            os.environ.pop(_TORCHRUN_SIGNALS, None)


def _unreported_error(error: "ChildFailedError", count: int) -> WorkerError:
    """Describe the end of a process that wrote no report."""
    codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
    # The launcher ends the other processes by SIGTERM, so those did not fail first.
    rank = next((rank for rank, code in codes.items() if code != -signal.SIGTERM), min(codes))
    code = codes[rank]
    if code < 0:
        ending = f"was ended by {signal.Signals(-code).name}"
    else:
        ending = f"ended with status {code}"
    return WorkerError(
        f"lift: process {rank} of {count} {ending}; run the same command again to go on",
        128 - code if code < 0 else code,
    )


def stopped_message(signal_name: str | None = None) -> str:
    """Say that a command was stopped, and how it goes on.

    Args:
        signal_name: The signal that stopped it, such as SIGTERM. None: Ctrl-C.
    """
    cause = f" by {signal_name}" if signal_name else ""
    return f"stopped{cause}; run the same command again to go on"


def is_launched() -> bool:
    """Return whether `launch` of another process started this process."""
    return _REPORT in os.environ


def exit_worker(message: str, status: int, expected: bool) -> NoReturn:
    """End a launched process at once. The launcher prints the message of the first that fails.

    Args:
        message: What the launcher shall print.
        status: Exit status.
        expected: Whether the message is for the user. Other errors may follow from the end of
            another process, so they are held back for `_ERROR_DELAY` seconds.
    """
    if not expected:
        time.sleep(_ERROR_DELAY)
    report = Path(os.environ[_REPORT])
    try:
        draft = report.with_name(f"{os.getpid()}.json")
        draft.write_text(json.dumps({"message": message, "status": status}), encoding="utf-8")
        os.link(draft, report)  # fails if there is a report, and readers see all of it or nothing
    except OSError:
        pass
    sys.stdout.flush()
    os._exit(status)  # does not wait for connections whose other end may be gone


def follow_launcher() -> None:
    """End this process when the process that started it ends, if `launch` or a helper call did."""
    if parent := os.environ.get(_PARENT):
        threading.Thread(target=_watch_parent, args=(int(parent),), daemon=True).start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)
