"""Store results of an evaluation."""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lift.config.delivery_schema import MINIMAL
from lift.io.names import safe_name
from lift.registry import ComponentError
from lift.remote.urls import is_url
from lift.runtime.atomic_io import acquire, make_folder, open_lock, publish
from lift.runtime.cache import hash_key
from lift.runtime.integrity import checksum, is_sealed, seal

COSTS = ("cache", "deliver", "redeliver")
"""Settings of a run that only save time or disk."""

_ROW_KEYS = {"key", "scene", "seed", "run", "views", "depth", "cameras", "stages"}
"""Entries of a complete result of a task."""

_SEALS = ("checksum", "sheet")
"""Entries of a stored result that are there to find damage."""

_MAX_NAME = 100
"""Largest number of characters of a label in the name of a folder."""


def task_name(scene: str, seed: int) -> str:
    """Return the name of a task's files, without a suffix.

    Args:
        scene: Name of the scene.
        seed: Seed of the run.
    """
    return f"{safe_name(scene.replace('/', '-'))}-{seed}"


def evaluation_folder(output: str, name: str) -> Path:
    """Return the folder of an evaluation or of a joint table.

    Args:
        output: The setting `output`.
        name: Name of the evaluation or of the table. An empty one returns the folder of all.
    """
    if is_url(output):
        raise ComponentError(
            f"output is {output!r}, but evaluations are written to local folders; choose "
            "output=FOLDER"
        )
    return Path(output) / "eval" / name


def folder_name(label: str) -> str:
    """Turn the label of a row into the name of a folder.

    Args:
        label: Any text.

    Returns:
        The label, if it is a short name of common characters. Otherwise a shorter one with a hash.
    """
    name = re.sub(r"[^\w.=,+\[\]-]+", "_", label)[:_MAX_NAME].lstrip(".")
    return name if name == label else f"{name}-{hash_key(label)[:6]}"


def read_row(file: Path) -> dict[str, Any] | None:
    """Read the result of a task.

    Args:
        file: The task's JSON file.

    Returns:
        The result. None if the file or its picture does not exist, is incomplete or is damaged.
    """
    try:
        row = json.loads(file.read_text(encoding="utf-8"))
        picture = checksum(file.with_suffix(".png"))
    except (OSError, ValueError):
        return None
    if not isinstance(row, dict) or not row.keys() >= _ROW_KEYS:
        return None
    if "checksum" in row and (not is_sealed(row) or row.get("sheet") != picture):
        return None
    return {key: value for key, value in row.items() if key not in _SEALS}


def load_row(file: Path) -> dict[str, Any]:
    """Read the result of a task that has just been measured or found.

    Args:
        file: The task's JSON file.

    Raises:
        ValueError: It has been damaged since.
    """
    row = read_row(file)
    if row is None:
        raise ValueError(f"{file} or its picture is damaged; run the same command again")
    return row


def write_row(file: Path, row: Mapping[str, Any], draw: Callable[[Path], Any]) -> None:
    """Write the result of a task and its picture. The result comes last, so it is complete.

    Args:
        file: The task's JSON file.
        row: The result.
        draw: Writes the picture to the path that it receives.
    """
    picture = file.with_suffix(".png")
    publish(picture, draw)
    write_sealed(file, {**row, "sheet": checksum(picture)})


def write_sealed(file: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file with a checksum.

    Args:
        file: The file. Its folder exists.
        content: A JSON-like dictionary.
    """
    text = json.dumps(seal(content), indent=1) + "\n"
    publish(file, lambda draft: draft.write_text(text, encoding="utf-8"))


def read_sealed(file: Path) -> Any:
    """Read a JSON file, and compare its checksum if it has one.

    Args:
        file: The file.

    Returns:
        Its content without the checksum.

    Raises:
        ValueError: It is damaged or no JSON.
    """
    advice = "repeat the command that wrote it, which finds its results"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}; {advice}") from None
    if not isinstance(content, dict) or "checksum" not in content:
        return content
    if not is_sealed(content):
        raise ValueError(f"{file} is damaged (its checksum differs); {advice}")
    return {key: value for key, value in content.items() if key != "checksum"}


@contextmanager
def task_lock(file: Path) -> Iterator[None]:
    """Hold a lock in the block, and wait for it before.

    Args:
        file: File of the lock. Its folder is created.
    """
    make_folder(file.parent)
    lock = open_lock(file)
    acquire(lock, lambda: None)
    try:
        yield
    finally:
        lock.release()


def run_settings(config: DictConfig) -> dict[str, Any]:
    """Convert the settings of a run to JSON-like values, without those that only save time or disk.

    Args:
        config: Configuration of the run.

    Returns:
        Nested dictionaries and lists.
    """
    return {key: value for key, value in to_json(config).items() if key not in COSTS}


def figure_settings(config: DictConfig, ignored: Collection[str]) -> dict[str, Any]:
    """Convert the settings of a run that figures depend on to JSON-like values.

    Args:
        config: Configuration of the run.
        ignored: Names of settings that figures do not depend on. `deliver.keep=minimal` is added
            all the same, because the figures of a lossy scene differ a little.

    Returns:
        Nested dictionaries and lists.
    """
    settings = {key: value for key, value in to_json(config).items() if key not in ignored}
    is_lossy = config.deliver.keep == MINIMAL
    return {**settings, "deliver": MINIMAL} if is_lossy else settings


def to_json(settings: DictConfig) -> dict[str, Any]:
    """Convert settings to JSON-like values.

    Args:
        settings: The settings. A path stands for itself, not for the content of the file.

    Returns:
        Nested dictionaries and lists.
    """
    return json.loads(json.dumps(OmegaConf.to_container(settings, resolve=True), default=str))
