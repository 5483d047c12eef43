"""Names of folders cannot leave the folder, whatever a picture is called."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lift.io.names import (
    MAX_NAME_BYTES,
    RESERVED,
    name_problem,
    path_problem,
    printable,
    safe_name,
    user_path,
)

DEVICES = ("CON", "nul", "Com1", "LPT9", "con.tar", "aux .x", "COM¹")

ANY_TEXT = st.text(st.characters(codec=None), max_size=300) | st.sampled_from(
    ["", ".", "..", "...", " ", "~", "cache", "CACHE", "eval", *DEVICES]
)


@given(ANY_TEXT)
@example("../../etc")
@example("a/../..")
@example("\udce9")
@example("a\0b")
@example("x" * 96 + ".")
@example("é" * 200)
@example("." + "x" * 200)
def test_a_name_is_one_visible_folder_of_every_system(text):
    name = safe_name(text)
    assert name.strip() and name == name.rstrip(". ") and name[0] != "."
    assert not set(name) & set("/\\")
    assert not any(ord(char) < 32 or 0xD800 <= ord(char) < 0xE000 for char in name)
    assert len(name.encode()) <= MAX_NAME_BYTES
    assert name.split(".")[0].rstrip().lower() not in ("con", "prn", "aux", "nul", "com1", "com¹")
    assert name.casefold() not in RESERVED
    assert Path("out", name).resolve().parent == Path("out").resolve()


@given(ANY_TEXT)
def test_a_safe_name_stays_as_it_is(text):
    name = safe_name(text)
    assert name_problem(name) is None
    assert safe_name(name) == name
    assert name == text or name_problem(text) or text.casefold() in RESERVED


@given(st.sets(ANY_TEXT, min_size=2, max_size=8))
def test_different_texts_have_different_names(texts):
    assert len({safe_name(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    "text",
    [
        "coffee",
        "IMG_0001",
        "a.b",
        "ein Bild",
        "Straße",
        "写真",
        "-x",
        " x",
        "12:30",
        "x~1",
        "con-1",
        "_",
    ],
)
def test_ordinary_names_do_not_change(text):
    assert safe_name(text) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("..", "names no folder of its own"),
        (".x", "hidden"),
        ("x ", "ends with a dot or a space"),
        ("a/b", "has the character '/'"),
        ("a\nb", r"has the character '\\n'"),
        ("Nul.txt", "is the name of a device on Windows"),
        ("x" * 101, "is longer than 100 bytes"),
    ],
)
def test_the_problem_of_a_name_is_said(text, reason):
    assert reason in (name_problem(text) or "").replace("\\n", r"\\n")


def test_text_with_other_bytes_can_be_written():
    assert printable("caf\udce9 ü") == "caf\\udce9 ü"


def test_a_locale_without_a_character_gives_a_name_without_it():
    code = (
        "from lift.io.names import safe_name; import os; "
        "print(os.fsencode(safe_name('Stra\\xdfe')))"
    )
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.stdout.startswith("b'Stra_e-"), done.stderr


def test_a_file_in_place_of_a_folder_is_a_problem(tmp_path):
    file = tmp_path / "file"
    file.touch()
    assert path_problem(str(file)) == "is no folder"
    assert path_problem(str(file / "below")) == f"is below {file}, which is no folder"
    assert path_problem(str(tmp_path / "new" / "below")) is None


def test_home_folders_are_known_and_other_tildes_stay(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    paths = [str(user_path(path)) for path in ("~/a", "~no user/b", "a/~")]
    assert paths == ["/somewhere/a", "~no user/b", "a/~"]
