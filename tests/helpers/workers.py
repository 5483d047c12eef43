"""Code that runs in several processes."""

import multiprocessing
import os
import socket

import torch
import torch.distributed

from lift.runtime import distributed
from tests.helpers.prefork import PACKAGES


def on_each(function, world: int, kind: str, *arguments) -> None:
    """Call function(rank, world, device, *arguments) in connected processes, one device each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    multiprocessing.set_forkserver_preload([*PACKAGES])  # once for all tests
    torch.multiprocessing.start_processes(
        _enter, (world, port, kind, function, arguments), nprocs=world, start_method="forkserver"
    )


def _enter(rank: int, world: int, port: int, kind: str, function, arguments) -> None:
    variables = {
        "RANK": rank,
        "WORLD_SIZE": world,
        "LOCAL_RANK": rank,
        "LOCAL_WORLD_SIZE": world,
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": port,
    }
    os.environ.update({key: str(value) for key, value in variables.items()})
    here = distributed.process_info()
    assert here == distributed.ProcessInfo(rank, world, rank, world)
    distributed.bind_device(here)
    distributed.connect(here, cuda=kind == "cuda")
    device = (
        torch.device("cuda", torch.cuda.current_device()) if kind == "cuda" else torch.device("cpu")
    )
    assert device.index in (None, rank)
    try:
        function(rank, world, device, *arguments)
    finally:
        torch.distributed.destroy_process_group()
