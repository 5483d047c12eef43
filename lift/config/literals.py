"""Values of overrides that hold no text, checked before Hydra reads them.

Hydra's messages of wrong values name neither the range nor what to choose. Deep lists and numbers
of thousands of digits end in errors of its parser.
"""

import re
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from lift.config.text import unquote
from lift.registry import ComponentError
from lift.registry.values import MAX_DEPTH, convert_value, format_value, plain_annotation

_MAX_DIGITS = 400
"""Largest number of digits of a number. More are no number of any setting."""

_DIGITS = re.compile(rf"[\d_]{{{_MAX_DIGITS + 1},}}")
_INTEGER = re.compile(r"[+-]?\d+(_\d+)*")
_FLOAT = re.compile(r"[+-]?((\d[\d_]*\.?[\d_]*|\.[\d_]+)([eE][+-]?\d+)?|inf|nan)", re.I)
_BOOL = {"true": True, "false": False}
_EXTENDED = set("({[*$~!,")
"""Characters of lists, dictionaries, sweeps and interpolations."""


def check_shape(key: str, value: str) -> None:
    """Refuse lists that are nested too deeply and numbers with too many digits.

    Args:
        key: Name of the setting.
        value: What the user typed behind the equals sign.

    Raises:
        ComponentError: The value has such a list or number.
    """
    depth = 0
    for character in value:
        depth += {"[": 1, "{": 1, "(": 1, "]": -1, "}": -1, ")": -1}.get(character, 0)
        if depth > MAX_DEPTH:
            raise ComponentError(f"{key} is nested too deeply; choose at most {MAX_DEPTH} levels")
    if _DIGITS.search(value):
        raise ComponentError(
            f"{key} is {format_value(value)}; choose a number of at most {_MAX_DIGITS} digits"
        )


def check_literal(key: str, value: str, annotation: Any) -> None:
    """Check a value that is one number, or true or false, against the type of its setting.

    Args:
        key: Name of the setting.
        value: What the user typed behind the equals sign. Lists, sweeps and interpolations are
            left to Hydra.
        annotation: Type of the setting.

    Raises:
        ComponentError: The value has another type or is out of range.
    """
    text = unquote(value)
    if not _EXTENDED & set(text) and text != "???":
        check_number(key, _parse(text), annotation)


def check_number(key: str, parsed: Any, annotation: Any) -> None:
    """Check a value of a setting that takes a number, or true or false; others are not checked.

    Args:
        key: Name of the setting.
        parsed: The value.
        annotation: Type of the setting.

    Raises:
        ComponentError: The value has another type or is out of range.
    """
    members = _members(plain_annotation(annotation))
    if not members & {int, float, bool} or not members <= {int, float, bool, NoneType}:
        return
    if isinstance(parsed, float) and float not in members and parsed.is_integer():
        parsed = int(parsed)
    if members <= {bool, NoneType} and not isinstance(parsed, float):
        return  # Hydra also knows yes, no, on, off, 0 and 1
    convert_value(key, parsed, annotation)


def _members(plain: Any) -> set[Any]:
    """Return the types of a union, or the type itself."""
    return set(get_args(plain)) if get_origin(plain) in (Union, UnionType) else {plain}


def _parse(text: str) -> Any:
    """Read a number, true, false or null as Hydra does; other text stays as it is."""
    if text == "null":
        return None
    if text.lower() in _BOOL:
        return _BOOL[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
