"""Small ICC profiles with a gamma curve, for pictures of tests."""

import struct

import numpy as np

D50 = (0.9642, 1.0, 0.8249)
"""White of all ICC profiles."""
DISPLAY_P3 = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
"""XYZ of red, green and blue of Display P3, adapted to D50."""
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
"""XYZ of red, green and blue of sRGB, adapted to D50."""


def rgb_profile(primaries: tuple = DISPLAY_P3, gamma: float = 2.2) -> bytes:
    """A profile of RGB colours with the XYZ of its primaries."""
    tags = {b"wtpt": _xyz(D50), b"desc": _description()}
    for name, value in zip((b"r", b"g", b"b"), primaries, strict=True):
        tags[name + b"XYZ"] = _xyz(value)
        tags[name + b"TRC"] = _curve(gamma)
    return _profile(b"RGB ", tags)


def grey_profile(gamma: float) -> bytes:
    """A profile of grey values."""
    tags = {b"wtpt": _xyz(D50), b"desc": _description(), b"kTRC": _curve(gamma)}
    return _profile(b"GRAY", tags)


def cmyk_profile() -> bytes:
    """A profile of inks that are all grey: L is 100 (1 - k) (1 - 0.3 (c + m + y) )."""
    identity = bytes(range(256))
    corners = b""
    for index in range(16):
        c, m, y, k = (index >> shift & 1 for shift in (3, 2, 1, 0))
        corners += bytes([round(255 * (1 - k) * (1 - 0.3 * (c + m + y))), 128, 128])
    matrix = struct.pack(">9i", *(65536 * value for value in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix
    table += 4 * identity + corners + 3 * identity
    tags = {b"wtpt": _xyz(D50), b"desc": _description(), b"A2B0": table}
    return _profile(b"CMYK", tags, b"Lab ", b"prtr")


def to_srgb(color: tuple, primaries: tuple = DISPLAY_P3, gamma: float = 2.2) -> np.ndarray:
    """The colour [3] in [0, 255] that sRGB has for a colour of `rgb_profile`."""
    linear = (np.array(color) / 255) ** gamma
    xyz = linear @ np.array(primaries)
    linear = (xyz @ np.linalg.inv(np.array(SRGB))).clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _profile(
    space: bytes, tags: dict[bytes, bytes], connection: bytes = b"XYZ ", kind: bytes = b"mntr"
) -> bytes:
    table = struct.pack(">I", len(tags))
    start = 128 + 4 + 12 * len(tags)
    content = b""
    for name, data in tags.items():
        table += struct.pack(">4sII", name, start + len(content), len(data))
        content += data + b"\0" * (-len(data) % 4)
    size = start + len(content)
    head = struct.pack(">I4sI4s4s4s", size, b"\0" * 4, 0x02400000, kind, space, connection)
    head += b"\0" * 12 + b"acsp" + b"\0" * 28
    head += struct.pack(">3i", *(round(65536 * value) for value in D50))
    return head.ljust(128, b"\0") + table + content


def _xyz(values: tuple) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * value) for value in values))


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * gamma))


def _description() -> bytes:
    text = b"a test\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + b"\0" * 79
