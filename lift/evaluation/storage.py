"""Store results of an evaluation."""

import json
import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lift.runtime.cache import hash_key

_ROW_KEYS = {"key", "scene", "seed", "run", "views", "depth", "cameras", "stages"}
"""Entries of a complete result of a task."""

_MAX_NAME = 100
"""Largest number of characters of a label in the name of a folder."""


def task_name(scene: str, seed: int) -> str:
    """Return the name of a task's files, without a suffix.

    Args:
        scene: Name of the scene.
        seed: Seed of the run.
    """
    return f"{scene.replace('/', '-')}-{seed}"


def evaluation_folder(output: str, name: str) -> Path:
    """Return the folder of an evaluation or of a joint table.

    Args:
        output: The setting `output`.
        name: Name of the evaluation or of the table. An empty one returns the folder of all.
    """
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
        The result. None if the file does not exist or is incomplete.
    """
    try:
        row = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return row if isinstance(row, dict) and row.keys() >= _ROW_KEYS else None


def to_json(settings: DictConfig) -> dict[str, Any]:
    """Convert settings to JSON-like values.

    Args:
        settings: The settings. A path stands for itself, not for the content of the file.

    Returns:
        Nested dictionaries and lists.
    """
    return json.loads(json.dumps(OmegaConf.to_container(settings, resolve=True), default=str))
