"""Read the files of users within bounds of size and of folders.

A file may come from anyone. It is checked before it is opened.
"""

import codecs
import errno
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

MAX_FILE_BYTES = 2**33
"""Largest file in bytes that is read into memory as a whole."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks and their encodings. That of UTF-32 LE begins with that of UTF-16 LE."""

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
