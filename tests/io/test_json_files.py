"""Defects of JSON files are one line."""

import pytest

from lift.io.json_files import MAX_JSON_BYTES, parse_json, read_json


@pytest.mark.parametrize(
    "text, reason",
    [
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('{"a": ' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        ('{"w": 1, "w": 2}', "the key 'w' has two values"),
        ("{", "Expecting"),
    ],
)
def test_json_that_is_invalid_is_a_value_error(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


def test_long_integers_of_json_do_not_need_memory():
    content = parse_json('{"w": ' + "9" * 100_000 + ', "h": 7, "h": 7}')
    assert content == {"w": float("inf"), "h": 7}


def test_json_that_holds_no_object_is_named(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"a\.json' holds \[1\]; expected an object"):
        read_json(tmp_path / "a.json")


def test_large_json_files_are_not_read(tmp_path):
    with (tmp_path / "large.json").open("wb") as stream:
        stream.truncate(MAX_JSON_BYTES + 1)
    with pytest.raises(ValueError, match="large.json' has 128 MiB; files of this kind"):
        read_json(tmp_path / "large.json")
