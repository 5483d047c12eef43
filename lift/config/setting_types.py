"""Types of settings, read from the schema and from the constructors of components."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from inspect import Parameter
from typing import Any, get_type_hints

from lift.config.schema import ANNOTATION, Config, EvalConfig
from lift.config.text import TextType, text_type
from lift.registry import ALL_SLOTS, catalogue

ChosenComponent = Callable[[str], str | None]
"""Returns the name of the component that fills a slot, or None if it is not known."""


def schema_of(key: str) -> type:
    """Return the schema that a setting belongs to: that of `lift eval` or that of a run.

    Args:
        key: Dotted name of the setting.
    """
    return EvalConfig if key.split(".")[0] in {f.name for f in fields(EvalConfig)} else Config


def setting_text_type(key: str, chosen: ChosenComponent) -> TextType | None:
    """Find out which texts a setting takes.

    Args:
        key: Dotted name, such as image or depth.path.
        chosen: Is asked for the component of a slot if the type depends on it.

    Returns:
        Which texts it takes. None if it takes no text, or does not exist.
    """
    slot, *path = key.split(".")
    if slot in ALL_SLOTS:
        return _component_setting(slot, path, chosen)
    node: Any = schema_of(key)
    for part in key.split("."):
        by_name = {f.name: f for f in fields(node)} if is_dataclass(node) else {}
        if part not in by_name:
            return None
        hints = get_type_hints(node)
        node = by_name[part].metadata.get(ANNOTATION, hints[part])
    return text_type(node)


def _component_setting(slot: str, path: list[str], chosen: ChosenComponent) -> TextType | None:
    """Find out which texts a component's setting takes."""
    entries = catalogue().entries[slot]
    if len(path) == 3 and path[0] == "settings":  # of a part: distortion.settings.PART.SETTING
        part = entries.get(path[1])
        setting = part.settings.get(path[2]) if part else None
        return _parameter_type(setting) if setting else None
    if len(path) != 1:
        return None
    types = {
        name: _parameter_type(entry.settings[path[0]])
        for name, entry in entries.items()
        if path[0] in entry.settings
    }
    if len(set(types.values())) == 1:
        return next(iter(types.values()))
    return types.get(chosen(slot) or "")


def _parameter_type(parameter: Parameter) -> TextType | None:
    """Find out which texts a parameter takes, by its annotation or else by its default."""
    if parameter.annotation is parameter.empty and isinstance(parameter.default, str):
        return TextType(single=True)
    return text_type(parameter.annotation)
