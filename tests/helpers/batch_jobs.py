"""Files that stand for scenes, so that jobs of a batch take no time."""

import os
import signal
import sys
import time
from pathlib import Path

import psutil

from lift.batch import engine
from lift.batch.records import Record
from lift.batch.tasks import BatchTask, record_errors

JOB = "submitit.core._submit"
"""Module that a job runs."""

if JOB in sys.orig_argv:
    engine.PRELOADED = ()  # files need none of the packages, which take seconds


def find_file(task: BatchTask) -> Record | None:
    """Find the file that stands for a scene."""
    path = _picture(task).with_suffix(".scene")
    return task.record("passed over", result=str(path)) if path.exists() else None


def make_file(task: BatchTask) -> Record:
    """Do what the words of a picture say, then write a file in place of a scene.

    corrupt: fail for good. memory: run out of memory. killed: kill this worker once. job: kill its
    job once. always: kill its job each time. Each call adds a line to `made` beside the picture,
    and each success one to `done`.
    """
    return record_errors(task, lambda: _make_file(task))


def _make_file(task: BatchTask) -> Record:
    picture = _picture(task)
    words = picture.read_text().split()
    tries = _note(picture.with_name("made"), task.title)
    if "corrupt" in words:
        raise ValueError("it is no picture")
    if "memory" in words:
        raise MemoryError
    if "killed" in words and tries == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if "always" in words or ("job" in words and tries == 1):
        next(p for p in psutil.Process().parents() if JOB in p.cmdline()).kill()
        time.sleep(60)
    _note(picture.with_name("done"), task.title)
    result = picture.with_suffix(".scene")
    result.write_text("made")
    return task.record("finished", result=str(result))


def _note(path: Path, word: str) -> int:
    """Add a word to a file; return how often it is there."""
    with path.open("a") as stream:
        stream.write(f"{word}\n")
    return path.read_text().split().count(word)


def _picture(task: BatchTask) -> Path:
    return Path(task.folder, task.image)
