"""Commands that continue what the viewer shows, to copy into a terminal."""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lift.config import compose_run
from lift.config.values import split_choices

OMITTED = ("callbacks", "logger", "name", "planner", "wandb")
"""Settings that a command does not repeat: records of the other run, and its path."""

_PLAIN_ITEM = re.compile(r"[\w./@+-]+( [\w./@+-]+)*")
"""Text that needs no quotes in a list or a dictionary."""


def render_command(run: Path, path: Path) -> str:
    """Return the command that renders a path to a video.

    Args:
        run: Folder of the run.
        path: File of the path.
    """
    target = path.with_suffix(".mp4")
    return shlex.join(["lift", "render", str(run), "--path", str(path), "--to", str(target)])


def run_command(settings: Mapping[str, Any], path: Path, frames: int) -> str:
    """Return the command that makes a new scene of the same input, with frames along a path.

    Args:
        settings: All settings of the finished run, nested.
        path: File of the path. Its first camera is the input view.
        frames: Number of frames to generate.

    Raises:
        ComponentError: The settings are none of this version.
    """
    planner = {
        "planner": "path",
        "planner.path": str(path),
        "planner.unit": "scene",
        "planner.intrinsics": "file",
        "planner.total_frames": str(frames),
    }
    words = [*changed_settings(settings), *(f"{key}={value}" for key, value in planner.items())]
    return shlex.join(["lift", "run", *words])


def changed_settings(settings: Mapping[str, Any]) -> list[str]:
    """Return KEY=VALUE for each setting of a run that differs from its default.

    Args:
        settings: All settings of the run, nested.

    Raises:
        ComponentError: The settings are none of this version.
    """
    kept = {key: value for key, value in settings.items() if key not in OMITTED}
    choices, _ = split_choices({key: value for key, value in kept.items() if key != "image"})
    config = compose_run(choices, {"image": "none"})
    defaults = OmegaConf.to_container(config, resolve=True)
    usual = OmegaConf.to_container(compose_run([], {"image": "none"}), resolve=True)
    assert isinstance(defaults, dict) and isinstance(usual, dict)
    named = [choice for choice in choices if not _is_default(dict(usual), choice)]
    words = [f"image={_write(kept['image'])}", *named]
    for key, value in kept.items():
        if key != "image" and key in defaults:
            words.extend(_differences(key, value, defaults.get(key)))
    return words


def _is_default(defaults: Mapping[Any, Any], choice: str) -> bool:
    """Whether SLOT=NAME is what a run without it has."""
    slot, _, name = choice.partition("=")
    value = defaults.get(slot)
    return isinstance(value, Mapping) and value.get("name") == name


def _differences(key: str, value: Any, default: Any) -> Iterator[str]:
    """Yield KEY=VALUE of settings that differ."""
    if isinstance(value, Mapping) and isinstance(default, Mapping):
        for inner, item in value.items():
            if inner != "name":
                yield from _differences(f"{key}.{inner}", item, default.get(inner))
    elif value != default:
        yield f"{key}={_write(value)}"


def _write(value: Any) -> str:
    """Write a value as it is typed on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(_write_item(item) for item in value)}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{_write_item(item)}' for key, item in value.items())}}}"
    return str(value)


def _write_item(value: Any) -> str:
    """Write an item of a list or a dictionary. Text with commas or brackets gets quotes."""
    if not isinstance(value, str) or _PLAIN_ITEM.fullmatch(value):
        return _write(value)
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(value, Quote.double).with_quotes()
