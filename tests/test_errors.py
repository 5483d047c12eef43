"""Messages for errors are one line."""

import pytest

from lift.errors import format_error, model_not_loaded_error, summarize_error


@pytest.mark.parametrize(
    ("max_length", "with_type", "expected"),
    [
        (None, False, "two lines of text"),
        (9, False, "two lines"),
        (9, True, "ValueError: two lines"),
    ],
)
def test_summary_is_one_line_of_limited_length(max_length, with_type, expected):
    error = ValueError("two\n  lines of text")
    assert summarize_error(error, max_length, with_type) == expected


def test_cause_follows_the_message_in_brackets():
    error = ValueError("the file is damaged")
    error.__cause__ = OSError("byte\n12 is missing")
    assert format_error(error) == "the file is damaged (byte 12 is missing)"


def test_error_without_message_is_named_by_its_class():
    assert format_error(KeyError()) == "KeyError"


def test_missing_model_error_names_setting_and_reason():
    message = str(model_not_loaded_error("depth.model", "a/b", RuntimeError("no\nnetwork")))
    assert message.startswith("depth.model is 'a/b'") and "(RuntimeError: no network)" in message
