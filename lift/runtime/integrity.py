"""Checksums of the files of a folder, in its manifest, and the error for a damaged file.

A checksum is CRC-32. It finds any flipped bit and nearly all other damage, at several GB/s. It is
no protection from a person who changes both a file and the manifest.
"""

import errno
import json
import os
import pickle
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from lift.runtime.atomic_io import publish

MANIFEST = "manifest.json"
"""File name of a folder's manifest."""

VERIFY = ("checksum", "size", "none")
"""How the files of a stage are checked when it is read: values of `cache.verify`."""

FORMAT = 2
"""Version of the manifest. Manifests without a version are older, and have no checksums."""

_BLOCK_BYTES = 1 << 20
"""Bytes that are read at once."""

_THREADS = 8
"""Number of files that are read at once. zlib lets other threads work meanwhile."""

_DAMAGE = (errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EIO, errno.ELOOP, errno.EINVAL)
"""Errors of the system that mean damage. Others, such as missing permission, do not."""


class DamagedFileError(ValueError):
    """A file is not what was written.

    Args:
        path: The file or folder.
        reason: What is wrong with it.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} is damaged ({reason})")
        self.path = path
        """The file or folder."""
        self.reason = reason
        """What is wrong with it."""


@contextmanager
def damage_of(path: Path) -> Iterator[None]:
    """Turn errors of a reader in the block into DamagedFileError. Other users' files are no damage.

    Args:
        path: The file or folder that the block reads.
    """
    try:
        yield
    except (DamagedFileError, PermissionError, MemoryError):
        raise
    except pickle.UnpicklingError:  # torch's message advises to read them all the same
        raise DamagedFileError(path, "it holds objects that lift does not read") from None
    except OSError as error:
        is_system_error = error.errno is not None and error.errno not in _DAMAGE
        if is_system_error:
            raise
        raise DamagedFileError(path, _describe(error)) from error
    except Exception as error:  # readers raise errors of many kinds for damaged files
        raise DamagedFileError(path, _describe(error)) from error


def _describe(error: Exception) -> str:
    """Say in a few words what a reader found."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 100 else f"{text[:97]}..."


def checksum(path: Path) -> str:
    """Return the CRC-32 of a file, as 8 hexadecimal digits.

    Args:
        path: The file.
    """
    value = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            value = zlib.crc32(block, value)
    return f"{value:08x}"


def text_checksum(content: Any) -> str:
    """Return the CRC-32 of a JSON-like value, as 8 hexadecimal digits.

    Args:
        content: The value.
    """
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"


def list_files(folder: Path) -> dict[str, list[Any]]:
    """Return the size in bytes and the checksum of each file in a folder, by its relative path.

    Args:
        folder: The folder. Its manifest and symbolic links are left out.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    paths = [path for path in paths if path != folder / MANIFEST]
    with ThreadPoolExecutor(_THREADS) as pool:
        sums = list(pool.map(checksum, paths))
    return {
        path.relative_to(folder).as_posix(): [path.stat().st_size, value]
        for path, value in zip(paths, sums, strict=True)
    }


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """Add the checksum of a JSON-like dictionary to it.

    Args:
        content: The dictionary. Its keys are texts.

    Returns:
        A copy with the entry `checksum`.
    """
    # What is written may differ from what is read back: a tuple becomes a list.
    plain = json.loads(json.dumps({k: v for k, v in content.items() if k != "checksum"}))
    return plain | {"checksum": text_checksum(plain)}


def is_sealed(content: Mapping[str, Any]) -> bool:
    """Whether a dictionary is what `seal` returned.

    Args:
        content: The dictionary.
    """
    plain = {key: value for key, value in content.items() if key != "checksum"}
    return content.get("checksum") == text_checksum(plain)


def write_manifest(folder: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Write the manifest of a folder, with the checksums of all its files.

    Args:
        folder: The folder.
        content: Other entries of the manifest.

    Returns:
        The manifest.
    """
    manifest = seal({"format": FORMAT, **content, "files": list_files(folder)})
    text = json.dumps(manifest, indent=2) + "\n"
    publish(folder / MANIFEST, lambda draft: draft.write_text(text, encoding="utf-8"))
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a folder.

    Args:
        folder: The folder.

    Returns:
        The manifest. One of an older version has no entry `files`.

    Raises:
        DamagedFileError: It is missing, damaged or of a newer version.
    """
    path = folder / MANIFEST
    with damage_of(path):
        manifest = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(manifest, dict):
        raise DamagedFileError(path, "it is no manifest")
    if "files" not in manifest and "checksum" not in manifest and "format" not in manifest:
        return manifest
    if not is_sealed(manifest):
        raise DamagedFileError(path, "its checksum differs")
    if manifest.get("format") != FORMAT or not isinstance(manifest.get("files"), dict):
        raise DamagedFileError(path, "another version of lift wrote it")
    return manifest


def identify(folder: Path) -> tuple[int, ...]:
    """Return numbers that differ after another folder was published under a name.

    Args:
        folder: The folder. It need not exist.
    """
    numbers: list[int] = []
    for path in (folder, folder / MANIFEST):
        with suppress(OSError):
            status = path.stat()
            numbers += [status.st_dev, status.st_ino]
            if path != folder:
                numbers.append(status.st_mtime_ns)
    return tuple(numbers)


def verify_files(
    folder: Path,
    manifest: Mapping[str, Any],
    level: str = "checksum",
    names: Iterable[str] | None = None,
) -> None:
    """Check the files of a folder.

    Args:
        folder: The folder.
        manifest: Its manifest, of `read_manifest`.
        level: One of `VERIFY`.
        names: Files to check. None: all.

    Raises:
        DamagedFileError: A file is missing or differs. The error names the first one.
    """
    if level == "none":
        return
    files = manifest["files"]
    chosen = list(files) if names is None else list(names)

    def check(name: str) -> DamagedFileError | None:
        try:
            size, expected = files[name]
            _verify_file(folder, name, size, expected, level)
        except DamagedFileError as error:
            return error
        return None

    with ThreadPoolExecutor(_THREADS) as pool:
        for error in pool.map(check, chosen):
            if error is not None:
                raise error


def _verify_file(folder: Path, name: str, size: int, expected: str, level: str) -> None:
    """Check one file of a folder."""
    path = folder / name
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise DamagedFileError(folder / MANIFEST, f"it names {name!r}")
    with damage_of(path):
        if not path.exists():
            raise DamagedFileError(path, "it is missing")
        if not path.is_file():
            raise DamagedFileError(path, "it is no file")
        actual = path.stat().st_size
        if actual != size:
            raise DamagedFileError(path, f"it has {actual} bytes instead of {size}")
        if level == "checksum" and checksum(path) != expected:
            raise DamagedFileError(path, "its checksum differs")
