"""Settings as values of Python: names are checked, and texts are taken literally."""

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from lift.config.literals import check_number
from lift.config.overrides import check_setting_name
from lift.config.schema import Config
from lift.config.setting_types import setting_annotation
from lift.config.text import escape_text
from lift.registry import ALL_SLOTS, ComponentError, catalogue
from lift.registry.values import MAX_DEPTH

_GROUPS = (
    "experiment",
    "trainer",
    *(f.name for f in fields(Config) if is_dataclass(f.type) and not hasattr(f.type, "name")),
)
"""Settings whose value, if it is a text, names a file of settings."""


def nest_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted names into nested dictionaries: `{"fit.steps": 5}` into `{"fit": {"steps": 5}}`.

    Args:
        settings: Values by name, nested or dotted. A later one replaces an earlier one.
    """
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        *parents, name = str(key).split(".")
        node = nested
        for parent in parents:
            inner = node.get(parent)
            if not isinstance(inner, dict):
                # The name of a component stays, where settings of the component follow.
                inner = {} if inner is None else {"name": inner}
            node[parent] = inner
            node = inner
        if isinstance(value, Mapping):
            value = nest_settings(value)
            if isinstance(node.get(name), dict):
                value = merge_settings(node[name], value)
        elif name in ALL_SLOTS and isinstance(node.get(name), dict):
            value = {**node[name], "name": value}
        node[name] = value
    return nested


def merge_settings(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Merge nested settings.

    Args:
        old: Nested settings; they are not changed.
        new: Nested settings, which win.
    """
    merged = dict(old)
    for key, value in new.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge_settings(merged[key], value) if both else value
    return merged


def split_choices(settings: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Separate the names of components and of files from the other settings.

    Args:
        settings: Nested settings.

    Returns:
        Overrides `SLOT=NAME` for `compose_run`, and the other settings.

    Raises:
        ComponentError: A slot has neither a name nor a dictionary.
    """
    choices: list[str] = []
    values: dict[str, Any] = {}
    for key, value in settings.items():
        name = None
        if key in ALL_SLOTS or key in _GROUPS:
            name, value = _split_name(key, value)
        if name is not None:
            choices.append(f"{key}={name}")
        if not isinstance(value, dict) or value:
            values[key] = value
    return choices, values


def apply_values(config: DictConfig, values: Mapping[str, Any], prefix: str = "") -> None:
    """Set settings of a configuration.

    Args:
        config: The configuration; it is changed. Where it has a dictionary of a user's own, such as
            `trainer`, keys may be new.
        values: Nested settings. Texts and paths are taken literally.
        prefix: Dotted name of `config` with a dot at its end, if it is a part of a configuration.

    Raises:
        ComponentError: There is no setting of a name.
        OmegaConfBaseException: A value has a wrong type, or a component has no such setting.
    """
    for key, value in values.items():
        name = f"{prefix}{key}"
        check_setting_name(name)
        node = config._get_node(key) if key in config else None
        if isinstance(value, Mapping) and isinstance(node, DictConfig) and not node._is_none():
            apply_values(node, value, f"{name}.")
            continue
        literal = _literal(value, name)
        if isinstance(literal, (int, float)) and (annotation := setting_annotation(name)):
            check_number(name, literal, annotation)
        if OmegaConf.get_type(config) is dict:
            with open_dict(config):
                config[key] = literal
        else:
            config[key] = literal


def _split_name(key: str, value: Any) -> tuple[str | None, dict[str, Any]]:
    """Return the name that a slot or a group is set to, if there is one, and its settings."""
    settings = dict(value) if isinstance(value, Mapping) else {"name": value}
    is_named = "name" in settings
    name = settings.pop("name", None)
    if is_named and not isinstance(name, str):
        kind = "the name of a component" if key in ALL_SLOTS else "the name of a file"
        raise ComponentError(f"{key} is {name!r}; give {kind}, or a dictionary of settings")
    if is_named and key in ALL_SLOTS and not re.fullmatch(r"[\w./-]+", name):
        catalogue()(key, name)  # raises an error that lists the choices
    return name, settings


def _literal(value: Any, name: str, depth: int = 0) -> Any:
    """Convert a value of Python to one that a configuration holds."""
    if depth > MAX_DEPTH:  # a list that holds itself is one, too
        raise ComponentError(f"{name} is nested too deeply; choose at most {MAX_DEPTH} levels")
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str):
        return escape_text(value)
    if isinstance(value, Mapping):
        return {str(key): _literal(item, name, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_literal(item, name, depth + 1) for item in value]
    if not isinstance(value, (bool, int, float, type(None))) and hasattr(value, "item"):
        return value.item()  # a number of numpy or torch
    return value
