"""Only known formats reach a decoder, and only pictures of bounded size."""

import builtins
import os
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from lift.io import picture_formats
from lift.io.image import load_picture, picture_size, read_image
from lift.io.picture_formats import PICTURE_FORMATS, open_picture
from lift.io.sources import PictureSource

EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n"
    b"0 0 32 32 rectfill\nshowpage\n%%EOF\n"
)


def forms(path) -> list:
    """All ways to open a picture."""
    return [
        lambda: read_image(path),
        lambda: picture_size(path),
        lambda: load_picture(str(path), 32, 60.0),
        lambda: PictureSource([path, path.with_name("b.png")], "a").scores([0]),
    ]


@pytest.mark.parametrize("name", ["a.eps", "a.png", "a.jpg"])
def test_postscript_never_reaches_ghostscript(tmp_path, monkeypatch, name):
    path = tmp_path / name
    path.write_bytes(EPS)
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("a program started"))
    for form in forms(path):
        with pytest.raises(ValueError, match=f"{name} is not a picture in any format known"):
            form()


@pytest.mark.parametrize("format", ["PCX", "TGA", "ICO", "IM", "PDF", "SGI", "DDS", "JPEG2000"])
def test_formats_that_are_not_listed_are_refused(tmp_path, format):
    path = tmp_path / "a.png"
    try:
        Image.new("RGB", (32, 32)).save(path, format)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow cannot write {format}")
    for form in forms(path):
        with pytest.raises(ValueError, match="not a picture in any format known here .JPEG, PNG"):
            form()


@pytest.mark.parametrize("format", PICTURE_FORMATS)
def test_listed_formats_are_read_by_content(tmp_path, format):
    if format == "HEIC":
        pytest.importorskip("pillow_heif").register_heif_opener()
        format = "HEIF"
    path = tmp_path / "a.bin"
    Image.new("RGB", (48, 32), (200, 120, 60)).save(path, format.upper())
    image = read_image(path)
    assert image.shape == (32, 48, 3)
    assert np.abs(image[10, 10].numpy().astype(int) - (200, 120, 60)).max() <= 6


def test_heic_without_its_package_names_the_package(tmp_path, monkeypatch):
    path = tmp_path / "a.heic"
    path.write_bytes(struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + b"\0" * 40)
    real_import = builtins.__import__

    def without_heif(name, *rest):
        if name == "pillow_heif":
            raise ImportError("no pillow_heif")
        return real_import(name, *rest)

    monkeypatch.delitem(sys.modules, "pillow_heif", raising=False)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_heif)
    with pytest.raises(ImportError, match="a.heic is a HEIC picture.*pip install 'lift.heif.'"):
        read_image(path)


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG file that states a size, with no pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    texts = b"".join(chunk(b"zTXt", data) for data in chunks)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + texts + body + chunk(b"IEND", b"")


def webp(width: int, height: int) -> bytes:
    """The header of an extended WebP file with a canvas of some size."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + size
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff(width: int, height: int) -> bytes:
    """A TIFF file that states a size, with one byte of pixels."""
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 1}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + b"\0" * 4


@pytest.mark.parametrize(
    "data",
    [png(60_000, 60_000), webp(2**24, 2**24), tiff(60_000, 60_000)],
    ids=["png", "webp", "tiff"],
)
def test_too_many_pixels_are_refused_before_decoding(tmp_path, monkeypatch, data):
    (tmp_path / "a.png").write_bytes(data)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("pixels decoded"))
    with pytest.raises(ValueError, match="pixels are more than the limit of 200 million") as error:
        read_image(tmp_path / "a.png")
    assert "\n" not in str(error.value)


def test_a_text_that_decompresses_to_much_is_one_line(tmp_path):
    bomb = b"Comment\0\0" + zlib.compress(b"x" * (64 * 2**20), 9)
    (tmp_path / "a.png").write_bytes(png(32, 32, bomb))
    for form in forms(tmp_path / "a.png")[:3]:
        with pytest.raises(ValueError, match="a.png is damaged") as error:
            form()
        assert "\n" not in str(error.value)


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ValueError, match="no regular file"):
        open_picture(tmp_path / "a.png", "a.png")


def test_pillows_own_limit_is_left_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1234)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (64, 64, 3)
    assert Image.MAX_IMAGE_PIXELS == 1234


def test_exceptions_of_decoders_become_one_line(tmp_path, monkeypatch):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    for kind in (
        RuntimeError,
        SystemError,
        MemoryError,
        AssertionError,
        Image.DecompressionBombError,
    ):
        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", _raise(kind))
        with pytest.raises(ValueError, match="a.png (is damaged|needs more memory)"):
            read_image(tmp_path / "a.png")


def _raise(kind):
    def load(*_):
        raise kind("first line\nsecond line")

    return load


def test_the_message_lists_each_format():
    assert len(set(PICTURE_FORMATS)) == len(PICTURE_FORMATS)
    assert {name.upper() for name in PICTURE_FORMATS} - {"HEIC"} == set(picture_formats._MODULES)
