"""Run one configuration in this process, or in several processes of this machine.

`lift run` and `lift.run` share `execute_run`. The module imports no torch, because numba and torch
read the number of threads that `distributed.bind_device` sets.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig

from lift.remote.results import share
from lift.remote.store import check_writable
from lift.remote.urls import output_url
from lift.runtime import distributed, launcher
from lift.runtime.devices import device_indices
from lift.runtime.finished import find_finished, find_remote, pass_over
from lift.runtime.folder_settings import check_current_folder
from lift.runtime.profiling import span
from lift.runtime.provenance import run_choices
from lift.runtime.quick_import import quick_import

COMPOSED = "--composed"
"""Option of `lift run` before the file of a composed configuration, for the processes of a run."""

_CHOICES_FILE = "choices.json"
"""File with the names that `lift.run` was called with."""

_FOLDER_FILE = "folder.txt"
"""File in which the main of several processes tells the run's folder."""


def execute_run(config: DictConfig, command: Sequence[str]) -> Path | str | None:
    """Run a configuration on the devices that `trainer.devices` names.

    Args:
        config: Configuration of the run.
        command: Program and arguments that the user typed, for the record of the run.

    Returns:
        The run's folder, or its URL if the output is one. None on a process of torchrun or srun
        that is not the main one.

    Raises:
        WorkerError: A process that was started has failed.
    """
    from lift.config import config_to_yaml

    if distributed.process_info().world_size > 1:  # torchrun or srun started all processes
        return _run_here(config, None)
    if url := find_remote(config):
        return pass_over(url)
    if folder := find_finished(config):
        pass_over(folder)
        return share(config, folder)
    devices = device_indices(config.trainer)
    if len(devices) == 1:
        return _run_here(config, devices)
    with tempfile.TemporaryDirectory(prefix="lift-") as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(config_to_yaml(config), encoding="utf-8")
        choices = json.dumps(run_choices.get())
        (file.parent / _CHOICES_FILE).write_text(choices, encoding="utf-8")
        launcher.launch(["run", COMPOSED, str(file), *command], len(devices))
        result = os.fsdecode((file.parent / _FOLDER_FILE).read_bytes())
        return Path(result) if output_url(config) is None else result


def join_run(file: Path, command: Sequence[str]) -> None:
    """Take part in a run that another process started.

    Args:
        file: The composed configuration.
        command: Program and arguments that the user typed.
    """
    from lift.config import load_config

    sys.argv = list(command)
    choices = json.loads((file.parent / _CHOICES_FILE).read_text(encoding="utf-8"))
    run_choices.set(tuple(choices))
    config = load_config(file)
    folder = _run_here(config, device_indices(config.trainer))
    if folder is not None:
        (file.parent / _FOLDER_FILE).write_bytes(os.fsencode(folder))


@contextmanager
def restore_device() -> Iterator[None]:
    """Make the CUDA device that is current now current again after the block."""
    torch = sys.modules.get("torch")
    before = None
    if torch is not None and torch.cuda.is_available():
        before = torch.cuda.current_device()
    try:
        yield
    finally:
        if torch is not None and before is not None:
            torch.cuda.set_device(before)


def _run_here(config: DictConfig, devices: list[int] | None) -> Path | str | None:
    """Run the pipeline in this process, and upload the result if the output is a URL."""
    check_current_folder()
    if (url := output_url(config)) is not None:
        check_writable(url)
    distributed.bind_device(distributed.process_info(), devices)
    # The import loads numba, which reads the number of threads that `bind_device` has set.
    with quick_import(), span("imports"):
        from lift.pipeline import run

    folder = run(config)
    return None if folder is None else share(config, folder)
