"""Files that claim to be huge are refused before memory is reserved."""

import gzip
import json
import struct
import zipfile
import zlib
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from lift.io.splats import decode, encode, read_splats
from lift.io.splats.checks import MIN_COUNT_LIMIT
from lift.io.splats.compressed_ply import block_bounds
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
        with limits(), pytest.raises(ValueError, match="it states 2147483648 Gaussians, but has"):
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


def test_gaussians_beyond_the_limit_of_a_small_file_are_refused():
    def change(meta, pictures):
        meta["count"] = 2 * MIN_COUNT_LIMIT

    files = {
        "sog": change_sog(change),
        "spz": gzip.compress(spz_header(2 * MIN_COUNT_LIMIT, 3) + bytes(2**20)),
    }
    for format, data in files.items():
        with limits(), pytest.raises(ValueError, match=r"at most 2\d{5} are read from such a file"):
            decode(data, format)


def test_sog_with_a_huge_json_is_refused():
    def change(meta, pictures):
        meta["asset"] = "x" * 2**21

    with limits(), pytest.raises(ValueError, match="meta.json' is larger than 1048576 bytes"):
        decode(change_sog(change), "sog")


def png_header(width: int, height: int) -> bytes:
    """A PNG that states its size and holds no pixels."""
    data = b"\x89PNG\r\n\x1a\n"
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for name, content in ((b"IHDR", size), (b"IDAT", b""), (b"IEND", b"")):
        checksum = zlib.crc32(name + content)
        data += struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)
    return data


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: png_header(60000, 60000), "quats has 60000 x 60000 pixels for 40 Gaussians"),
        (lambda data: data[: len(data) // 2], "quats.webp' is damaged: "),
        (lambda data: png_header(8, 8), "quats.webp' is damaged: "),
        (lambda data: b"GIF89a" + data, "quats.webp' is neither a WebP nor a PNG picture"),
    ],
)
def test_a_damaged_picture_in_sog_names_the_file(tmp_path, damage, message):
    def change(meta, pictures):
        pictures["quats.webp"] = damage(pictures["quats.webp"])

    (tmp_path / "a.sog").write_bytes(change_sog(change))
    with (
        limits(),
        pytest.raises(ValueError, match=rf"a\.sog' is no readable sog file: .*{message}"),
    ):
        read_splats(tmp_path / "a.sog")


@pytest.mark.parametrize("version", [3, 4])
def test_spz_without_gaussians_says_so(version):
    header = spz_header(0, version)
    data = gzip.compress(header) if version == 3 else header + bytes(16)
    with pytest.raises(ValueError, match="no Gaussians"):
        decode(data, "spz")


def test_a_damaged_gzip_trailer_of_spz_is_refused():
    data = encode(random_gaussians(10, 1), "spz")
    damaged = data[:-8] + bytes(byte ^ 1 for byte in data[-8:])
    for content, message in ((damaged, "incorrect data check"), (data[:-4], "gzip ends early")):
        with pytest.raises(ValueError, match=message):
            decode(content, "spz")


def test_a_few_bytes_after_the_gaussians_of_spz_are_ignored():
    content = gzip.decompress(encode(random_gaussians(10, 1), "spz"))
    assert len(decode(gzip.compress(content + bytes(100)), "spz")) == 10
    with pytest.raises(ValueError, match="it holds more than the"):
        decode(gzip.compress(content + bytes(2**25)), "spz")


def test_bounds_of_blocks_are_rounded_outwards():
    values = np.random.default_rng(0).normal(size=(1000, 3))
    low, high = block_bounds(values)
    block = np.arange(1000) // 256
    assert (low[block] <= values).all() and (values <= high[block]).all()
    assert (low == low.astype(np.float32)).all() and (high == high.astype(np.float32)).all()


def test_quaternions_of_glb_have_unit_length():
    gaussians = random_gaussians(10, 0)
    longer = replace(gaussians, quats=3 * gaussians.quats)
    assert (decode(encode(longer, "glb"), "glb").quats.norm(dim=-1) - 1).abs().max() < 1e-6
    assert decode(encode(gaussians, "glb"), "glb").quats.equal(gaussians.quats)


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
