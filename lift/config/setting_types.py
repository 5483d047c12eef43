"""Types of settings, read from the schema and from the constructors of components."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from inspect import Parameter
from typing import Any, get_type_hints

from lift.config.evaluation_schema import EvalConfig
from lift.config.schema import ANNOTATION, Config
from lift.config.text import TextType, text_type
from lift.registry import ALL_SLOTS, catalogue
from lift.registry.values import plain_annotation

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
    annotation = _schema_annotation(key)
    return None if annotation is None else text_type(annotation)


def setting_annotation(key: str) -> Any:
    """Find the type of a setting, with its range if only one component has the setting.

    Args:
        key: Dotted name, such as fit.steps or planner.angle.

    Returns:
        Its type. None if there is no such setting, or if components of its slot disagree.
    """
    slot, *path = key.split(".")
    if slot not in ALL_SLOTS:
        return _schema_annotation(key)
    entries = catalogue().entries[slot]
    if len(path) == 3 and path[0] == "settings":  # of a part: distortion.settings.PART.SETTING
        entries = {name: entry for name, entry in entries.items() if name == path[1]}
        path = path[2:]
    if len(path) != 1:
        return None
    found = [e.settings[path[0]].annotation for e in entries.values() if path[0] in e.settings]
    if not found or Parameter.empty in found:
        return None
    if all(annotation == found[0] for annotation in found):
        return found[0]
    plain = [plain_annotation(annotation) for annotation in found]
    return plain[0] if all(annotation == plain[0] for annotation in plain) else None


def chosen_annotation(key: str, chosen: ChosenComponent) -> Any:
    """Find the type of a setting, with the range that the chosen component declares.

    Args:
        key: Dotted name, such as fit.steps or planner.angle.
        chosen: Returns the name of the component that fills a slot.

    Returns:
        Its type; that of `setting_annotation` if the chosen component has no such setting.
    """
    slot, _, name = key.partition(".")
    entry = catalogue().entries[slot].get(chosen(slot) or "") if slot in ALL_SLOTS else None
    if entry is None or name not in entry.settings:
        return setting_annotation(key)
    return entry.settings[name].annotation


@cache
def setting_annotations(schema: type) -> dict[str, Any]:
    """List the settings of a dataclass of the schema.

    Args:
        schema: The dataclass.

    Returns:
        Name -> its type, with the declared range.
    """
    hints = get_type_hints(schema, include_extras=True)
    return {f.name: f.metadata.get(ANNOTATION, hints[f.name]) for f in fields(schema)}


def _schema_annotation(key: str) -> Any:
    """Find the type of a setting that belongs to no component; None if there is none."""
    node: Any = schema_of(key)
    for part in key.split("."):
        annotations = setting_annotations(node) if is_dataclass(node) else {}
        if part not in annotations:
            return None
        node = annotations[part]
    return node


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
