"""Messages for values of a wrong kind, where OmegaConf finds them and not the registry."""

import re
from dataclasses import fields, is_dataclass
from typing import Any, get_args

from lift.config.setting_types import setting_annotation
from lift.registry import ALL_SLOTS, catalogue
from lift.registry.values import expectation, format_value, split_annotation

_KEY = re.compile(r"full_key: (\w+(?:\.\w+)*)((?:\[\d+\])?)")
_OWNER = re.compile(r"object_type=(\w+)Config\b")
_FILE = re.compile(r"In '([^']+)'")
_OVERRIDE = re.compile(r"Error merging override \+{0,2}([\w.]+)=(.*?) \(", re.S)
_VALUE = re.compile(
    r"Value '(.*)' (?:of type|is not a valid bool \(type) '?(\w+)|value: (.*?) full_key:"
)
_IS_NULL = "is not Optional"
_WRONG_KIND = re.compile(
    rf"could not be converted to|is not a valid bool|{_IS_NULL}|Invalid value assigned"
    r"|Invalid type assigned|Cannot merge (DictConfig with ListConfig|ListConfig with DictConfig)"
)
"""Parts of OmegaConf's messages about a value that is no number, no list or no group."""


def describe_wrong_kind(text: str) -> str | None:
    """Translate a message of OmegaConf about a value of a wrong kind.

    Args:
        text: The message in one line, with that of its cause.

    Returns:
        A line with the setting, its value and its range. None if it is another message, or if the
        setting is not known.
    """
    match = _KEY.search(text)
    if match is None or not _WRONG_KIND.search(text):
        return None
    key, index = match.groups()
    choice = _choice(key, index, text)
    if choice is None:
        return None
    file = _FILE.match(text)
    where = f"in {file[1]}: " if file else ""
    return f"{where}{key}{index} is {_read_value(key, text)}; {choice}"


def _choice(key: str, index: str, text: str) -> str | None:
    """Say what to choose for a setting, or an item of a list; None if there is none."""
    owner = _OWNER.search(text)
    slot, _, name = key.partition(".")
    annotation: Any = setting_annotation(key)
    schema = owner[1] if owner else ""
    for entry in catalogue().entries[slot].values() if slot in ALL_SLOTS else ():
        if entry.name.title() == schema and name in entry.settings:
            annotation = entry.settings[name].annotation
    if annotation is None:
        return None
    if index:
        items = get_args(split_annotation(annotation)[0])
        if type(None) in items:  # a list, or null
            lists = [item for item in items if item is not type(None)]
            items = get_args(split_annotation(lists[0])[0])
        return expectation(items[0]) if items else None
    if is_dataclass(annotation):
        return f"it is a group; set one of its settings, such as {key}.{fields(annotation)[0].name}"
    return expectation(annotation)


def _read_value(key: str, text: str) -> str:
    """Read the value from the message."""
    if _IS_NULL in text:
        return "null"
    if match := _VALUE.search(text):
        return match[3] or (format_value(match[1]) if match[2] == "str" else match[1])
    override = _OVERRIDE.match(text)
    return override[2] if override and override[1] == key else "of another kind"
