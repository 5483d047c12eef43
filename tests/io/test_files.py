"""Files are opened within bounds of size and of folders."""

import os
from pathlib import Path

import pytest

from lift.io.files import check_regular, decode_text, is_inside


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_choose_the_encoding(encoding):
    assert decode_text("é {}".encode(encoding)) == "é {}"


def test_devices_pipes_and_large_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ValueError, match="no regular file"):
            check_regular(path)
    (tmp_path / "large").write_bytes(bytes(2**20 + 1))
    with pytest.raises(ValueError, match="large' has 1 MiB; files of this kind are read up to 1"):
        check_regular(tmp_path / "large", 2**20)


def test_links_and_dots_that_lead_outside_are_found(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link").symlink_to("/etc")
    (tmp_path / "inside" / "loop").symlink_to("loop")
    folders = [tmp_path / "inside"]
    assert is_inside(tmp_path / "inside" / "a" / ".." / "b.png", folders)
    for name in ("../b.png", "/etc/hostname", "link/hostname", "a\0b"):
        assert not is_inside(tmp_path / "inside" / name, folders)
