"""SPZ, the format of Niantic: versions 3 (gzip) and 4 (Zstandard). Version 2 is read, too.

Positions are fixed-point numbers of 24 bits. Log-scales have steps of 1/16. Opacities and colours
have 8 bits. Quaternions have three components of 10 bits. Harmonics lie within +-1, with 5 bits at
degree 1 and 4 bits above. The axes are x right, y up, z back.
"""

import logging
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from lift.io.splats.arrays import BASES, Array, Arrays
from lift.io.splats.checks import check_count, check_physical, scene_extent
from lift.io.splats.ply import MIP_WARNING
from lift.io.splats.quaternions import drop_largest, restore_largest
from lift.types import Gaussians

LOG_SCALES = (-10.0, -10 + 255 / 16)
"""Smallest and largest log-scale."""
MAX_STEP = 4e-3
"""Largest step of positions and smallest scale, relative to the size of the scene."""
COLOR_FACTOR = 0.15
"""A colour is stored as 0.5 + 0.15 x its harmonic of degree 0, within [0, 1]."""

_LOGGER = logging.getLogger(__name__)
_MAGIC = 0x5053474E
_MAX_FIXED = 2**23 - 1
_STEPS_PER_EXTENT = 2**13
"""Positions have at least this many steps in the size of the scene, where their range allows it."""
_MAX_FRACTIONAL_BITS = 20
_SH_BITS = (5, 4, 4)
"""Bits of the harmonics of degree 1, 2 and 3."""
_BLOCK_BYTES = 2**16
_MAX_EXTRA_BYTES = 2**24
"""Most decompressed bytes after the Gaussians. Newer writers append extensions."""
_HEADER = struct.Struct("<IIIBBBB")
_HEADER_4 = struct.Struct("<IIIBBBBI12x")
_STREAM = struct.Struct("<QQ")
_ANTIALIASED = 1
"""Flag of a scene that was trained with Mip-Splatting."""


@dataclass(frozen=True)
class _Header:
    version: int
    count: int
    degree: int
    fractional_bits: int
    flags: int
    stream_count: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes of positions, opacities, colours, scales, quaternions and harmonics."""
        quat_bytes = 3 if self.version == 2 else 4
        row = (9, 1, 3, 3, quat_bytes, 3 * (BASES[self.degree] - 1))
        return tuple(self.count * size for size in row)


def check_spz(gaussians: Gaussians) -> None:
    """Check that an SPZ file can hold the positions and scales.

    Args:
        gaussians: The Gaussians.

    Raises:
        ValueError: Positions lie too far apart, or the scene is too small or too large.
    """
    check_physical(gaussians)
    extent = scene_extent(gaussians)
    step = 2.0 ** -_choose_fractional_bits(float(gaussians.means.abs().max()), extent)
    advice = "choose another format, or scale the scene"
    if 0 < extent < step / MAX_STEP:
        raise ValueError(
            f"spz holds positions of 24 bits, in steps of {step:.3g} for this scene, which is "
            f"{step / extent:.1%} of its size of {extent:.3g}; {advice}"
        )
    smallest, largest = (float(np.exp(value)) for value in LOG_SCALES)
    if 0 < extent < smallest / MAX_STEP:
        raise ValueError(
            f"spz holds scales of at least {smallest:.3g}, which is {smallest / extent:.1%} of "
            f"this scene's size of {extent:.3g}; {advice}"
        )
    if (found := float(gaussians.scales.max())) > largest:
        raise ValueError(
            f"spz holds scales of at most {largest:.3g}, and one is {found:.3g}; {advice}"
        )


def encode_spz(arrays: Arrays, extent: float, version: int) -> bytes:
    """Encode Gaussians as the content of an SPZ file.

    Args:
        arrays: The values, with the axes of the file.
        extent: Size of the scene, from which the step of positions follows.
        version: 3 or 4.

    Returns:
        The content of the file.
    """
    bits = _choose_fractional_bits(float(np.abs(arrays.means).max()), extent)
    streams = _encode_streams(arrays, bits)
    fields = (_MAGIC, version, len(arrays), arrays.degree, bits, 0)
    if version == 3:
        compressor = zlib.compressobj(level=9, wbits=31)
        content = _HEADER.pack(*fields, 0) + b"".join(streams)
        return compressor.compress(content) + compressor.flush()
    import zstandard

    streams = [stream for stream in streams if stream]
    packed = [zstandard.ZstdCompressor(level=12).compress(stream) for stream in streams]
    header = _HEADER_4.pack(*fields, len(streams), _HEADER_4.size)
    table = [_STREAM.pack(len(a), len(b)) for a, b in zip(packed, streams, strict=True)]
    return b"".join([header, *table, *packed])


def decode_spz(data: bytes) -> Arrays:
    """Decode an SPZ file of version 2, 3 or 4.

    Args:
        data: Content of the file.

    Returns:
        The values, with the axes of the file.

    Raises:
        ValueError: The content is no such file, or its sizes contradict one another.
    """
    is_gzip = data[:2] == b"\x1f\x8b"
    head = _inflate_head(data, _HEADER.size) if is_gzip else data[: _HEADER.size]
    header = _parse_header(head, (2, 3) if is_gzip else (4,))
    check_count(header.count, len(data))
    if header.flags & _ANTIALIASED:
        _LOGGER.warning(MIP_WARNING, "this spz file", "mip")
    streams = _split_gzip(data, header) if is_gzip else _split_zstd(data, header)
    return _decode_streams(streams, header)


def _choose_fractional_bits(largest: float, extent: float) -> int:
    """Choose the bits after the point of positions, by the size of the scene."""
    bits = int(np.ceil(np.log2(_STEPS_PER_EXTENT / extent))) if extent > 0 else 12
    holds = int(np.floor(np.log2(_MAX_FIXED / largest))) if largest > 0 else _MAX_FRACTIONAL_BITS
    return max(0, min(bits, holds, _MAX_FRACTIONAL_BITS))


def _encode_streams(arrays: Arrays, bits: int) -> list[bytes]:
    """Encode positions, opacities, colours, scales, quaternions and harmonics."""
    fixed = np.rint(arrays.means * 2**bits).clip(-_MAX_FIXED - 1, _MAX_FIXED).astype("<i4")
    positions = fixed.view(np.uint8).reshape(len(arrays), 3, 4)[:, :, :3]
    values = [
        positions,
        _to_bytes(arrays.opacities * 255),
        _to_bytes((arrays.dc * COLOR_FACTOR + 0.5) * 255),
        _to_bytes((arrays.log_scales - LOG_SCALES[0]) * 16),
        _pack_quats(arrays.quats),
        _pack_harmonics(arrays.rest),
    ]
    return [np.ascontiguousarray(value).tobytes() for value in values]


def _decode_streams(streams: list[bytes], header: _Header) -> Arrays:
    """Decode positions, opacities, colours, scales, quaternions and harmonics."""
    count = header.count
    numbers = [np.frombuffer(stream, np.uint8) for stream in streams]
    padded = np.zeros((count, 3, 4), np.uint8)
    padded[:, :, 1:] = numbers[0].reshape(count, 3, 3)
    means = (padded.view("<i4")[:, :, 0] >> 8) / 2.0**header.fractional_bits
    quats = numbers[4].reshape(count, -1)
    return Arrays(
        means,
        _unpack_quats(quats) if header.version > 2 else _unpack_quats_2(quats),
        numbers[3].reshape(count, 3) / 16 + LOG_SCALES[0],
        numbers[1] / 255,
        (numbers[2].reshape(count, 3) / 255 - 0.5) / COLOR_FACTOR,
        (numbers[5].reshape(count, -1, 3).astype(float) - 128) / 128,
    )


def _to_bytes(values: Array) -> np.ndarray:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _pack_quats(quats: Array) -> np.ndarray:
    """Pack quaternions w x y z: 2 bits of index, and 3 x (sign, magnitude of 9 bits)."""
    largest, others = drop_largest(quats[:, [1, 2, 3, 0]])
    packed = largest
    for column in others.T:
        magnitude = np.rint(np.abs(column) * np.sqrt(2) * 511).clip(0, 511).astype(np.int64)
        packed = (packed << 10) | (np.where(column < 0, 512, 0) | magnitude)
    return packed.astype("<u4")


def _unpack_quats(rows: np.ndarray) -> Array:
    """Invert `_pack_quats`."""
    packed = np.ascontiguousarray(rows).view("<u4")[:, 0].astype(np.int64)
    columns = []
    for shift in (20, 10, 0):
        field = packed >> shift
        columns.append((field & 511) / 511 / np.sqrt(2) * np.where(field & 512, -1, 1))
    return restore_largest(packed >> 30, np.column_stack(columns))[:, [3, 0, 1, 2]]


def _unpack_quats_2(rows: np.ndarray) -> Array:
    """Decode quaternions of version 2: x y z of 8 bits each, w >= 0."""
    xyz = rows / 127.5 - 1
    w = np.sqrt(np.maximum(1 - np.square(xyz).sum(axis=1), 0))
    quats = np.column_stack([w, xyz])
    return quats / np.maximum(np.linalg.norm(quats, axis=1, keepdims=True), 1e-30)


def _pack_harmonics(rest: Array) -> np.ndarray:
    """Round harmonics to the steps of their degree, as bytes of 128 + 128 x value."""
    degrees = np.searchsorted(BASES, np.arange(1, rest.shape[1] + 1), side="right")
    step = np.array([2 ** (8 - _SH_BITS[degree - 1]) for degree in degrees])[:, None]
    return (np.rint(rest.clip(-1, 1) * 128 / step) * step + 128).clip(0, 255).astype(np.uint8)


def _parse_header(head: bytes, versions: tuple[int, ...]) -> _Header:
    """Check the first 16 bytes. Raise ValueError if they are no header of these versions."""
    if len(head) < _HEADER.size:
        raise ValueError("it is shorter than a header of spz")
    magic, version, count, degree, bits, flags, streams = _HEADER.unpack(head)
    if magic != _MAGIC or version not in versions:
        raise ValueError(
            f"it begins with 0x{magic:x} and version {version}; spz begins with 0x{_MAGIC:x} and "
            "version 2, 3 or 4"
        )
    if degree > 3:
        raise ValueError(f"its harmonics have the degree {degree}; 0, 1, 2 and 3 can be read")
    if bits > 23:
        raise ValueError(f"its positions have {bits} bits after the point; at most 23 are valid")
    return _Header(version, count, degree, bits, flags, streams)


def _inflate_head(data: bytes, size: int) -> bytes:
    """Decompress the first bytes of gzip."""
    try:
        return zlib.decompressobj(wbits=31).decompress(data, size)
    except zlib.error as error:
        raise ValueError(f"its gzip is damaged: {error}") from None


def _inflate(data: bytes, size: int) -> bytes:
    """Decompress gzip to its end, where its checksum is compared. More than `size` is left out."""
    reader = zlib.decompressobj(wbits=31)
    try:
        content = reader.decompress(data, size)
        extra = 0
        while not reader.eof and (block := reader.decompress(reader.unconsumed_tail, _BLOCK_BYTES)):
            extra += len(block)
            if extra > _MAX_EXTRA_BYTES:
                raise ValueError(f"it holds more than the {size} bytes of its Gaussians")
    except zlib.error as error:
        raise ValueError(f"its gzip is damaged: {error}") from None
    if not reader.eof:
        raise ValueError(f"its gzip ends early, after {len(content)} of {size} bytes")
    return content


def _split_gzip(data: bytes, header: _Header) -> list[bytes]:
    """Decompress the values of version 2 or 3."""
    size = _HEADER.size + sum(header.sizes)
    content = _inflate(data, size)
    if len(content) < size:
        raise ValueError(f"it holds {len(content)} bytes; {header.count} Gaussians need {size}")
    ends = np.cumsum((_HEADER.size, *header.sizes))
    return [content[a:b] for a, b in zip(ends[:-1], ends[1:], strict=True)]


def _split_zstd(data: bytes, header: _Header) -> list[bytes]:
    """Decompress the values of version 4. Streams of extensions are ignored."""
    if len(data) < _HEADER_4.size:
        raise ValueError("it is shorter than a header of spz")
    start = _HEADER_4.unpack(data[: _HEADER_4.size])[-1]
    offset = start + header.stream_count * _STREAM.size
    if offset > len(data):
        raise ValueError("its table of streams lies outside of the file")
    table = [
        _STREAM.unpack_from(data, start + k * _STREAM.size) for k in range(header.stream_count)
    ]
    streams = []
    for expected in header.sizes:
        if expected == 0:
            streams.append(b"")
            continue
        if not table:
            raise ValueError(f"it has only {header.stream_count} streams")
        packed_size, size = table.pop(0)
        if size != expected or packed_size > len(data) - offset:
            raise ValueError(
                f"a stream states {size} bytes, compressed to {packed_size}; expected {expected}"
            )
        streams.append(_decompress(data[offset : offset + packed_size], expected))
        offset += packed_size
    return streams


def _decompress(data: bytes, size: int) -> bytes:
    """Decompress one stream of Zstandard to a known size."""
    import zstandard

    try:
        with zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(data) as reader:
            content = reader.read(size)
    except zstandard.ZstdError as error:
        raise ValueError(f"its Zstandard stream is damaged: {error}") from None
    if len(content) != size:
        raise ValueError(f"a stream holds {len(content)} bytes; expected {size}")
    return content
