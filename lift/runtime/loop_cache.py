"""Checksums in numba's cache of compiled loops. A damaged loop is compiled again.

Without them a power cut that leaves an empty file makes every later run fail, and a flipped bit is
machine code that is executed.
"""

import logging
import pickle
import zlib
from pathlib import Path
from typing import Any

_MARK = b"crc32"
"""Bytes before the checksum at the end of a file. pickle ignores what follows its content."""

_TRAILER_BYTES = len(_MARK) + 4


def guard_cache(loop: Any) -> None:
    """Let numba write checksums to its cache of a loop, and compare them.

    Files without a checksum, of older versions, are used if they can be read.

    Args:
        loop: What `numba.njit` with `cache=True` returned.
    """
    file = getattr(loop._cache, "_cache_file", None)
    if file is None:
        return
    dump = file._dump
    load_index = file._load_index
    load_data = file._load_data

    def checked_dump(value: Any) -> bytes:
        data = dump(value)
        return data + _MARK + zlib.crc32(data).to_bytes(4, "little")

    def checked_index() -> Any:
        path = Path(file._index_path)
        try:
            _check(path, len(pickle.dumps(file._version, protocol=-1)))
            return load_index()
        except FileNotFoundError:
            return {}
        except PermissionError:
            raise
        except Exception as error:  # pickle raises errors of any kind for damaged files
            return _report(path, error) or {}

    def checked_data(name: str) -> Any:
        path = Path(file._data_path(name))
        try:
            _check(path, 0)
            return load_data(name)
        except PermissionError:
            raise
        except Exception as error:
            return _report(path, error)

    file._dump = checked_dump
    file._load_index = checked_index
    file._load_data = checked_data


def _check(path: Path, start: int) -> None:
    """Compare the checksum at the end of a file with its content after `start` bytes."""
    content = path.read_bytes()
    data, trailer = content[start:-_TRAILER_BYTES], content[-_TRAILER_BYTES:]
    if trailer.startswith(_MARK) and trailer[len(_MARK) :] != zlib.crc32(data).to_bytes(
        4, "little"
    ):
        raise ValueError("its checksum differs")


def _report(path: Path, error: Exception) -> None:
    """Say that a file is damaged."""
    if not isinstance(error, FileNotFoundError):
        logging.getLogger(__name__).warning(
            "%s is damaged (%s); the loop is compiled again", path, " ".join(str(error).split())
        )
