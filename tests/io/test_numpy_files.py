"""npy and npz files are checked before memory is reserved."""

import io
import zipfile

import numpy as np
import pytest

from lift.io.numpy_files import load_npy, load_npz
from tests.helpers.fuzzing import npy


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
