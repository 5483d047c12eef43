"""Numba's cache of compiled loops: checksums, and folders that can only be read.

Without checksums a power cut that leaves an empty file makes every later run fail, and a flipped
bit is machine code that is executed. A damaged loop is compiled again.

numba itself uses a folder only if it can write there. A container image or an installation of
another user has compiled loops in a folder that it cannot write.
"""

import logging
import os
import pickle
import zlib
from pathlib import Path
from typing import Any

from numba.core import caching, config

_MARK = b"crc32"
"""Bytes before the checksum at the end of a file. pickle ignores what follows its content."""

_TRAILER_BYTES = len(_MARK) + 4


class _StoredLocator(caching._SourceFileBackedLocatorMixin, caching._CacheLocator):
    """Find a folder that has compiled versions of a loop and cannot be written.

    Args:
        function: Python function of the loop.
        source: File of the function.
        folder: The folder.
    """

    def __init__(self, function: Any, source: str, folder: Path) -> None:
        self._py_file = source
        self._lineno = function.__code__.co_firstlineno
        self._folder = folder

    def get_cache_path(self) -> str:
        """Return the folder."""
        return str(self._folder)

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> "_StoredLocator | None":
        """Look in the folder NUMBA_CACHE_DIR, then beside the source.

        Args:
            py_func: Python function of the loop.
            py_file: File of the function.

        Returns:
            None if no folder has versions of the loop, or if numba can write the folder.
        """
        name = f"{Path(py_file).stem}.{py_func.__qualname__.replace('<', '').replace('>', '')}"
        index = f"{name}-{py_func.__code__.co_firstlineno}.py*.nbi"
        folders = [Path(py_file).parent / "__pycache__"]
        cache_folder = getattr(config, "CACHE_DIR", "")
        if cache_folder:
            folders.insert(0, Path(cache_folder) / cls.get_suitable_cache_subpath(py_file))
        for folder in folders:
            if os.access(folder, os.W_OK):
                continue
            if any(os.access(file, os.R_OK) for file in folder.glob(index)):
                return cls(py_func, py_file, folder)
        return None


class _StoredFiles(caching.CompileResultCacheImpl):
    """Files of a cache that cannot be written."""

    _locator_classes = [_StoredLocator]


class _StoredCache(caching.FunctionCache):
    """Cache of a loop that cannot be written."""

    _impl_class = _StoredFiles


class _LayeredCache(caching._Cache):
    """Cache that cannot be written, before one that can.

    Args:
        stored: Versions that come with the installation.
        own: Versions that this user compiled, or numba's `NullCache`.
    """

    def __init__(self, stored: caching.FunctionCache, own: Any) -> None:
        self.stored = stored
        self.own = own

    @property
    def cache_path(self) -> str | None:
        """Folder of the versions that this user compiled."""
        return self.own.cache_path

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load the version of a signature, or return None."""
        version = self.stored.load_overload(sig, target_context)
        return self.own.load_overload(sig, target_context) if version is None else version

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save the version of a signature where that is possible."""
        self.own.save_overload(sig, data)

    def enable(self) -> None:
        """Use the caches."""
        self.stored.enable()
        self.own.enable()

    def disable(self) -> None:
        """Do not use the caches."""
        self.stored.disable()
        self.own.disable()

    def flush(self) -> None:
        """Remove the versions that this user compiled."""
        self.own.flush()


def prepare_cache(loop: Any, source_stamp: str | None) -> None:
    """Find compiled versions of a loop that cannot be written, and check all versions.

    Args:
        loop: What `numba.njit` returned, with or without `cache=True`.
        source_stamp: What tells versions of the source apart. None: numba's own stamp.
    """
    try:
        stored = _StoredCache(loop.py_func)
    except RuntimeError:  # numba's word for: no such folder
        stored = None
    for cache in (stored, loop._cache):
        if isinstance(cache, caching.FunctionCache):
            if source_stamp:
                cache._cache_file._source_stamp = source_stamp
            _add_checksums(cache._cache_file)
    if stored and stored.cache_path != loop._cache.cache_path:
        loop._cache = _LayeredCache(stored, loop._cache)


def has_stored_version(loop: Any) -> bool:
    """Return whether a folder that cannot be written has a version for this processor and source.

    Args:
        loop: A loop after `prepare_cache`.
    """
    cache = loop._cache
    return isinstance(cache, _LayeredCache) and _has_version(loop, cache.stored)


def has_own_version(loop: Any) -> bool:
    """Return whether the folder that numba writes has a version for this processor and source.

    Args:
        loop: A loop after `prepare_cache`.

    Returns:
        True also if there is no folder that numba can write.
    """
    cache = loop._cache.own if isinstance(loop._cache, _LayeredCache) else loop._cache
    return not isinstance(cache, caching.FunctionCache) or _has_version(loop, cache)


def _has_version(loop: Any, cache: caching.FunctionCache) -> bool:
    target = loop.targetctx.codegen().magic_tuple()
    return any(target in key for key in cache._cache_file._load_index())


def _add_checksums(file: Any) -> None:
    """Let numba write checksums to the cache files of a loop, and compare them.

    Files without a checksum, of older versions, are used if they can be read.
    """
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
