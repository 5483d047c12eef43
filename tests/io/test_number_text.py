"""Tables of numbers have the digits that Python writes."""

import numpy as np
import pytest

from lift.io.number_text import format_table

SPECIAL = [
    *(0.0, -0.0, 1.0, -1.0, 10.0, 100.0, 0.5, 123456.75, 1234567.5, 12345678.0),
    *(1e-4, 1.0001e-4, 9.9999e-5, 1e-5, 1e6, 1e7, 9999999.0, 9999998.5, 1e10, -1e-30),
    *(9.9999999, 99.999999, 999999.94, 99999.995, 0.00099999999, 0.01234567),
    *(float("nan"), float("inf"), float("-inf")),
]


def expected(values):
    return "".join(f"{i} {float(value):.7g} 0\n" for i, value in enumerate(values)).encode()


def written(values):
    return format_table([np.arange(len(values)), values, np.zeros(len(values), int)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_numbers_are_written_as_python_does(dtype):
    values = np.array(SPECIAL, dtype)
    assert written(values) == expected(values)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3, 1e6])
def test_random_numbers_are_written_as_python_does(scale):
    values = (np.random.default_rng(0).standard_normal(20_000) * scale).astype(np.float32)
    assert written(values) == expected(values)


def test_ties_are_rounded_to_even_as_python_does():
    values = np.arange(100_000, dtype=np.float32) / 64 + 4096
    assert written(values) == expected(values)


def test_an_empty_table_has_no_lines():
    assert written(np.zeros(0, np.float32)) == b""
