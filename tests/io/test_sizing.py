"""Sizes at which pictures are processed."""

import pytest

from lift.io.sizing import round_to_multiple


@pytest.mark.parametrize(
    ("length", "multiple", "expected"),
    [(3.0, 14, 14), (20.9, 14, 14), (21.1, 14, 28), (64.0, 8, 64)],
)
def test_length_is_rounded_to_a_positive_multiple(length, multiple, expected):
    assert round_to_multiple(length, multiple) == expected
