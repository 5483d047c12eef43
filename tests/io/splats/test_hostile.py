"""Files that claim to be huge are refused before memory is reserved."""

import gzip
import json
import struct
import zipfile
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from lift.io.splats import decode, encode, read_splats
from tests.helpers.fuzzing import limits
from tests.helpers.splats import random_gaussians


def spz_header(count: int, version: int) -> bytes:
    return struct.pack("<IIIBBBB", 0x5053474E, version, count, 3, 12, 0, 6)


def sog(meta: dict, pictures: dict[str, bytes]) -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("meta.json", json.dumps(meta))
        for name, data in pictures.items():
            archive.writestr(name, data)
    return stream.getvalue()


def change_sog(change) -> bytes:
    """A valid SOG file with changed meta.json and pictures."""
    with zipfile.ZipFile(BytesIO(encode(random_gaussians(40, 1), "sog"))) as archive:
        meta = json.loads(archive.read("meta.json"))
        pictures = {n: archive.read(n) for n in archive.namelist() if n != "meta.json"}
    change(meta, pictures)
    return sog(meta, pictures)


def one_color(width: int, height: int) -> bytes:
    stream = BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(stream, "WEBP", lossless=True)
    return stream.getvalue()


def test_spz_with_a_huge_count_is_refused():
    for data in (gzip.compress(spz_header(2**31, 3) + bytes(2**20)), spz_header(2**31, 4)):
        with limits(), pytest.raises(ValueError, match="header states 2147483648 Gaussians"):
            decode(data, "spz")


def test_a_bomb_of_zstandard_is_not_inflated():
    zstandard = pytest.importorskip("zstandard")
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(2**28))
    header = struct.pack("<IIIBBBBI12x", 0x5053474E, 4, 1, 0, 12, 0, 5, 32)
    table = struct.pack("<QQ", len(bomb), 9) + struct.pack("<QQ", 9, 1) * 4
    with limits(), pytest.raises(ValueError, match="stream"):
        decode(header + table + bomb, "v4.spz")


def test_a_picture_that_is_too_large_is_refused():
    def change(meta, pictures):
        pictures["quats.webp"] = one_color(4000, 2000)

    with limits(), pytest.raises(ValueError, match="quats has 4000 x 2000 pixels for 40 Gaussians"):
        decode(change_sog(change), "sog")


def test_sog_with_a_huge_count_is_refused():
    def change(meta, pictures):
        meta["count"] = 2**40

    with limits(), pytest.raises(ValueError, match="states 1099511627776 Gaussians, but has"):
        decode(change_sog(change), "sog")


def test_a_picture_outside_of_the_archive_is_not_opened(tmp_path):
    (tmp_path / "secret.webp").write_bytes(one_color(8, 8))

    def change(meta, pictures):
        meta["quats"]["files"] = [str(tmp_path / "secret.webp")]

    with pytest.raises(ValueError, match="it lacks '/"):
        decode(change_sog(change), "sog")


def glb(document: dict, content: bytes = b"") -> bytes:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    chunks += struct.pack("<II", len(content), 0x004E4942) + content
    return struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks


def change_glb(change) -> bytes:
    """A valid glb file with changed JSON."""
    data = encode(random_gaussians(10, 0), "glb")
    size = struct.unpack_from("<I", data, 12)[0]
    document = json.loads(data[20 : 20 + size])
    change(document)
    return glb(document, data[28 + size :])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["accessors"][0].update(count=10**9), "accessor of 1000000000 rows"),
        (lambda d: d["bufferViews"][2].update(byteOffset=10**6), "lies outside of its buffer"),
        (lambda d: d["bufferViews"][0].update(buffer=1), "a buffer is outside of the file"),
        (lambda d: d["nodes"][0].update(scale=[2, 2, 2]), "a node has a scale"),
        (lambda d: d["accessors"][2].update(type="VEC3"), "ROTATION has 3 components; expected 4"),
        (lambda d: d.update(meshes=[]), "it has 0 primitives with KHR_gaussian_splatting"),
        (lambda d: d.pop("accessors"), "its glTF is incomplete: KeyError 'accessors'"),
    ],
)
def test_a_glb_that_contradicts_itself_is_refused(change, message):
    with limits(), pytest.raises(ValueError, match=message):
        decode(change_glb(change), "glb")


def test_values_that_are_not_finite_are_left_out(tmp_path, caplog):
    data = bytearray(encode(random_gaussians(6, 0), "splat"))
    data[32:36] = struct.pack("<f", float("nan"))
    (tmp_path / "a.splat").write_bytes(data)
    assert len(read_splats(tmp_path / "a.splat")) == 5
    assert "1 of 6 Gaussians are left out" in caplog.text
