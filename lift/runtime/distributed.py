"""Several processes that work on one run, or on many: their ranks, devices and agreement.

Processes are started by `lift.runtime.launcher`, by torchrun or by SLURM's srun. They read their
ranks from the environment variables that those set. The main process has rank 0. It prints messages
and exports the results.
"""

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from lift.registry import ComponentError
from lift.runtime.devices import cpu_cores
from lift.runtime.launcher import RANK_VARIABLES, follow_launcher

T = TypeVar("T")

BROADCAST_TIMEOUT = timedelta(days=30)
"""How long processes wait for the main process, which may itself wait for another run."""

_WARM_UP_ELEMENTS = 2**23
"""Number of float32 values in the all-reduce that makes NCCL set up its links."""


@dataclass(frozen=True)
class ProcessInfo:
    """Ranks of this process, among all processes and among those of its machine."""

    rank: int = 0
    """Index among all processes."""
    world_size: int = 1
    """Number of all processes."""
    local_rank: int = 0
    """Index among the processes of this machine."""
    local_world_size: int = 1
    """Number of processes of this machine."""


def process_info() -> ProcessInfo:
    """Read the ranks of this process from the environment.

    Returns:
        The ranks that torchrun set, else those that srun set as Lightning reads them. Without
        either this is the only process.
    """
    get = os.environ.get
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        world_size = int(os.environ["WORLD_SIZE"])
        return ProcessInfo(
            int(os.environ["RANK"]),
            world_size,
            int(get("LOCAL_RANK", 0)),
            int(get("LOCAL_WORLD_SIZE", world_size)),
        )
    if (
        "SLURM_NTASKS" in os.environ
        and "SLURM_PROCID" in os.environ
        and get("SLURM_JOB_NAME") not in ("bash", "interactive")
    ):
        world_size = int(os.environ["SLURM_NTASKS"])
        return ProcessInfo(
            int(os.environ["SLURM_PROCID"]),
            world_size,
            int(get("SLURM_LOCALID", 0)),
            int(get("SLURM_NTASKS_PER_NODE", world_size)),
        )
    return ProcessInfo()


def clear_ranks() -> None:
    """Make this process count as the only one from here on, for Lightning, too."""
    for name in RANK_VARIABLES:
        os.environ.pop(name, None)
    from lightning_utilities.core.rank_zero import rank_zero_only

    # Lightning reads its rank when it is imported. With another rank it would write no logs.
    rank_zero_only.rank = 0  # pyright: ignore[reportFunctionMemberAccess]


def bind_device(process: ProcessInfo, gpus: list[int] | None = None) -> None:
    """Bind this process to its GPU and to its part of the CPU's cores.

    Call it before numba is imported. A launched process also ends when its launcher does.

    Args:
        process: Ranks of this process.
        gpus: GPU index of each process of this machine; by default the local rank is the index.
    """
    follow_launcher()
    if process.local_world_size > 1:
        # srun has divided the cores already.
        divisor = 1 if "SLURM_CPUS_PER_TASK" in os.environ else process.local_world_size
        os.environ.setdefault("NUMBA_NUM_THREADS", str(max(1, cpu_cores() // divisor)))
    if process.local_world_size > 1 or gpus not in (None, [0]):
        import torch

        if process.local_world_size > 1:
            torch.set_num_threads(int(os.environ["NUMBA_NUM_THREADS"]))
        if count := torch.cuda.device_count():
            index = process.local_rank
            if gpus and process.local_rank < len(gpus):
                index = gpus[process.local_rank]
            torch.cuda.set_device(index % count)  # srun may show each process only its own GPU


def connect(process: ProcessInfo, cuda: bool) -> None:
    """Connect the processes, once.

    NCCL (CUDA) or gloo (CPU) serves the training. A second gloo group serves `broadcast`.

    Args:
        process: Ranks of this process.
        cuda: Whether the processes train on CUDA devices.
    """
    global _control
    import torch.distributed

    if process.world_size == 1 or torch.distributed.is_initialized():
        return
    set_main_address()
    device = torch.device("cuda", torch.cuda.current_device()) if cuda else None
    torch.distributed.init_process_group(
        "nccl" if cuda else "gloo",
        rank=process.rank,
        world_size=process.world_size,
        device_id=device,
    )
    if cuda:
        # NCCL sets up its links at the first collective call, which takes half a second.
        torch.distributed.all_reduce(torch.zeros(_WARM_UP_ELEMENTS, device=device))
    _control = torch.distributed.new_group(backend="gloo", timeout=BROADCAST_TIMEOUT)
    atexit.register(_disconnect)


def _disconnect() -> None:
    """Destroy the process groups; NCCL warns if a process ends without this."""
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def set_main_address() -> None:
    """Set MASTER_ADDR and MASTER_PORT for processes that srun started. torchrun has set them.

    Raises:
        ComponentError: SLURM's variables are inconsistent.
    """
    if "RANK" not in os.environ:
        from pytorch_lightning.plugins.environments import (
            SLURMEnvironment,  # pyright: ignore[reportPrivateImportUsage]
        )

        try:
            cluster = SLURMEnvironment(auto_requeue=False)
        except RuntimeError as error:
            raise ComponentError(str(error)) from None
        os.environ["MASTER_ADDR"] = cluster.main_address
        os.environ["MASTER_PORT"] = str(cluster.main_port)


_control: Any = None
"""The gloo group of `broadcast`; None if this is the only process."""


def broadcast(value: T) -> T:
    """Return the main process's value on all processes; all have to call.

    Args:
        value: Any value that can be pickled. Only that of the main process is used.
    """
    if _control is None:
        return value
    import torch.distributed

    box = [value]
    torch.distributed.broadcast_object_list(box, src=0, group=_control)
    return box[0]


@contextmanager
def main_process_first(process: ProcessInfo) -> Iterator[None]:
    """Let the main process run the block before the other processes do.

    Args:
        process: Ranks of this process.
    """
    if process.rank > 0:
        broadcast(None)
    yield
    if process.rank == 0:
        broadcast(None)
