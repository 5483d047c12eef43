"""Scenes that a batch makes in a moment: real locks, records and manifests, but no Gaussians.

Workers of an engine import this module. The name of a picture says what its tries do.
"""

import os
import signal
import sys
import time
import types
from pathlib import Path
from typing import Any

import ray
import torch

from lift.batch import tasks
from lift.batch.records import Record
from lift.batch.tasks import BatchTask
from lift.runtime.finished import REQUEST, request_key

LOG = "tries.log"
"""File of the output folder: a line for each try that began, and for each scene."""

SECONDS = 0.2


def make_quick_scene(task: BatchTask) -> Record:
    """Do what a worker does, with `make_files` in the place of the pipeline."""
    pipeline: Any = types.ModuleType("lift.pipeline")
    pipeline.run = make_files
    sys.modules["lift.pipeline"] = pipeline
    try:
        return tasks.make_scene(task)
    finally:
        del sys.modules["lift.pipeline"]


def make_files(config: Any, title: str) -> Path:
    """Write the files of a scene, or fail as the name of the picture says."""
    from lift.io.image import read_image
    from lift.runtime.atomic_io import publish_folder
    from lift.runtime.integrity import write_manifest

    output = Path(config.output)
    tries = write_line(output, "begins", title)
    read_image(Path(config.image))
    if tries == 1 and "killed" in title:  # as by the kernel if memory is short
        os.kill(os.getpid(), signal.SIGKILL)
    if tries == 1 and "full" in title:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if "hangs" in title:
        write_line(output, "pid", str(os.getpid()))
        while True:
            time.sleep(0.1)
    if "stuck" in title:  # as in a loop of a library that does not look for signals
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        time.sleep(600)
    wait_on_a_held_node(output, title)
    time.sleep(SECONDS)
    draft = output / title / ".draft"
    draft.mkdir(parents=True, exist_ok=True)
    (draft / "metrics.json").write_text('{"input_psnr": 30.0, "verdict": "good"}')
    (draft / "provenance.json").write_text('{"stages": [], "notes": []}')
    write_manifest(draft, {REQUEST: request_key(config)})
    publish_folder(draft, output / title / "quick")
    write_line(output, "made", title)
    return output / title / "quick"


def hold_node(output: Path, node: str) -> None:
    """Keep the next scene of a node from being made. A line `held` in the log says which it is."""
    (output / f"hold-{node}").touch()


def wait_on_a_held_node(output: Path, title: str) -> None:
    """Wait until the process is ended, if its node is held."""
    if (output / f"hold-{ray.get_runtime_context().get_node_id()}").exists():
        write_line(output, "held", title)
        time.sleep(600)


def write_line(output: Path, event: str, title: str) -> int:
    """Write a line to the log, and return how many it has of this kind."""
    line = f"{event} {title} {ray.get_runtime_context().get_node_id()}\n"
    with (output / LOG).open("a") as stream:
        stream.write(line)
    return sum(parts[:2] == [event, title] for parts in read_log(output))


def read_log(output: Path) -> list[list[str]]:
    """Read the log: event, title and node of each line."""
    path = output / LOG
    return [line.split(" ") for line in path.read_text().splitlines()] if path.is_file() else []
