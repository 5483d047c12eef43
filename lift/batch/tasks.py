"""The work of one task, in a worker process of an engine."""

import hashlib
import os
import platform
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lift.batch.records import Record, read_result
from lift.batch.worker import errors_to_file, start_problem
from lift.errors import format_bug, format_error, is_interrupt, is_transient, is_user_error
from lift.remote.results import share
from lift.remote.urls import local_output
from lift.runtime.atomic_io import acquire, open_lock
from lift.runtime.kept_networks import forget_networks, park_networks
from lift.runtime.quick_import import pause_collector, quick_import

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from lift.remote.views import StoreView
    from lift.runtime.finished import Request


LOCKS = ".batch"
"""Folder below the output with a lock for each picture that a job is making."""


@dataclass(frozen=True, slots=True)
class BatchTask:
    """One picture, and what an engine's worker has to know to make its scene."""

    image: str
    """Its file, URL or name."""
    title: str
    """Its name among the results."""
    settings: tuple[str, ...]
    """Settings of all pictures, and options such as `--config-dir=FOLDER`."""
    own_settings: tuple[str, ...] = ()
    """Settings of this picture only."""
    folder: str = "."
    """Working folder, to which names of files are relative."""
    log: str | None = None
    """File for the worker's messages; None for its standard error."""

    @property
    def key(self) -> tuple[str, ...]:
        """What tells the pictures of a batch apart."""
        return (self.title, *self.own_settings)

    def record(self, state: Any, **values: Any) -> Record:
        """Make a record of this task.

        Args:
            state: As in `Record`.
            **values: Further fields.
        """
        return Record(self.image, self.title, state, list(self.own_settings), **values)


@lru_cache(maxsize=16)
def _compose(settings: tuple[str, ...]) -> "DictConfig":
    """Compose the settings of pictures, once a process."""
    from lift.config import compose_run
    from lift.config.folders import split_config_folders

    folders, rest = split_config_folders(list(settings))
    with pause_collector():
        return compose_run([*folders, *rest, "image=none"])


def configure(task: BatchTask) -> "DictConfig":
    """Return the configuration of a task's run.

    Args:
        task: The task.

    Raises:
        ComponentError: A setting is wrong.
    """
    from lift.config import escape_text

    config = _compose(task.settings + task.own_settings).copy()
    config.image = escape_text(task.image)
    return config


@lru_cache(maxsize=16)
def _shared_request(settings: tuple[str, ...]) -> "Request | None":
    """Describe what pictures with the same settings are asked for.

    None if other settings follow from the picture's name.
    """
    from omegaconf import OmegaConf

    from lift.runtime.finished import Request

    config = _compose(settings)
    return None if "${image" in OmegaConf.to_yaml(config) else Request(config)


def request(task: BatchTask) -> "Request":
    """Return what a task is asked for.

    Args:
        task: The task.
    """
    from lift.runtime.finished import Request

    return _shared_request(task.settings + task.own_settings) or Request(configure(task))


def find_finished(task: BatchTask, view: "StoreView | None" = None) -> Record | None:
    """Find the scene of a task that was finished before.

    Args:
        task: The task.
        view: Knows what stores have. None: they are looked up.

    Returns:
        Its record; None if there is no scene, or if the setting `redeliver` is on.

    Raises:
        ComponentError: A setting is wrong.
    """
    if _compose(task.settings + task.own_settings).redeliver:
        return None
    wanted = request(task)
    find = wanted.find if wanted.url is None else wanted.find_remote
    result = find(task.image, task.title, view)
    return task.record("passed over", result=str(result)) if result else None


def make_scene(task: BatchTask) -> Record:
    """Make the scene of one picture, in a worker.

    Args:
        task: The task.

    Returns:
        What became of it. Errors are in the record.

    Raises:
        KeyboardInterrupt: The worker shall end.
    """
    return run_task(task, lambda: _make_scene(task))


def run_task(task: BatchTask, make: Callable[[], Record]) -> Record:
    """Do the work of one task in a worker: in its folder, with its file for messages.

    Args:
        task: The task.
        make: Does the work.

    Returns:
        What became of it. Errors are in the record.

    Raises:
        KeyboardInterrupt: The worker shall end.
    """
    if problem := start_problem():
        return task.record("failed", error=problem, cause="transient")
    try:
        os.chdir(task.folder)
    except OSError as error:
        problem = f"{platform.node()} cannot use the folder {task.folder}: {error.strerror}"
        return task.record("failed", error=problem, cause="permanent")
    with errors_to_file(task.log):
        try:
            record = record_errors(task, make)
        except BaseException:  # as for an error that may have left networks in any state
            forget_networks()
            raise
        park_networks()
    return record


def record_errors(task: BatchTask, make: Callable[[], Record]) -> Record:
    """Call a function, and turn an error into a record.

    Args:
        task: The task.
        make: Does the work.

    Raises:
        KeyboardInterrupt: The worker shall end.
    """
    start = time.monotonic()
    try:
        record = make()
    except Exception as error:  # an error of any kind must not stop the others
        if is_interrupt(error):
            raise KeyboardInterrupt from error
        if is_user_error(error):
            line = format_error(error)
        else:
            traceback.print_exc()
            line = format_bug(error)
        cause = "transient" if is_transient(error) else "permanent"
        if cause == "transient" or not is_user_error(error):
            forget_networks()  # memory may be short, and they may be in any state
        record = task.record("failed", error=line, cause=cause)
    record.seconds = round(time.monotonic() - start, 3)
    return record


def _find_local(task: BatchTask) -> Path | None:
    """Find a finished run that has to be uploaded."""
    wanted = request(task)
    if wanted.url is None or _compose(task.settings + task.own_settings).redeliver:
        return None
    return wanted.find(task.image, task.title)


def _make_scene(task: BatchTask) -> Record:
    """Make a scene, unless it is there or another job is making it."""
    config = configure(task)
    key = request(task).key(task.image) or hashlib.sha256(repr(task.key).encode()).hexdigest()[:24]
    folder = local_output(config) / LOCKS
    folder.mkdir(parents=True, exist_ok=True)
    lock = open_lock(folder / f"{key}.lock")
    if not acquire(lock):
        return task.record("held")
    try:
        if finished := find_finished(task):  # by the job that had the lock before
            return read_result(finished)
        with quick_import():
            from lift.pipeline import run
            from lift.runtime.release import released_memory

        with released_memory():
            # A local result is there if its upload was interrupted.
            result = _find_local(task) or run(config, task.title)
        assert result is not None, "a worker is a main process"
        record = read_result(task.record("finished", result=str(result)))
        record.result = str(share(config, result))
        return record
    finally:
        (folder / f"{key}.lock").unlink(missing_ok=True)
        lock.release()
