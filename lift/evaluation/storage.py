"""Store results of an evaluation."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

_ROW_KEYS = {"key", "scene", "seed", "run", "views", "depth", "cameras", "stages"}
"""Entries of a complete result of a task."""


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


def publish(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file under a temporary name, and rename it.

    Args:
        path: The file.
        write: Writes the content to the path that it receives.
    """
    draft = path.with_name(f".{os.getpid()}-{path.name}")
    write(draft)
    draft.replace(path)


def to_json(settings: DictConfig) -> dict[str, Any]:
    """Convert settings to JSON-like values.

    Args:
        settings: The settings. A path stands for itself, not for the content of the file.

    Returns:
        Nested dictionaries and lists.
    """
    return json.loads(json.dumps(OmegaConf.to_container(settings, resolve=True), default=str))
