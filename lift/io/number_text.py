"""Write tables of numbers as text with NumPy.

This is three times as fast as a loop over lines, and lets other threads run meanwhile.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DIGITS = 7
"""Significant digits of fractional numbers, as in the format `.7g`."""

_WHOLE = 7
"""Places before the point."""
_DECIMALS = 10
"""Places after the point: seven significant digits of a number from 1e-4 on."""
_SMALLEST = 1e-4
"""Smallest magnitude that `.7g` writes without an exponent."""
_LARGEST = 9_999_999.0
"""Largest magnitude that surely has no exponent."""

_FOUR_DIGITS = np.frombuffer("".join(f"{n:04d}" for n in range(10_000)).encode(), np.uint32)
"""The characters of the numbers from 0000 to 9999, four in each item."""

_Text = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""Characters [row place] of a column, and which of them are written."""


def format_table(columns: Sequence[np.ndarray]) -> bytes:
    """Write a line for each row of a table, with blanks between the numbers.

    Args:
        columns: Columns of one length. Integers are not negative. Fractional numbers get 7
            significant digits, exactly as by Python's format `.7g`. Those of float32 are fast.

    Returns:
        The lines in ASCII. Each one ends with a line break.
    """
    count = len(columns[0])
    parts = []
    for number, column in enumerate(columns):
        is_integer = np.issubdtype(column.dtype, np.integer)
        parts.append(_integer_text(column) if is_integer else _fraction_text(column))
        end = b"\n" if number == len(columns) - 1 else b" "
        parts.append((np.full((count, 1), end[0], np.uint8), np.ones((count, 1), np.bool_)))
    characters = np.concatenate([part for part, _ in parts], axis=1)
    written = np.concatenate([mask for _, mask in parts], axis=1)
    return characters[written].tobytes()


def _integer_text(values: np.ndarray) -> _Text:
    """Write integers that are not negative."""
    places = len(str(int(values.max()))) if len(values) else 1
    characters = _digits(values.astype(np.int64), places)
    return characters, _without_leading_zeros(characters)


def _fraction_text(values: NDArray[np.floating]) -> _Text:
    """Write fractional numbers like the format `.7g`."""
    magnitude = np.abs(values.astype(np.float64))
    simple = (magnitude >= _SMALLEST) & (magnitude < _LARGEST) | (magnitude == 0)
    simple &= values.dtype == np.float32
    magnitude = np.where(simple, magnitude, 0.0)
    # Products of a float32 and a power of ten up to 1e10 are exact in float64, so that ties are
    # rounded as Python rounds them.
    bounds = [10.0**exponent for exponent in range(-3, DIGITS)]
    exponent = np.searchsorted(bounds, magnitude, side="right") - 4
    significant = np.rint(magnitude * 10.0 ** (DIGITS - 1 - exponent)).astype(np.int64)
    scaled = significant * 10 ** (_DECIMALS - DIGITS + 1 + exponent).astype(np.int64)
    whole = _digits(scaled // 10**_DECIMALS, _WHOLE)
    decimals = _digits(scaled % 10**_DECIMALS, _DECIMALS)
    written = np.logical_or.accumulate((decimals != ord("0"))[:, ::-1], axis=1)[:, ::-1]
    sign = np.full((len(values), 1), ord("-"), np.uint8)
    point = np.full((len(values), 1), ord("."), np.uint8)
    characters = np.concatenate([sign, whole, point, decimals], axis=1)
    mask = np.concatenate(
        [np.signbit(values)[:, None], _without_leading_zeros(whole), written[:, :1], written],
        axis=1,
    )
    for row in np.flatnonzero(~simple):  # one by one
        text = f"{float(values[row]):.{DIGITS}g}".encode()
        characters[row, : len(text)] = np.frombuffer(text, np.uint8)
        mask[row] = np.arange(mask.shape[1]) < len(text)
    return characters, mask


def _digits(values: NDArray[np.int64], places: int) -> NDArray[np.uint8]:
    """Return the decimal digits of integers, the most significant first."""
    groups = -(-places // 4)
    characters = np.empty((len(values), groups), np.uint32)
    for group in reversed(range(groups)):
        rest = values // 10_000
        characters[:, group] = _FOUR_DIGITS[values - 10_000 * rest]
        values = rest
    return characters.view(np.uint8)[:, 4 * groups - places :]


def _without_leading_zeros(characters: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Mark the digits from the first one that is not zero on. The last one is always marked."""
    mask = np.logical_or.accumulate(characters != ord("0"), axis=1)
    mask[:, -1] = True
    return mask
