"""Seeded mutations of valid files, and limits of time and memory for the code that reads them."""

import json
import resource
import signal
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from lift.registry import ComponentError

SECONDS = 30
"""Time limit of a case. A case takes a few milliseconds."""
MEMORY = 512 * 2**20
"""Largest growth of the resident memory in bytes during a case."""
RESERVED = 4 * 2**30
"""Address space in bytes that a case may reserve beyond what the process has."""

_DEEP = "deep nesting"
_TEXTS = ("", "x" * 2000, "\0", "../../../etc/hostname", "/etc/hostname", "é\ud800", "1e5", "nan")
_NUMBERS = (
    *(0, 1, -1, 0.5, -0.0, 7, 2**31, 2**60, -(2**63), 10**400, 10**30),
    *(1e308, -1e308, 1e-320, 1e-30, 1e30, float("nan"), float("inf"), float("-inf")),
)
_WORDS = (
    *("0", "-1", "1e999", "nan", "inf", "-inf", "1" * 400, "9223372036854775808", "1e-320"),
    *("", "x", "é", "#", "1e308", "1152921504606846976", "0x10", "1_0", "None", "\0"),
)


class HangError(BaseException):
    """A case took too long. It is no Exception, so that no reader catches it."""


@contextmanager
def limits() -> Iterator[None]:
    """Raise HangError or AssertionError if the block takes too much time or memory."""

    def stop(*_: Any) -> None:
        raise HangError(f"no end after {SECONDS} seconds")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + RESERVED, hard))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert growth < MEMORY, f"memory grew by {growth / 2**20:.0f} MiB"


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Accept errors that a user can correct, if their message is one line. Others pass through."""
    try:
        yield
    except (ValueError, OSError, ImportError, ComponentError) as error:
        message = str(error)
        if isinstance(error, ImportError):
            assert "pip install" in message, "an optional package is not named"
        assert not isinstance(error, UnicodeError), "an error of an encoding names no file"
        assert message and "\n" not in message, f"the message is {message!r}"
        assert len(message) < 2500, f"the message has {len(message)} characters"


def mutate_json(content: Any, rng: np.random.Generator) -> bytes:
    """Change, delete, duplicate or nest a few values of a JSON document, or damage its text."""
    for _ in range(int(rng.integers(1, 4))):
        content = _mutate_node(json.loads(json.dumps(content)), rng)
    text = json.dumps(content)
    text = text.replace(json.dumps(_DEEP), "[" * 100_000 + "]" * 100_000)
    choice = rng.integers(0, 20)
    if choice == 0:
        return text.encode("utf-16")
    if choice == 1:
        return b"\xef\xbb\xbf" + text.encode()
    if choice == 2:
        return mutate_bytes(text.encode(), rng)
    if choice == 3:
        return text.replace("{", '{"w": 3, "w": 1e999, ', 1).encode()
    return text.encode()


def _mutate_node(root: Any, rng: np.random.Generator) -> Any:
    nodes: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        keys = range(len(node)) if isinstance(node, list) else list(node)
        for key in keys:
            nodes.append((node, key))
            if isinstance(node[key], (list, dict)):
                visit(node[key])

    visit(root)
    if not nodes:
        return root
    # Every key once, so that a matrix with many numbers does not hide the other entries.
    names = sorted({str(key) for _, key in nodes})
    name = names[int(rng.integers(len(names)))]
    matching = [pair for pair in nodes if str(pair[1]) == name]
    node, key = matching[int(rng.integers(len(matching)))]
    if rng.random() < 0.2:
        del node[key]
    else:
        node[key] = _odd_value(node[key], rng)
    return root


def _odd_value(value: Any, rng: np.random.Generator) -> Any:
    kind = int(rng.integers(0, 10))
    if kind < 6:
        return _NUMBERS[int(rng.integers(len(_NUMBERS)))]
    if kind == 6:
        return _TEXTS[int(rng.integers(len(_TEXTS)))]
    others = [None, [], {}, True, _DEEP, [value], [value] * 3, {"a": value}]
    return others[int(rng.integers(len(others)))]


def mutate_text(data: bytes, rng: np.random.Generator) -> bytes:
    """Change, delete or repeat words and lines, or damage bytes."""
    if rng.random() < 0.1:
        return mutate_bytes(data, rng)
    lines = [line.split(" ") for line in data.decode().split("\n")]
    for _ in range(int(rng.integers(1, 4))):
        line = int(rng.integers(len(lines)))
        word = int(rng.integers(len(lines[line]))) if lines[line] else 0
        action = int(rng.integers(0, 8))
        if action < 4 and lines[line]:
            lines[line][word] = _WORDS[int(rng.integers(len(_WORDS)))]
        elif action == 4 and lines[line]:
            del lines[line][word]
        elif action == 5:
            lines.insert(line, [])
        elif action == 6 and len(lines) > 1:
            del lines[line]
        else:
            lines.insert(line, list(lines[line]))
    return "\n".join(" ".join(words) for words in lines).encode()


def mutate_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip, overwrite, insert or cut bytes."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        if not out:
            break
        # Headers come first. Half of all damage is there.
        stop = min(len(out), 200) if rng.random() < 0.5 else len(out)
        start = int(rng.integers(stop))
        action = int(rng.integers(0, 7))
        if action < 2:
            out[start] ^= 1 << int(rng.integers(8))
        elif action == 2:
            out[start] = int(rng.integers(256))
        elif action == 3:
            numbers = (2**60, 10**11, 2**32 - 1, 2**31, 2**16, 0)
            layouts = ("<Q", "<I", ">I", "<H", ">H")
            layout = layouts[int(rng.integers(len(layouts)))]
            number = numbers[int(rng.integers(len(numbers)))] % 2 ** (8 * struct.calcsize(layout))
            out[start : start + struct.calcsize(layout)] = struct.pack(layout, number)
        elif action == 4:
            number = _NUMBERS[int(rng.integers(11, len(_NUMBERS)))]
            layout = "<d" if rng.random() < 0.5 or abs(number) in (1e308,) else "<f"
            out[start : start + struct.calcsize(layout)] = struct.pack(layout, number)
        elif action == 5:
            out[start:start] = rng.bytes(int(rng.integers(1, 20)))
        else:
            del out[start : start + int(rng.integers(1, 40))]
    if rng.random() < 0.1:
        del out[int(rng.integers(len(out) + 1)) :]
    return bytes(out)


def mutate_npy(data: bytes, rng: np.random.Generator) -> bytes:
    """Replace the array, its shape or type in the header, or damage bytes."""
    action = int(rng.integers(0, 4))
    array = np.load(BytesIO(data))
    if action == 0:
        return mutate_bytes(data, rng)
    if action == 1:
        header = data[:128]
        shapes = (b"(1000000000000,)", b"(-1,)", b"()", b"(2, 4611686018427387904)", b"(0, 17)")
        types = (b"'|O'", b"'<f16'", b"'<U9'", b"'<c16'", b"'<M8[s]'", b"[('a', '<f8')]")
        start = header.index(b"(")
        header = header[:start] + shapes[int(rng.integers(len(shapes)))] + b"}"
        if rng.random() < 0.5:
            start = header.index(b":") + 1
            stop = header.index(b",", start)
            header = header[:start] + types[int(rng.integers(len(types)))] + header[stop:]
        return header[:127].ljust(127) + b"\n" + data[128:]
    if action == 2 and array.size and array.dtype.kind == "f":
        array = array.copy()
        number = _NUMBERS[int(rng.integers(11, len(_NUMBERS)))]
        array.reshape(-1)[int(rng.integers(array.size))] = number
        return npy(array)
    flat = array.reshape(-1)
    others = (array[..., None], flat[:1], flat, np.zeros_like(array), np.zeros(0), np.array("a"))
    if array.dtype.kind not in "if":
        others = (array[..., None], flat[:1], np.zeros(3), np.array("x" * 300))
    return npy(others[int(rng.integers(len(others)))])


def npy(array: np.ndarray) -> bytes:
    """Content of an npy file."""
    stream = BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def mutate_npz(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage one member of an npz file, leave it out, or damage the archive."""
    if rng.random() < 0.2:
        return mutate_bytes(data, rng)
    with zipfile.ZipFile(BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = sorted(members)[int(rng.integers(len(members)))]
    if rng.random() < 0.2:
        del members[name]
    else:
        members[name] = mutate_npy(members[name], rng)
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, value in members.items():
            archive.writestr(key, value)
    return stream.getvalue()
