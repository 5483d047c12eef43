"""Values of settings: checks against annotations and their ranges, and texts of both.

An annotation may hold metadata of `annotated_types`, such as `Annotated[int, Ge(1)]`. Numbers
without a range are finite, and whole numbers have at most 64 bits. Imports no torch.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from inspect import Parameter
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

MAX_TEXT = 4096
"""Largest number of characters of a text that declares no length."""

MAX_ITEMS = 10_000
"""Largest number of items of a list that declares no length."""

MAX_DEPTH = 20
"""Largest depth of nested lists and dictionaries."""

_INTEGERS = (-(2**63), 2**63 - 1)
"""Range of whole numbers that declare none."""

_MAX_WHOLE = 1e12
"""Floats below are written with all digits if they are whole."""

_MAX_SHOWN = 80
"""Number of characters after which a value in a message is cut."""


class ComponentError(ValueError):
    """A component's name or setting is wrong; the message says what to choose instead."""


_SINGLE_KINDS: dict[Any, Any] = {
    bool: bool,
    int: int,
    float: (int, float),
    str: str,
    Path: (str, Path),
}
"""Types of settings that take one value, and the types of values that they accept."""


@dataclass(frozen=True)
class Limits:
    """What the metadata of an annotation allow. None: not declared."""

    ge: int | float | None = None
    """Lowest number."""
    gt: int | float | None = None
    """Number that all others are above."""
    le: int | float | None = None
    """Highest number."""
    lt: int | float | None = None
    """Number that all others are below."""
    min_length: int | None = None
    """Smallest number of characters or items."""
    max_length: int | None = None
    """Largest number of characters or items."""
    choices: tuple[str, ...] | None = None
    """The texts that are allowed."""

    def contains(self, value: int | float) -> bool:
        """Whether a number is in range. NaN is not; infinity is if the range names it.

        Args:
            value: The number.
        """
        low, high = _INTEGERS if isinstance(value, int) else (-math.inf, math.inf)
        above = low <= value if isinstance(value, int) else low < value
        below = value <= high if isinstance(value, int) else value < high
        if self.ge is not None:
            above = self.ge <= value
        if self.gt is not None:
            above = self.gt < value
        if self.le is not None:
            below = value <= self.le
        if self.lt is not None:
            below = value < self.lt
        return above and below

    def describe(self) -> str:
        """Describe the range of numbers, such as `0 to 1`; empty if there is none."""
        if self.ge is not None and self.le is not None:
            return f"{format_number(self.ge)} to {format_number(self.le)}"
        parts = [
            f"more than {format_number(self.gt)}" if self.gt is not None else "",
            f"{format_number(self.ge)} or more" if self.ge is not None else "",
            f"at most {format_number(self.le)}" if self.le is not None else "",
            f"less than {format_number(self.lt)}" if self.lt is not None else "",
        ]
        return ", ".join(part for part in parts if part)

    def describe_length(self, unit: str) -> str:
        """Describe the range of lengths, such as `1 to 8 values`; empty if there is none.

        Args:
            unit: What is counted.
        """
        low = self.min_length or 0
        if self.max_length is not None:
            return f"{low} to {self.max_length} {unit}"
        return f"at least {low} {unit}" if low else ""


def format_number(value: int | float) -> str:
    """Write a number of a range: whole numbers with all digits, others in short.

    Args:
        value: The number.
    """
    is_whole = math.isfinite(value) and value == int(value) and abs(value) < _MAX_WHOLE
    return f"{int(value)}" if isinstance(value, int) or is_whole else f"{value:g}"


def format_value(value: Any) -> str:
    """Write a value for a message in one line of limited length.

    Args:
        value: Any value of a setting.
    """
    try:
        text = "null" if value is None else repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or a deep list
        text = "a value that is too long to print"
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


def split_annotation(annotation: Any) -> tuple[Any, Limits]:
    """Separate an annotation from its metadata.

    Args:
        annotation: Type of a setting.

    Returns:
        The type without `Annotated`, and what the metadata allow. Those of the items of a list stay
        in the type.
    """
    if get_origin(annotation) is not Annotated:
        return annotation, Limits()
    inner, *metadata = get_args(annotation)
    inner, limits = split_annotation(inner)
    changes: dict[str, Any] = {}
    for item in _flatten(metadata):
        for key in Limits.__dataclass_fields__:
            if (value := getattr(item, key, None)) is not None:
                changes[key] = value
    return inner, replace(limits, **changes)


def plain_annotation(annotation: Any) -> Any:
    """Remove `Annotated` from an annotation and from its parts.

    Args:
        annotation: Type of a setting.
    """
    return get_type_hints(type("Holder", (), {"__annotations__": {"x": annotation}}))["x"]


def format_annotation(annotation: Any) -> str:
    """Write the type of a setting without its range, such as `int | None`.

    Args:
        annotation: Type of the setting.
    """
    plain = plain_annotation(annotation)
    name = getattr(plain, "__name__", None)
    text = name if name and not get_args(plain) else str(plain)
    for before, after in (("typing.", ""), ("pathlib.", ""), ("NoneType", "None")):
        text = text.replace(before, after)
    optional = re.fullmatch(r"Optional\[(.*)\]", text)
    return f"{optional[1]} | None" if optional else text


def describe_range(annotation: Any) -> str:
    """Describe what a setting takes, beside its type.

    Args:
        annotation: Type of the setting.

    Returns:
        Such as `0 to 1`, or `each 0 to 1`; empty if nothing is declared.
    """
    plain, limits = split_annotation(annotation)
    origin = get_origin(plain)
    arguments = [item for item in get_args(plain) if item not in (NoneType, Ellipsis)]
    if limits.choices is not None:
        return _join_or(limits.choices)
    if origin in (Union, UnionType):
        parts = [describe_range(Annotated[item, limits]) for item in arguments]
        return " or ".join(part for part in parts if part)
    if origin in (list, tuple):
        each = describe_range(arguments[0]) if len(set(arguments)) == 1 else ""
        parts = [limits.describe_length("values"), f"each {each}" if each else ""]
        return ", ".join(part for part in parts if part)
    if plain is str or plain is Path:
        return limits.describe_length("characters")
    return limits.describe()


def convert_value(key: str, value: Any, annotation: Any) -> Any:
    """Check a value against an annotation; convert lists to tuples and strings to paths.

    Args:
        key: Name of the setting, for messages.
        value: The value, without nodes of omegaconf.
        annotation: Type of the setting.

    Returns:
        The value for the constructor.

    Raises:
        ComponentError: The value has another type or is out of range.
    """
    plain, limits = split_annotation(annotation)
    origin = get_origin(plain)
    arguments = get_args(plain)
    if plain is Any or plain is Parameter.empty:
        check_nested(key, value)
        return value
    if value is None:
        if plain is NoneType or NoneType in arguments:
            return None
        raise ComponentError(f"{key} is null; {expectation(annotation)}")
    if origin is Literal:
        if value not in arguments:
            raise ComponentError(f"{key} is {format_value(value)}; {expectation(annotation)}")
        return value
    if origin in (Union, UnionType):
        inner = [item for item in arguments if item is not NoneType]
        if len(inner) != 1:
            check_nested(key, value)
            return value
        single, _ = split_annotation(inner[0])
        if single in _SINGLE_KINDS and not _is_kind(value, single):
            raise ComponentError(f"{key} is {format_value(value)}; {expectation(annotation)}")
        return convert_value(key, value, Annotated[inner[0], limits])
    if origin in (list, tuple) or plain in (list, tuple):
        return _convert_items(key, value, annotation)
    if plain in _SINGLE_KINDS:
        return _convert_single(key, value, annotation)
    check_nested(key, value)
    return value


def check_nested(key: str, value: Any, depth: int = 0) -> None:
    """Check a value without annotation: finite numbers, texts of limited length, depth.

    Args:
        key: Name of the setting, for messages.
        value: The value.
        depth: Depth of the value in an outer one.

    Raises:
        ComponentError: Something in it is not allowed.
    """
    if depth > MAX_DEPTH:
        raise ComponentError(f"{key} is nested too deeply; choose at most {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for name, item in value.items():
            check_nested(f"{key}.{name}", item, depth + 1)
    elif isinstance(value, (list, tuple)):
        _check_length(key, value, Limits(), MAX_ITEMS, "values")
        for number, item in enumerate(value):
            check_nested(f"{key}[{number}]", item, depth + 1)
    elif isinstance(value, str):
        _check_text(key, value, Limits())
    elif isinstance(value, (int, float)) and not Limits().contains(value):
        raise ComponentError(f"{key} is {format_value(value)}; choose a finite number")


def _flatten(metadata: Iterable[Any]) -> Iterator[Any]:
    """Yield metadata, and the parts of those that are groups, such as `Len`."""
    for item in metadata:
        if getattr(item, "__is_annotated_types_grouped_metadata__", False):
            yield from _flatten(item)
        else:
            yield item


def _convert_items(key: str, value: Any, annotation: Any) -> Any:
    """Check and convert a list or tuple."""
    plain, limits = split_annotation(annotation)
    kind = get_origin(plain) or plain
    arguments = get_args(plain) or (Any, ...)
    if not isinstance(value, (list, tuple)):
        raise ComponentError(f"{key} is {format_value(value)}; {expectation(annotation)}")
    if kind is tuple and Ellipsis not in arguments and len(value) != len(arguments):
        raise ComponentError(
            f"{key} is {format_value(list(value))}; it takes {len(arguments)} values"
        )
    _check_length(key, value, limits, MAX_ITEMS, "values")
    many = kind is list or Ellipsis in arguments
    return kind(
        convert_value(f"{key}[{number}]", item, arguments[0] if many else arguments[number])
        for number, item in enumerate(value)
    )


def _is_kind(value: Any, kind: Any) -> bool:
    """Whether a value is a number, a text, a path, or true or false, as a setting takes it."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, _SINGLE_KINDS[kind])


def _convert_single(key: str, value: Any, annotation: Any) -> Any:
    """Check and convert a number, a text, a path, or true or false."""
    plain, limits = split_annotation(annotation)
    if not _is_kind(value, plain):
        raise ComponentError(f"{key} is {format_value(value)}; {expectation(annotation)}")
    if plain in (int, float) and not limits.contains(value):
        choice = limits.describe() or "a finite number"
        raise ComponentError(f"{key} is {format_value(value)}; choose {choice}")
    if plain is str or plain is Path:
        _check_text(key, str(value), limits)
    if plain is not Path:
        return value
    if str(value) == "":
        raise ComponentError(f"{key} is empty; choose a path")
    try:
        return Path(str(value)).expanduser()
    except RuntimeError:
        raise ComponentError(
            f"{key} is {format_value(str(value))}, and there is no such home folder; "
            "choose a whole path"
        ) from None


def _check_text(key: str, text: str, limits: Limits) -> None:
    """Check the length, the characters and the choices of a text."""
    if limits.choices is not None and text not in limits.choices:
        choices = ", ".join(limits.choices)
        raise ComponentError(f"{key} is {format_value(text)}; choose one of {choices}")
    _check_length(key, text, limits, MAX_TEXT, "characters")
    if "\0" in text:
        raise ComponentError(f"{key} is {format_value(text)}; leave out the character NUL")


def _check_length(key: str, value: Any, limits: Limits, largest: int, unit: str) -> None:
    """Check the number of characters or items."""
    low = limits.min_length or 0
    high = largest if limits.max_length is None else limits.max_length
    if not low <= len(value) <= high:
        raise ComponentError(f"{key} has {len(value)} {unit}; choose {low} to {high}")


def expectation(annotation: Any) -> str:
    """Say what to choose, for a value of a wrong type.

    Args:
        annotation: Type of the setting.

    Returns:
        Such as `choose a whole number, 1 to 5`.
    """
    plain, limits = split_annotation(annotation)
    origin = get_origin(plain)
    if origin in (Union, UnionType):
        inner = [item for item in get_args(plain) if item is not NoneType]
        if len(inner) == 1:
            return f"{expectation(Annotated[inner[0], limits])}, or null"
    if origin is Literal:
        return f"choose one of {', '.join(map(str, get_args(plain)))}"
    kinds = {bool: "true or false", int: "a whole number", float: "a number", Path: "a path"}
    kind = kinds.get(plain, "a text")
    if origin in (list, tuple) or plain in (list, tuple):
        kind = "a list, such as [A,B]"
    description = describe_range(annotation)
    return f"choose {kind}, {description}" if description else f"choose {kind}"


def _join_or(names: tuple[str, ...]) -> str:
    """Join names with commas and, before the last one, `or`."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
