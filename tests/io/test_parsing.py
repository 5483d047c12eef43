"""Values of files are numbers within bounds."""

import pytest

from lift.io.parsing import to_number


@pytest.mark.parametrize("value", [10**400, float("nan"), float("inf"), True, None, "x", [1], 1e31])
def test_numbers_out_of_range_name_their_field(value):
    with pytest.raises(ValueError, match="fl_x is .*; expected a number from -1e.30 to 1e.30"):
        to_number(value, "fl_x")


def test_numbers_in_range_are_read_also_from_text():
    assert to_number("1.5", "fl_x") == 1.5
    assert to_number(3, "w", 1, 3) == 3
