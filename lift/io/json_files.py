"""Read JSON files of users within bounds of size, of numbers and of nesting."""

import json
from pathlib import Path
from typing import Any

from lift.io.files import decode_text, read_file
from lift.io.parsing import MAX_DIGITS, shorten

MAX_JSON_BYTES = 2**27
"""Largest JSON file in bytes."""


def parse_json(text: str) -> Any:
    """Parse JSON. Integers of more than 40 digits become floats.

    Args:
        text: The text.

    Returns:
        The content.

    Raises:
        ValueError: The text is invalid, too deeply nested, or gives a key two values.
    """
    try:
        return json.loads(text, parse_int=_parse_integer, object_pairs_hook=_unique_keys)
    except RecursionError:
        raise ValueError("its lists or objects are nested too deeply") from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        path: The file.

    Returns:
        The object.

    Raises:
        OSError: The file does not exist or cannot be read.
        ValueError: The file is no valid JSON, or holds no object.
    """
    data = read_file(path, MAX_JSON_BYTES)
    try:
        content = parse_json(decode_text(data))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} holds {shorten(content)}; expected an object")
    return content


def _parse_integer(text: str) -> int | float:
    return int(text) if len(text) <= MAX_DIGITS else float(text)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object, and refuse two values for a key."""
    content = dict(pairs)
    if len(content) < len(pairs):
        for key, value in pairs:
            if content[key] != value:
                raise ValueError(f"the key {shorten(key)} has two values")
    return content
