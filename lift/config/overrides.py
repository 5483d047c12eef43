"""Overrides of the command line, KEY=VALUE: their names are checked and their values quoted."""

import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

from lift.config.schema import Config, EvalConfig
from lift.registry import ALL_SLOTS, ComponentError, catalogue
from lift.renamed import renamed_setting


def check_setting_name(key: str) -> None:
    """Check that there is a setting of this name. Settings of components are not checked.

    Args:
        key: Dotted name, such as fit.steps.

    Raises:
        ComponentError: There is none; the message names those that exist, or the new name.
    """
    eval_settings = {f.name for f in fields(EvalConfig)}
    node: Any = EvalConfig if key.split(".")[0] in eval_settings else Config
    prefix = ""
    for part in key.split("."):
        if not is_dataclass(node):
            return
        names = [f.name for f in fields(node)]
        if part not in names:
            if new := renamed_setting(key):
                raise ComponentError(f"{key} has a new name; use {new}")
            close = get_close_matches(part, names, 1)
            hint = f"did you mean {prefix}{close[0]}? " if close else ""
            raise ComponentError(
                f"{key} is not a setting; {hint}{prefix.rstrip('.') or 'lift run'} has "
                f"{', '.join(names)}"
            )
        if part in ALL_SLOTS:
            return
        node = get_type_hints(node)[part]
        prefix = f"{prefix}{part}."


def check_overrides(overrides: Sequence[str]) -> None:
    """Check the names of settings, components and experiments, before Hydra reads them.

    Args:
        overrides: Arguments of the command line. Those in Hydra's extended syntax are skipped.

    Raises:
        ComponentError: A name is unknown; the message lists the choices in one line.
    """
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            continue
        if re.fullmatch(r"\w+(\.\w+)*", key) and key.split(".")[0] not in ("hydra", "experiment"):
            check_setting_name(key)
        elif new := renamed_setting(key.lstrip("+")):
            raise ComponentError(f"{key.lstrip('+')} has a new name; use {new}")
        if key == "experiment" and not set("(*$,") & set(value):
            _check_experiment(value)
        if key in ALL_SLOTS and not set("(*$") & set(value):
            for component in value.split(","):
                catalogue()(key, component.strip().strip("'\""))


def _check_experiment(name: str) -> None:
    """Raise ComponentError if there is no experiment of this name."""
    names = sorted(
        path.name[:-5]
        for path in (files("lift.configs") / "experiment").iterdir()
        if path.name.endswith(".yaml")
    )
    if name not in (*names, "null"):
        raise ComponentError(f"experiment is {name!r}; choose one of {', '.join(names)}")


def quote_override(override: str) -> str:
    """Quote the name of a file for Hydra's grammar, which gives brackets and commas a meaning.

    Args:
        override: One argument of the command line.

    Returns:
        The argument; its value is quoted if the setting holds a file name that needs it.

    Raises:
        ComponentError: The argument is an existing file without a key.
    """
    key, equals, value = override.partition("=")
    if not equals and not override.startswith("-") and Path(override).exists():
        raise ComponentError(f"{override!r} is not a setting; did you mean image={override}?")
    if key in ("image", "cameras", "input") or key.endswith((".path", ".targets", ".weights")):
        if value[:1] not in ("'", '"') and (
            Path(value).expanduser().exists() or (key == "input" and re.search(r"[^\w.,/-]", value))
        ):
            return f"{key}={_quote(value)}"
        if key == "image" and value[:1] == "[" and value[-1:] == "]":
            return f"{key}={_quote_list(value)}"
    if key == "protocol.input" and not value.startswith(("'", '"')):
        return f"{key}={_quote(value)}"
    return override


def _quote(value: str) -> str:
    """Put a value in double quotes."""
    escaped = value.replace('"', '\\"')
    return f'"{escaped}"'


def _quote_list(value: str) -> str:
    """Quote the file names of a list, which may contain commas and brackets.

    Args:
        value: The list with its brackets.

    Returns:
        The quoted list, or the value itself if one of the files does not exist.
    """
    parts = value[1:-1].split(",")
    names: list[str] = []
    start = 0
    while start < len(parts):
        candidates = {
            end: ",".join(parts[start:end]).strip() for end in range(len(parts), start, -1)
        }
        end = next(
            (end for end, name in candidates.items() if Path(name).expanduser().is_file()), None
        )
        if end is None:
            return value
        names.append(_quote(candidates[end]))
        start = end
    return f"[{','.join(names)}]"
