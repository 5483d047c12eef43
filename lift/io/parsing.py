"""Values of users' files: errors of parsers, numbers within bounds, and texts for messages.

A file may come from anyone. Each defect is a ValueError.
"""

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from typing import Any

MAX_NUMBER = 1e30
"""Largest magnitude of a number in a file. Its square fits in double precision."""
MAX_SIDE = 2**16
"""Largest side in pixels of a picture that a camera file describes."""

PARSE_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Exceptions that invalid content can cause in a parser. RecursionError is a RuntimeError."""

MAX_DIGITS = 40
"""Number of digits from which an integer in JSON is read as a float."""


def describe_error(error: BaseException) -> str:
    """Describe an exception of a parser in one line of at most 300 characters.

    Args:
        error: The exception.

    Returns:
        Its type and message.
    """
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}"[:300].removesuffix(": ")


def shorten(value: Any) -> str:
    """Format a value of a file for a message.

    Args:
        value: The value, of any type and length.

    Returns:
        At most 60 characters.
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**MAX_DIGITS:
        return f"an integer of more than {MAX_DIGITS} digits"
    try:
        text = repr(value)
    except RecursionError:
        text = f"a nested {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def to_number(
    value: Any, field: str, minimum: float | int = -MAX_NUMBER, maximum: float | int = MAX_NUMBER
) -> float:
    """Convert a value of a file to a number in a range.

    Args:
        value: A number, or text of one.
        field: Name of the field in the message.
        minimum: Smallest number.
        maximum: Largest number.

    Returns:
        The number.

    Raises:
        ValueError: The value is no number, NaN, or out of the range.
    """
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not minimum <= number <= maximum:
        raise ValueError(
            f"{field} is {shorten(value)}; expected a number from {minimum:g} to {maximum:g}"
        )
    return number
