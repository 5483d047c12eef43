"""Counts in headers of PLY files are compared with the size of the file."""

import pytest

from lift.io.ply import read_vertices
from lift.io.points import read_points

POINT = "property float x\nproperty float y\nproperty float z\n"
COLOR = "property uchar red\nproperty uchar green\nproperty uchar blue\n"


def ply(count: str, form: str = "ascii", before: str = "", rows: bytes = b"1 2 3 4 5 6\n") -> bytes:
    head = f"ply\nformat {form} 1.0\n{before}element vertex {count}\n{POINT}{COLOR}end_header\n"
    return head.encode() + rows


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("count", ["100000000000", "2"])
def test_more_vertices_than_bytes_are_refused(form, count):
    with pytest.raises(
        ValueError, match=f"{count} elements 'vertex', which need|early end|expected"
    ):
        read_vertices(ply(count, form))


@pytest.mark.parametrize("count", ["-1", "1e3", "99999999999999999999999999"])
def test_counts_that_are_no_counts_are_refused(count):
    with pytest.raises(ValueError, match="the element 'vertex' has the count"):
        read_vertices(ply(count))


def test_elements_without_properties_cannot_loop_for_long():
    with pytest.raises(ValueError, match="100000000000 elements 'other'"):
        read_vertices(ply("1", before="element other 100000000000\n"))


@pytest.mark.parametrize("data", [b"", b"ply\n", b"\x89PNG", b"ply\nend_header\n"])
def test_content_without_vertices_is_a_value_error(data):
    with pytest.raises(ValueError):
        read_vertices(data)


def test_vertices_are_read(tmp_path):
    (tmp_path / "a.ply").write_bytes(ply("1"))
    points = read_points(tmp_path / "a.ply")
    assert points is not None and points.points.tolist() == [[1, 2, 3]]
