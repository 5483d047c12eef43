import math
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Interval, Len, Lt

from lift.registry import ComponentError, catalogue
from lift.registry.values import (
    convert_value,
    describe_range,
    format_annotation,
    plain_annotation,
)
from tests.helpers.setting_fuzz import all_settings, number_limits

Fraction: Any = Annotated[float, Interval(ge=0, le=1)]
AtLeastOne: Any = Annotated[int, Ge(1)]


@pytest.mark.parametrize("setting", all_settings(), ids=lambda s: f"{s.component or ''}-{s.key}")
def test_each_numeric_setting_declares_its_range(setting) -> None:
    for _, limits in number_limits(setting.annotation):
        assert limits.ge is not None or limits.gt is not None
        assert limits.le is not None or limits.lt is not None


@pytest.mark.parametrize("slot", sorted(catalogue().entries))
def test_defaults_are_in_their_range(slot: str) -> None:
    for entry in catalogue().entries[slot].values():
        defaults = {
            key: parameter.default
            for key, parameter in entry.settings.items()
            if parameter.default is not parameter.empty
        }
        entry.check(defaults)


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        (-3, Annotated[int, Ge(1)], "x is -3; choose 1 or more"),
        (0, Annotated[float, Interval(gt=0, lt=90)], "x is 0; choose more than 0, less than 90"),
        (math.nan, Fraction, "x is nan; choose 0 to 1"),
        (math.inf, float, "x is inf; choose a finite number"),
        (2**63, int, "choose a finite number"),
        (True, Annotated[int, Ge(1)], "x is True; choose a whole number, 1 or more"),
        (None, Annotated[int, Ge(1)], "x is null; choose a whole number"),
        ([0.5, 2], list[Fraction], r"x\[1\] is 2; choose 0 to 1"),
        ([], Annotated[list[Fraction], Len(1, 3)], "x has 0 values; choose 1 to 3"),
        ([[]], tuple[str, ...], r"x\[0\] is \[\]; choose a text"),
        ((1.0,), tuple[float, float], "it takes 2 values"),
        ("c", Literal["a", "b"], "choose one of a, b"),
        ("a\0b", str, "leave out the character NUL"),
        ("x" * 5000, Path, "x has 5000 characters; choose 0 to 4096"),
        ("~nobody-here/x", Path, "there is no such home folder"),
        ("", Path, "x is empty; choose a path"),
        ({"a": [math.nan]}, dict, r"x.a\[0\] is nan; choose a finite number"),
        (5, str, "x is 5; choose a text"),
        (1, bool, "x is 1; choose true or false"),
    ],
)
def test_a_wrong_value_ends_in_one_line(value: Any, annotation: Any, message: str) -> None:
    with pytest.raises(ComponentError, match=message) as error:
        convert_value("x", value, annotation)
    assert "\n" not in str(error.value) and len(str(error.value)) < 250


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (1, Fraction, 1),
        (None, Fraction | None, None),
        ([1, 2], tuple[Fraction | int, ...], (1, 2)),
        (math.inf, Annotated[float, Interval(ge=0, le=math.inf)], math.inf),
        ("a/b", Path, Path("a/b")),
        (2, Annotated[int | None, Ge(1)], 2),
        (3, Annotated[int, "a note", Lt(4)], 3),
    ],
)
def test_a_value_in_range_is_converted(value: Any, annotation: Any, expected: Any) -> None:
    assert convert_value("x", value, annotation) == expected


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(ComponentError, match="x is a value that is too long to print"):
        convert_value("x", 10**5000, int)


def test_a_range_is_printed_beside_the_type() -> None:
    assert describe_range(AtLeastOne | None) == "1 or more"
    assert describe_range(Annotated[list[Fraction], Len(1, 3)]) == "1 to 3 values, each 0 to 1"
    assert describe_range(float) == ""
    assert format_annotation(AtLeastOne | None) == "int | None"
    assert plain_annotation(tuple[Fraction, ...]) == tuple[float, ...]
