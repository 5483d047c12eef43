"""SOG, the format of PlayCanvas: lossless WebP pictures and meta.json in a zip archive, version 2.

Positions have 16 bits on a logarithmic scale. Scales and colours are indices into codebooks of 256
numbers, opacities have 8 bits, quaternions three components of 8 bits. The other harmonics are
entries of a palette.
"""

import json
import zipfile
from io import BytesIO
from typing import Any

import numpy as np

from lift.io.json_files import parse_json
from lift.io.parsing import PARSE_ERRORS, describe_error, shorten
from lift.io.picture_formats import damage_error, open_picture
from lift.io.splats.arrays import BASES, Array, Arrays
from lift.io.splats.checks import check_count
from lift.io.splats.palette import CODEBOOK, make_codebook, make_palette, nearest_entries
from lift.io.splats.quaternions import drop_largest, restore_largest

VERSION = 2
"""Version of the format."""

_QUAT_TAG = 252
"""Alpha of a quaternion's pixel, plus the index of its largest component."""
_PALETTE_COLUMNS = 64
"""Entries of the palette in a row of its picture."""
_MAX_PALETTE = 65536
_MAX_META_BYTES = 2**20
"""Largest size of meta.json. Codebooks of 256 numbers need about 20 kB."""
_PICTURE_STARTS = (b"RIFF", b"\x89PNG\r\n\x1a\n")
"""First bytes of pictures in a file: WebP and PNG."""


def encode_sog(arrays: Arrays) -> bytes:
    """Encode Gaussians as the content of a SOG file.

    Args:
        arrays: The values, in an order that keeps neighbours in space together.

    Returns:
        The content of the file.
    """
    width, height = picture_size(len(arrays))
    pictures: dict[str, np.ndarray] = {}
    meta: dict[str, Any] = {
        "version": VERSION,
        "asset": {"generator": "lift"},
        "count": len(arrays),
        "antialias": False,
    }

    def add(name: str, columns: np.ndarray) -> str:
        pixels = np.zeros((width * height, columns.shape[1]), np.uint8)
        pixels[: len(arrays)] = columns
        pictures[name] = pixels.reshape(height, width, -1)
        return name

    logs = np.sign(arrays.means) * np.log1p(np.abs(arrays.means))
    low, high = logs.min(axis=0), logs.max(axis=0)
    steps = np.rint((logs - low) / np.where(high > low, high - low, 1) * 65535).astype(np.int64)
    files = [add("means_l.webp", steps & 255), add("means_u.webp", steps >> 8)]
    meta["means"] = {"mins": low.tolist(), "maxs": high.tolist(), "files": files}
    scales = make_codebook(arrays.log_scales)
    files = [add("scales.webp", nearest_entries(arrays.log_scales, scales))]
    meta["scales"] = {"codebook": scales.tolist(), "files": files}
    meta["quats"] = {"files": [add("quats.webp", _pack_quats(arrays.quats))]}
    colors = make_codebook(arrays.dc)
    opacities = np.rint(arrays.opacities * 255)[:, None]
    files = [add("sh0.webp", np.hstack([nearest_entries(arrays.dc, colors), opacities]))]
    meta["sh0"] = {"codebook": colors.tolist(), "files": files}
    if arrays.degree:
        entries, labels = make_palette(
            arrays.rest.reshape(len(arrays), -1), _palette_size(len(arrays))
        )
        codebook = make_codebook(entries)
        pictures["shN_centroids.webp"] = _palette_picture(
            nearest_entries(entries, codebook).reshape(len(entries), -1, 3)
        )
        labels = np.column_stack([labels & 255, labels >> 8, np.zeros_like(labels)])
        meta["shN"] = {
            "count": len(entries),
            "bands": arrays.degree,
            "codebook": codebook.tolist(),
            "files": ["shN_centroids.webp", add("shN_labels.webp", labels)],
        }
    return _write_archive(meta, pictures)


def decode_sog(data: bytes) -> Arrays:
    """Decode a SOG file of version 2.

    Args:
        data: Content of the file.

    Returns:
        The values.

    Raises:
        ValueError: The content is no such file, or its sizes contradict one another.
    """
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            return _Reader(archive, len(data)).read()
    except PARSE_ERRORS as error:
        if type(error) is ValueError:
            raise
        raise ValueError(f"it is damaged: {describe_error(error)}") from None


def picture_size(count: int) -> tuple[int, int]:
    """Choose the size of a picture with a pixel for each Gaussian.

    Args:
        count: Number of Gaussians.

    Returns:
        Width and height in pixels, multiples of 4.
    """
    width = -(-int(np.ceil(np.sqrt(count))) // 4) * 4
    return width, -(-count // (4 * width)) * 4


def _palette_size(count: int) -> int:
    """Choose the number of entries of the palette: a power of two, at most 65536."""
    return min(_MAX_PALETTE, 2 ** int(np.floor(np.log2(count)))) if count > 1024 else 1024


def _palette_picture(entries: np.ndarray) -> np.ndarray:
    """Lay out the palette [entry basis 3], 64 entries in a row."""
    rows = -(-len(entries) // _PALETTE_COLUMNS)
    padded = np.zeros((rows * _PALETTE_COLUMNS, *entries.shape[1:]), np.uint8)
    padded[: len(entries)] = entries
    return padded.reshape(rows, -1, 3)


def _pack_quats(quats: Array) -> np.ndarray:
    """Pack quaternions into pixels: three components, and the index of the largest one."""
    largest, others = drop_largest(quats)
    components = np.rint((others / np.sqrt(2) + 0.5).clip(0, 1) * 255)
    return np.column_stack([components, _QUAT_TAG + largest]).astype(np.uint8)


def _write_archive(meta: dict[str, Any], pictures: dict[str, np.ndarray]) -> bytes:
    """Write meta.json and the pictures to a zip archive, the same bytes for the same values."""
    from PIL import Image

    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("meta.json"), json.dumps(meta, separators=(",", ":")))
        for name, pixels in pictures.items():
            picture = BytesIO()
            options = {"lossless": True, "exact": True, "quality": 50, "method": 4}
            Image.fromarray(pixels).save(picture, "WEBP", **options)
            archive.writestr(zipfile.ZipInfo(name), picture.getvalue())
    return stream.getvalue()


class _Reader:
    """Reads an open archive. Sizes are checked before pictures are decoded."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self.archive = archive
        self.size = size
        self.meta = self._object(parse_json(self._member("meta.json", _MAX_META_BYTES).decode()))
        self.count = self._integer(self.meta, "count")
        if self.meta.get("version") != VERSION:
            raise ValueError(
                f"its version is {shorten(self.meta.get('version'))}; version {VERSION} can be read"
            )
        check_count(self.count, size)

    def read(self) -> Arrays:
        """Decode all values."""
        low, high = (self._numbers(self._field("means"), key, 3) for key in ("mins", "maxs"))
        upper, lower = self._picture("means", 1, 3), self._picture("means", 0, 3)
        logs = low + (upper.astype(float) * 256 + lower) / 65535 * (high - low)
        with np.errstate(over="ignore"):
            means = np.sign(logs) * np.expm1(np.abs(logs))
        sh0 = self._picture("sh0", 0, 4)
        quats = self._picture("quats", 0, 4)
        if quats[:, 3].min() < _QUAT_TAG:
            raise ValueError("a pixel of its quaternions has no index of a component")
        others = (quats[:, :3] / 255 - 0.5) * np.sqrt(2)
        return Arrays(
            means,
            restore_largest(quats[:, 3].astype(np.int64) - _QUAT_TAG, others),
            self._codebook("scales")[self._picture("scales", 0, 3)],
            sh0[:, 3] / 255,
            self._codebook("sh0")[sh0[:, :3]],
            self._harmonics(),
        )

    def _harmonics(self) -> Array:
        """Decode the other harmonics [n basis-1 3]."""
        if "shN" not in self.meta:
            return np.zeros((self.count, 0, 3))
        field = self._field("shN")
        degree = self._integer(field, "bands")
        entries = self._integer(field, "count")
        if not 1 <= degree <= 3 or not 1 <= entries <= _MAX_PALETTE:
            raise ValueError(f"it has a palette of {entries} harmonics of degree {degree}")
        bases = BASES[degree] - 1
        labels = self._picture("shN", 1, 2).astype(np.int64) @ [1, 256]
        if labels.max() >= entries:
            raise ValueError(f"it uses entry {labels.max()} of a palette of {entries} harmonics")
        width, height = _PALETTE_COLUMNS * bases, -(-entries // _PALETTE_COLUMNS)
        pixels = self._pixels("shN", 0, lambda w, h: w == width and height <= h <= 1024)
        palette = pixels[:, :, :3].reshape(-1, bases, 3)
        return self._codebook("shN")[palette[labels]]

    def _picture(self, name: str, index: int, channels: int) -> np.ndarray:
        """Decode a picture with a pixel for each Gaussian, to uint8 [n channels]."""
        most = 2 * self.count + 65536
        pixels = self._pixels(name, index, lambda w, h: self.count <= w * h <= most)
        if pixels.shape[2] < channels:
            raise ValueError(f"a picture of its {name} has no alpha")
        return pixels.reshape(-1, pixels.shape[2])[: self.count, :channels]

    def _pixels(self, name: str, index: int, fits: Any) -> np.ndarray:
        """Decode a picture whose width and height fit, to uint8 [height width 3 or 4]."""
        files = self._field(name).get("files")
        if not isinstance(files, list) or len(files) <= index:
            raise ValueError(f"its {name} names no picture")
        file = shorten(str(files[index]))
        data = self._member(str(files[index]), self.size)
        if not data.startswith(_PICTURE_STARTS):
            raise ValueError(f"{file} is neither a WebP nor a PNG picture")
        with open_picture(data, file) as picture:
            if not fits(*picture.size):
                raise ValueError(
                    f"a picture of its {name} has {picture.width} x {picture.height} pixels for "
                    f"{self.count} Gaussians"
                )
            try:
                if picture.mode not in ("RGB", "RGBA"):
                    picture = picture.convert("RGBA")
                return np.asarray(picture)
            except Exception as error:  # decoders raise many types for damaged data
                raise damage_error(file, error) from None

    def _member(self, name: str, limit: int) -> bytes:
        """Read a file of the archive of bounded size."""
        try:
            info = self.archive.getinfo(name)
        except KeyError:
            raise ValueError(f"it lacks {shorten(name)}") from None
        with self.archive.open(info) as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise ValueError(f"{shorten(name)} is larger than {limit} bytes")
        return data

    def _codebook(self, name: str) -> Array:
        return self._numbers(self._field(name), "codebook", CODEBOOK)

    def _field(self, name: str) -> dict[str, Any]:
        return self._object(self.meta.get(name))

    @staticmethod
    def _object(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError(f"meta.json has {shorten(value)}; expected an object")
        return value

    @staticmethod
    def _integer(field: dict[str, Any], key: str) -> int:
        value = field.get(key)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{key} of meta.json is {shorten(value)}; expected a whole number")
        return value

    @staticmethod
    def _numbers(field: dict[str, Any], key: str, count: int) -> Array:
        value = field.get(key)
        if (
            not isinstance(value, list)
            or len(value) != count
            or not all(isinstance(x, (int, float)) and abs(x) <= 1e30 for x in value)
        ):
            raise ValueError(f"{key} of meta.json is {shorten(value)}; expected {count} numbers")
        return np.array(value, float)
