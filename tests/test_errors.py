"""Messages for errors are one line."""

import pytest

from lift.errors import format_bug, format_error, model_not_loaded_error, summarize_error


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


def test_a_bug_is_named_by_its_class_and_its_line(tmp_path):
    code = compile("def fail():\n    return {}['x']\n", str(tmp_path / "bad.py"), "exec")
    scope: dict = {}
    exec(code, scope)
    with pytest.raises(KeyError) as caught:
        scope["fail"]()
    assert format_bug(caught.value) == "KeyError: 'x' (bad.py:2)"


def test_a_line_of_lift_is_the_place_of_a_bug_in_a_library(tmp_path):
    from lift.registry.source import read_components

    (tmp_path / "bad.py").write_text("@priors.register('bad') 1 +")
    with pytest.raises(SyntaxError) as caught:  # ast raises it
        list(read_components("prior", "bad", tmp_path / "bad.py"))
    assert "SyntaxError: invalid syntax" in format_bug(caught.value)
    assert "(source.py:" in format_bug(caught.value)
