"""Several processes at work on one run, or on many: starting them, who is who, and agreeing.

Processes are started by this module (`launch`, which is torchrun as a library), by torchrun or by SLURM's srun, and know their place
from the environment variables that those set. The first process, rank 0, is the one that speaks and delivers.
"""

import atexit
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from lift.registry import ComponentError

T = TypeVar("T")

_PARENT, _REPORT = "LIFT_LAUNCHED_BY", "LIFT_REPORT"
"""What a launched process is told: the process that started it, and the file in which the first to fail says why."""

_PLACES = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "TORCHELASTIC_RUN_ID",
    "SLURM_NTASKS",
    "SLURM_PROCID",
)

PATIENCE = timedelta(days=30)
"""How long processes wait for what one of them decides, who may himself wait for another run that is making the same."""

_ECHO = 2.0
"""Seconds that an unexpected error is kept back: a broken connection is mostly the echo of another process's end, and the launcher
ends this one, too, within less."""


@dataclass(frozen=True)
class Place:
    """Which of the processes this is: among all, and among those of this machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1


class WorkerError(Exception):
    """What was to be done has failed elsewhere; the message is all there is to say, `status` the exit status to pass on."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def place() -> Place:
    """By torchrun's variables, else by srun's as Lightning reads them; alone if there are neither."""
    get = os.environ.get
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        world = int(os.environ["WORLD_SIZE"])
        return Place(
            int(os.environ["RANK"]),
            world,
            int(get("LOCAL_RANK", 0)),
            int(get("LOCAL_WORLD_SIZE", world)),
        )
    if (
        "SLURM_NTASKS" in os.environ
        and "SLURM_PROCID" in os.environ
        and get("SLURM_JOB_NAME") not in ("bash", "interactive")
    ):
        world = int(os.environ["SLURM_NTASKS"])
        local = int(get("SLURM_NTASKS_PER_NODE", world))
        return Place(int(os.environ["SLURM_PROCID"]), world, int(get("SLURM_LOCALID", 0)), local)
    return Place()


def alone() -> dict[str, str]:
    """The environment of a process that helps this one: it has no part in what others make together, and ends when this one does."""
    return {
        name: value for name, value in os.environ.items() if name not in (*_PLACES, _REPORT)
    } | {_PARENT: str(os.getpid())}


def forget_place() -> None:
    """From here on this process counts as alone, for Lightning, too."""
    for name in _PLACES:
        os.environ.pop(name, None)
    from lightning_utilities.core.rank_zero import rank_zero_only

    rank_zero_only.rank = 0  # looked up once, when Lightning is imported: a process of another rank would write no logs


def devices(trainer: Mapping[str, Any]) -> list[int]:
    """Indices of the devices that the settings `trainer.accelerator` and `trainer.devices` name, one a process.

    devices: a number, a list of GPUs, or auto (or -1) for all GPUs, one on a CPU. Raises ComponentError for anything else.
    """
    accelerator, asked = trainer.get("accelerator", "auto"), trainer.get("devices", "auto")
    wrong = ComponentError(
        f"trainer.devices is {asked!r}; choose a number, auto, or a list of GPUs such as [0,1]"
    )
    listed = asked.split(",") if isinstance(asked, str) and "," in asked else asked
    try:
        named = (
            None
            if listed == "auto"
            else int(listed)
            if isinstance(listed, (int, str))
            else [int(item) for item in listed]
        )
    except (TypeError, ValueError):
        raise wrong from None
    if isinstance(asked, bool) or named in (0, []) or (isinstance(named, int) and named < -1):
        raise wrong
    if accelerator not in ("auto", "cpu", "gpu", "cuda"):
        raise ComponentError(f"trainer.accelerator is {accelerator!r}; choose auto, cpu or gpu")
    if accelerator == "cpu" and named in (None, 1):
        return [0]
    import torch

    count = torch.cuda.device_count()
    if accelerator in ("gpu", "cuda") and count == 0:
        raise ComponentError(
            f"trainer.accelerator is {accelerator!r}, but torch sees no CUDA device; choose trainer=cpu renderer=numba"
        )
    if named == 1:
        return [0]
    if count == 0 or accelerator == "cpu":
        if not isinstance(named, int) or named < 1:
            if named is None:
                return [0]
            raise ComponentError(
                f"trainer.devices is {asked!r}, which names GPUs, and trainer.accelerator is {accelerator!r}; choose a number"
            )
        if named > (cores := _cores()):
            raise ComponentError(
                f"trainer.devices is {named}, processes on a CPU of which {cores} cores can be used; choose 1 to {cores}"
            )
        return list(range(named))
    found = (
        list(range(count if named in (None, -1) else named))
        if not isinstance(named, list)
        else named
    )
    if min(found) < 0 or max(found) >= count or len(set(found)) < len(found):
        raise ComponentError(
            f"trainer.devices is {asked!r}, but torch sees {count} GPUs, 0 to {count - 1}"
        )
    return found


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def settle(here: Place, gpus: list[int] | None = None) -> None:
    """Gives this process its share of the machine: its GPU, of `gpus` or by its local rank, and of the CPU's cores. Call before numba
    is imported. A launched process also ends when its launcher does, however that came about.
    """
    if parent := os.environ.get(_PARENT):
        threading.Thread(target=_follow, args=(int(parent),), daemon=True).start()
    if here.local_world > 1:
        share = max(
            1, _cores() if "SLURM_CPUS_PER_TASK" in os.environ else _cores() // here.local_world
        )  # srun has shared them out already
        os.environ.setdefault("NUMBA_NUM_THREADS", str(share))
    if here.local_world > 1 or gpus not in (None, [0]):
        import torch

        if here.local_world > 1:
            torch.set_num_threads(int(os.environ["NUMBA_NUM_THREADS"]))
        if count := torch.cuda.device_count():
            own = gpus[here.local_rank] if gpus and here.local_rank < len(gpus) else here.local_rank
            torch.cuda.set_device(own % count)  # srun may show each process no GPU but its own


def join(here: Place, cuda: bool) -> None:
    """Connects the processes, once: NCCL for CUDA or gloo for the training, gloo for what else they have to agree on."""
    global _control
    import torch.distributed

    if here.world == 1 or torch.distributed.is_initialized():
        return
    find_main()
    own = {"device_id": torch.device("cuda", torch.cuda.current_device())} if cuda else {}
    torch.distributed.init_process_group(
        "nccl" if cuda else "gloo", rank=here.rank, world_size=here.world, **own
    )
    if cuda:
        torch.distributed.all_reduce(
            torch.zeros(2**23, device=own["device_id"])
        )  # NCCL makes its links at the first: half a second
    _control = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
    atexit.register(
        lambda: torch.distributed.is_initialized() and torch.distributed.destroy_process_group()
    )  # NCCL wants it said


def find_main() -> None:
    """Sets MASTER_ADDR and MASTER_PORT, where the first process is to be met, if srun started us; torchrun has set them."""
    if "RANK" not in os.environ:
        from pytorch_lightning.plugins.environments import SLURMEnvironment

        try:
            cluster = SLURMEnvironment(auto_requeue=False)
        except RuntimeError as error:
            raise ComponentError(str(error)) from None
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = (
            cluster.main_address,
            str(cluster.main_port),
        )


_control: Any = None


def share(value: T) -> T:
    """The first process's value, on all of them; all have to call. A process alone gets its own back."""
    if _control is None:
        return value
    import torch.distributed

    box = [value]
    torch.distributed.broadcast_object_list(box, src=0, group=_control)
    return box[0]


@contextmanager
def first(here: Place) -> Iterator[None]:
    """The first process goes through the block before the others do."""
    if here.rank > 0:
        share(None)
    yield
    if here.rank == 0:
        share(None)


def launch(arguments: list[str], count: int) -> None:
    """Runs `lift` with `arguments` in `count` processes of this machine; returns when all have ended.

    When one fails, or this process is told to end, all are ended. Raises WorkerError with what the first that failed had to say, and
    KeyboardInterrupt after Ctrl-C.
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
        told = {_PARENT: str(os.getpid()), _REPORT: str(report)}
        os.environ.update(told)
        logging.disable(logging.CRITICAL)  # torchrun's account of how it ends the others
        try:
            elastic_launch(config, sys.executable)("-m", "lift", *arguments)
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise WorkerError(
                f"lift: ended by {error.sigval.name}; run the same command again to go on",
                128 + error.sigval,
            ) from None
        except ChildFailedError as error:
            if report.exists():
                raise WorkerError(**json.loads(report.read_text())) from None
            codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
            rank = next(
                (rank for rank, code in codes.items() if code != -signal.SIGTERM), min(codes)
            )  # that is how the others are ended
            code = codes[rank]
            how = (
                f"was ended by {signal.Signals(-code).name}"
                if code < 0
                else f"ended with status {code}"
            )
            raise WorkerError(
                f"lift: process {rank} of {count} {how}; run the same command again to go on",
                128 - code if code < 0 else code,
            ) from None
        finally:
            logging.disable(logging.NOTSET)
            for name in told:
                os.environ.pop(name, None)


def launched() -> bool:
    """Whether `launch` of another process started this one."""
    return _REPORT in os.environ


def fail(message: str, status: int, expected: bool) -> NoReturn:
    """Ends a launched process at once; what the first one says is printed by the launcher. expected: the message is for the user, and
    no echo of another process's end.
    """
    if not expected:
        time.sleep(_ECHO)
    report = Path(os.environ[_REPORT])
    try:
        draft = report.with_name(f"{os.getpid()}.json")
        draft.write_text(json.dumps({"message": message, "status": status}))
        os.link(draft, report)  # fails if there is one, and is never seen half written
    except OSError:
        pass
    sys.stdout.flush()
    os._exit(status)  # without waiting for connections whose other end may be gone


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)
