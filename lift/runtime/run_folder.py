"""The folders of runs: which jobs of a multirun would share one, and who may write to it."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lift.config import read_image_setting
from lift.io.names import safe_name, user_path
from lift.registry import SLOTS, catalogue
from lift.remote.urls import file_name, is_url, local_output

MULTIRUN = "LIFT_MULTIRUN"
"""Environment variable: identifier of the multirun that this process belongs to."""

JOB = "LIFT_MULTIRUN_JOB"
"""Environment variable: number of the job within its multirun."""

_NOT_IN_KEY = ("name", "output", "deliver", "export", "device", "cache", "preview", "redeliver")
"""Settings that the name of an unnamed run does not depend on."""


def claim_run_folder(folder: Path) -> None:
    """Take possession of a run's folder within a multirun, before anything is written to it.

    Jobs may be in different processes, on different machines. A job that runs again keeps its
    folder. Without a multirun nothing happens.

    Args:
        folder: The folder, which exists.

    Raises:
        ValueError: Another job of the same multirun has the folder.
    """
    multirun = os.environ.get(MULTIRUN)
    if multirun is None:
        return
    job = os.environ.get(JOB, "")
    claim = folder / f".multirun-{multirun}"
    draft = folder / f".multirun-draft-{os.getpid()}"
    draft.write_text(job, encoding="utf-8")
    try:
        os.link(draft, claim)  # only the first job succeeds
    except FileExistsError:
        owner = claim.read_text(encoding="utf-8")
        if owner != job:
            raise ValueError(
                f"{folder} has the result of job {owner} of this multirun, and this job has the "
                f"same name; {how_to_vary_names([])}"
            ) from None
    finally:
        draft.unlink()
    for earlier in folder.glob(".multirun-*"):
        if earlier != claim:
            earlier.unlink(missing_ok=True)


def how_to_vary_names(swept: Sequence[str]) -> str:
    """Say how each job of a multirun gets a name of its own.

    Args:
        swept: Names of the settings that differ between the jobs; nothing if they are not known.
    """
    example = next((key for key in swept if key != "name"), "SETTING")
    example = f"{example}.name" if example in SLOTS else example
    return (
        f"let the name vary in a YAML file of your own (docs/configuration): name: x-${{{example}}}"
    )


def shared_run_folder(configs: Sequence[DictConfig]) -> tuple[list[int], str] | None:
    """Find jobs that would write to one folder.

    Args:
        configs: Configurations of all jobs.

    Returns:
        Numbers of jobs that share a folder, and the folder as far as it is known. None if all
        folders differ.
    """
    jobs: dict[tuple[str, str], list[int]] = {}
    for number, config in enumerate(configs):
        parent = local_output(config).absolute() / run_title(read_image_setting(config))
        name = config.name or describe_unnamed(config)
        jobs.setdefault((os.path.normpath(parent), name), []).append(number)
    for (parent, name), numbers in jobs.items():
        if len(numbers) > 1:
            folder = Path(parent) / name if configs[numbers[0]].name else Path(parent)
            return numbers, os.path.relpath(folder)
    return None


def run_title(image: str | tuple[str, ...]) -> str:
    """Return the name of the folder that holds all runs on an image.

    Args:
        image: The setting `image`.
    """
    if isinstance(image, tuple):
        first = file_name(image[0]) if is_url(image[0]) else image[0]
        return safe_name(f"{Path(first).stem}-and-{len(image) - 1}-more")
    if is_url(image):
        return safe_name(Path(file_name(image)).stem)
    path = user_path(image)
    return safe_name(path.resolve().name or "pictures" if path.is_dir() else path.stem)


def describe_unnamed(config: DictConfig) -> str:
    """Return text that is the same for two configurations whose runs get the same name.

    Args:
        config: Configuration of a run.
    """
    settings: Any = OmegaConf.to_container(config, resolve=True)
    for key in _NOT_IN_KEY:
        settings.pop(key, None)
    settings["trainer"].pop("devices", None)
    entries = {slot: catalogue()(slot, settings[slot]["name"]) for slot in SLOTS}
    for slot, entry in entries.items():
        for key in entry.cost_settings:
            settings[slot].pop(key, None)
    if entries["prior"].has_recorded_frames and not entries["planner"].hints_recorded_frames:
        settings.pop("planner")
    return json.dumps(settings, sort_keys=True, default=str)
