"""An engine for batches that works in this process, and what stands for scenes."""

import os
import signal
import time
from concurrent.futures import Future
from pathlib import Path

import torch

from lift.batch.records import Record
from lift.batch.tasks import BatchTask, record_errors


class InlineEngine:
    """Does each task when it is handed over."""

    capacity = 1

    def __init__(self, *_: object) -> None:
        self.is_closed = False

    def submit(self, function, *arguments, timeout=None) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        self.is_closed = True


def stand_in(task: BatchTask) -> Record:
    """Write a file instead of a scene, as the picture's content asks.

    Each call adds a line to the file `made` beside the picture, and each success one to `done`.
    """
    return record_errors(task, lambda: _stand_in(task))


def _stand_in(task: BatchTask) -> Record:
    picture = Path(task.folder, task.image)
    order = picture.read_text().split()
    _note(picture.with_name("made"), task.title)
    tries = (picture.with_name("made")).read_text().split().count(task.title)
    if order[0] == "corrupt":
        raise ValueError("it is no picture")
    if order[0] == "memory" and tries == 1:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if order[0] == "killed" and tries == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if order[0] == "hangs" and tries <= int(order[1]):
        time.sleep(60)
    if order[0] == "slow":
        time.sleep(float(order[1]))
    _note(picture.with_name("done"), task.title)
    return task.record("finished", result=f"{task.title}.scene")


def _note(path: Path, word: str) -> None:
    with path.open("a") as stream:
        stream.write(f"{word}\n")
