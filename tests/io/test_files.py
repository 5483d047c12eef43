"""Files are read within bounds, and their defects are one line."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lift.io.files import (
    MAX_JSON_BYTES,
    check_regular,
    decode_text,
    is_inside,
    load_npy,
    load_npz,
    parse_json,
    read_json,
    to_number,
)
from tests.helpers.fuzzing import npy


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_choose_the_encoding(encoding):
    assert decode_text("é {}".encode(encoding)) == "é {}"


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


@pytest.mark.parametrize("value", [10**400, float("nan"), float("inf"), True, None, "x", [1], 1e31])
def test_numbers_out_of_range_name_their_field(value):
    with pytest.raises(ValueError, match="fl_x is .*; expected a number from -1e.30 to 1e.30"):
        to_number(value, "fl_x")


def test_numbers_in_range_are_read_also_from_text():
    assert to_number("1.5", "fl_x") == 1.5
    assert to_number(3, "w", 1, 3) == 3


def test_devices_pipes_and_large_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ValueError, match="no regular file"):
            check_regular(path)
    with (tmp_path / "large.json").open("wb") as stream:
        stream.truncate(MAX_JSON_BYTES + 1)
    with pytest.raises(ValueError, match="large.json' has 128 MiB; files of this kind"):
        read_json(tmp_path / "large.json")


def forged(shape: bytes, type: bytes = b"'<f8'") -> bytes:
    header = b"{'descr': " + type + b", 'fortran_order': False, 'shape': " + shape + b"}"
    return npy(np.zeros(3))[:10] + header.ljust(117) + b"\n" + b"\0" * 24


@pytest.mark.parametrize(
    "data, reason",
    [
        (forged(b"(100000000000,)"), "needs 800000000000 bytes, but 24 follow"),
        (forged(b"(4611686018427387904, 4)"), "bytes, but 24 follow"),
        (forged(b"(-3,)"), "its shape is"),
        (forged(b"(3,)", b"'|O'"), "its type is object"),
        (npy(np.zeros(3))[:-1], "bytes, but 23 follow"),
        (b"\x93NUMPY\x09\x00" + b"\0" * 200, "version"),
        (b"", ""),
    ],
)
def test_headers_of_arrays_are_checked_before_reading(data, reason):
    with pytest.raises(ValueError, match=reason):
        load_npy(data)


def test_only_requested_arrays_are_decompressed():
    stream = io.BytesIO()
    np.savez_compressed(stream, a=np.ones(3), b=np.zeros(2**20))
    assert list(load_npz(stream.getvalue(), ["a", "c"], max_bytes=1000)) == ["a"]
    with pytest.raises(ValueError, match="more than the limit"):
        load_npz(stream.getvalue(), max_bytes=2**20)


def test_a_damaged_array_is_named():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("K.npy", forged(b"(100000000000,)"))
    with pytest.raises(ValueError, match="the array 'K': ValueError: its shape"):
        load_npz(stream.getvalue())


def test_links_and_dots_that_lead_outside_are_found(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link").symlink_to("/etc")
    (tmp_path / "inside" / "loop").symlink_to("loop")
    folders = [tmp_path / "inside"]
    assert is_inside(tmp_path / "inside" / "a" / ".." / "b.png", folders)
    for name in ("../b.png", "/etc/hostname", "link/hostname", "a\0b"):
        assert not is_inside(tmp_path / "inside" / name, folders)
