"""Read the files of users within bounds of size, of numbers and of folders.

A file may come from anyone. What it states is checked before memory is reserved for it, and each
defect is a ValueError that names the file.
"""

import codecs
import errno
import json
import lzma
import math
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

MAX_FILE_BYTES = 2**33
"""Largest file in bytes that is read into memory as a whole."""
MAX_JSON_BYTES = 2**27
"""Largest JSON file in bytes."""
MAX_NUMBER = 1e30
"""Largest magnitude of a number in a file. Its square fits in double precision."""
MAX_SIDE = 2**16
"""Largest side in pixels of a picture that a camera file describes."""

PARSE_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Exceptions that invalid content can cause in a parser. RecursionError is a RuntimeError."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks and their encodings. That of UTF-32 LE begins with that of UTF-16 LE."""
_MAX_DIGITS = 40
"""Number of digits from which an integer in JSON is read as a float."""

IsAllowed = Callable[[Path], bool]
"""Whether a file may be read."""
_IS_ALLOWED: ContextVar[IsAllowed | None] = ContextVar("is_allowed", default=None)
"""The condition of `only_allowed`."""


@contextmanager
def only_allowed(is_allowed: IsAllowed) -> Iterator[None]:
    """Refuse other files in `check_regular`, with which all readers begin.

    It holds for the thread that enters the block.

    Args:
        is_allowed: Whether a file may be opened.
    """
    token = _IS_ALLOWED.set(is_allowed)
    try:
        yield
    finally:
        _IS_ALLOWED.reset(token)


def describe_error(error: BaseException) -> str:
    """Describe an exception of a parser in one line of at most 300 characters.

    Args:
        error: The exception.

    Returns:
        Its type and message.
    """
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}"[:300].removesuffix(": ")


def shorten(value: Any) -> str:
    """Format a value of a file for a message.

    Args:
        value: The value, of any type and length.

    Returns:
        At most 60 characters.
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**_MAX_DIGITS:
        return f"an integer of more than {_MAX_DIGITS} digits"
    try:
        text = repr(value)
    except RecursionError:
        text = f"a nested {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_regular(path: Path, max_bytes: int = MAX_FILE_BYTES) -> int:
    """Check that a path is a regular file of bounded size. Others may never end.

    Args:
        path: The file.
        max_bytes: Largest size in bytes.

    Returns:
        Its size in bytes.

    Raises:
        OSError: The file does not exist or cannot be accessed.
        ValueError: It is no regular file, or it is too large.
        PermissionError: The path is not allowed in a block of `only_allowed`.
    """
    is_allowed = _IS_ALLOWED.get()
    if is_allowed is not None and not is_allowed(Path(path)):
        raise PermissionError(
            f"{str(path)!r} lies outside of the dataset's folder after links are resolved; set "
            "dataset.allow_outside=true to read it"
        )
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{str(path)!r} is no regular file")
    if status.st_size > max_bytes:
        raise ValueError(
            f"{str(path)!r} has {status.st_size / 2**20:.0f} MiB; files of this kind are read up "
            f"to {max_bytes / 2**20:.0f} MiB"
        )
    return status.st_size


def read_file(path: Path, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Read a regular file of bounded size.

    Args:
        path: The file.
        max_bytes: Largest size in bytes.

    Returns:
        Its content.

    Raises:
        OSError: The file does not exist or cannot be read.
        ValueError: It is no regular file, or it is too large.
    """
    check_regular(path, max_bytes)
    return Path(path).read_bytes()


def decode_text(data: bytes) -> str:
    """Decode text in UTF-8, or in the encoding of its byte order mark.

    Args:
        data: Content of a text file.

    Returns:
        The text without the mark.

    Raises:
        ValueError: The content is no text.
    """
    encoding = next((name for mark, name in _BOMS if data.startswith(mark)), "utf-8")
    return data.decode(encoding)


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, or in the encoding of its byte order mark.

    Args:
        path: The file.

    Returns:
        The text without the mark.

    Raises:
        OSError: The file does not exist or cannot be read.
        ValueError: The file is no text, or it is too large.
    """
    return decode_text(read_file(path))


def parse_json(text: str) -> Any:
    """Parse JSON. Integers of more than 40 digits become floats.

    Args:
        text: The text.

    Returns:
        The content.

    Raises:
        ValueError: The text is invalid, too deeply nested, or gives a key two values.
    """
    try:
        return json.loads(text, parse_int=_parse_integer, object_pairs_hook=_unique_keys)
    except RecursionError:
        raise ValueError("its lists or objects are nested too deeply") from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        path: The file.

    Returns:
        The object.

    Raises:
        OSError: The file does not exist or cannot be read.
        ValueError: The file is no valid JSON, or holds no object.
    """
    data = read_file(path, MAX_JSON_BYTES)
    try:
        content = parse_json(decode_text(data))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} holds {shorten(content)}; expected an object")
    return content


def _parse_integer(text: str) -> int | float:
    return int(text) if len(text) <= _MAX_DIGITS else float(text)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object, and refuse two values for a key."""
    content = dict(pairs)
    if len(content) < len(pairs):
        for key, value in pairs:
            if content[key] != value:
                raise ValueError(f"the key {shorten(key)} has two values")
    return content


def to_number(
    value: Any, field: str, minimum: float | int = -MAX_NUMBER, maximum: float | int = MAX_NUMBER
) -> float:
    """Convert a value of a file to a number in a range.

    Args:
        value: A number, or text of one.
        field: Name of the field in the message.
        minimum: Smallest number.
        maximum: Largest number.

    Returns:
        The number.

    Raises:
        ValueError: The value is no number, NaN, or out of the range.
    """
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not minimum <= number <= maximum:
        raise ValueError(
            f"{field} is {shorten(value)}; expected a number from {minimum:g} to {maximum:g}"
        )
    return number


def load_npy(data: bytes) -> np.ndarray:
    """Parse the content of an npy file. The header is checked before memory is reserved.

    Args:
        data: Content of the file.

    Returns:
        An array of booleans, numbers or text.

    Raises:
        ValueError: The content is invalid, holds Python objects, or disagrees with its header.
    """
    stream = BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"its npy version is {version}; expected (1, 0) or (2, 0)")
    if dtype.kind not in "biufSU":
        raise ValueError(f"its type is {dtype}; expected numbers or text")
    if any(length < 0 for length in shape):
        raise ValueError(f"its shape is {shorten(shape)}")
    expected = math.prod(shape) * dtype.itemsize
    available = len(data) - stream.tell()
    if expected > available:
        raise ValueError(
            f"its shape {shorten(shape)} needs {shorten(expected)} bytes, but {available} follow"
        )
    stream.seek(0)
    return np.load(stream, allow_pickle=False)


def load_npz(
    data: bytes, keys: Iterable[str] | None = None, max_bytes: int = MAX_FILE_BYTES
) -> dict[str, np.ndarray]:
    """Parse the content of an npz file. Only the requested arrays are decompressed.

    Args:
        data: Content of the file.
        keys: Names of the arrays. None loads all. Names that do not exist are left out.
        max_bytes: Largest size of all arrays in bytes.

    Returns:
        The arrays by name.

    Raises:
        ValueError: An array is invalid, or the arrays are too large.
        zipfile.BadZipFile: The content is no zip archive.
    """
    arrays = {}
    total = 0
    with zipfile.ZipFile(BytesIO(data)) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        for key in members if keys is None else keys:
            if key not in members:
                continue
            total += members[key].file_size
            if total > max_bytes:
                raise ValueError(
                    f"its arrays have more than the limit of {max_bytes / 2**20:.0f} MiB"
                )
            try:
                arrays[key] = load_npy(archive.read(members[key]))
            except PARSE_ERRORS as error:
                raise ValueError(f"the array {shorten(key)}: {describe_error(error)}") from None
    return arrays


def npz_names(data: bytes) -> list[str]:
    """List the arrays of an npz file.

    Args:
        data: Content of the file.

    Returns:
        Their names in the order of the file.

    Raises:
        zipfile.BadZipFile: The content is no zip archive.
    """
    with zipfile.ZipFile(BytesIO(data)) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def is_file(path: Path) -> bool:
    """Whether a path is a file. A path that is too long is none.

    Args:
        path: The path.

    Returns:
        True if there is such a file.
    """
    try:
        return Path(path).is_file()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def is_inside(path: Path, folders: Sequence[Path]) -> bool:
    """Whether a path lies in one of several folders after symbolic links are resolved.

    Args:
        path: The path. It need not exist.
        folders: The folders.

    Returns:
        True if it lies in one of them.
    """
    try:
        real = Path(path).resolve()
        return any(real.is_relative_to(Path(folder).resolve()) for folder in folders)
    except (OSError, RuntimeError, ValueError):  # a loop of links, or a null character
        return False
