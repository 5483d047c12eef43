"""Write files and folders so that readers and power cuts find all of one or nothing of it.

A file or folder is written under a hidden name. Its content is synced to the disk before it is
renamed, and its folder after that. What is published gets the permissions of ordinary files, and
is never writable for everyone.
"""

import ctypes
import errno
import os
import secrets
import shutil
import stat
import sys
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

KEPT_ASIDE = 2
"""Largest number of damaged copies of a file or folder that are kept."""

_MAX_NAME_BYTES = 200
"""Longest name that hidden files repeat. File systems allow 255 bytes."""

_MAX_SUFFIX = 16
"""Longest suffix that the draft of a file keeps. Some writers choose the format by it."""

_SYNC_THREADS = 8
"""Number of files that are synced at once: a disk writes several with one flush."""

_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EROFS)
"""Errors of file systems that cannot sync a file or a folder."""

_AT_FDCWD = -100
"""Argument of renameat2: paths are relative to the current folder."""

_RENAME_EXCHANGE = 2
"""Argument of renameat2: swap two paths."""
_OLD = ".old"
"""Suffix of a folder that is being replaced."""


def file_mode() -> int:
    """Return the permissions of new files: what the umask leaves, but not to write for everyone."""
    return 0o666 & ~(_umask() | 0o002)


def folder_mode() -> int:
    """Return the permissions of new folders, as `file_mode` does for files."""
    return 0o777 & ~(_umask() | 0o002)


def _umask() -> int:
    """Return the umask of this process."""
    with suppress(OSError), open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:  # only Linux tells it without changing it
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def make_folder(path: Path) -> None:
    """Create a folder and the folders above it, with the permissions of `folder_mode`.

    Args:
        path: The folder. It may exist.
    """
    if path.is_dir():
        return
    if path.parent != path:
        make_folder(path.parent)
    with suppress(FileExistsError):
        path.mkdir(folder_mode())
    path.mkdir(exist_ok=True)  # raises if it is a file


def set_permissions(folder: Path) -> None:
    """Give a folder and all in it the permissions of new files. Some writers choose others.

    Args:
        folder: The folder. Symbolic links in it, and files of other users, are left as they are.
    """
    modes = {True: folder_mode(), False: file_mode()}
    paths = [folder, *(path for path in folder.rglob("*") if not path.is_symlink())]
    for path in paths:
        mode = modes[path.is_dir()]
        if stat.S_IMODE(path.stat().st_mode) != mode:
            with suppress(PermissionError):
                path.chmod(mode)


def sync(path: Path) -> None:
    """Wait until a file, or the list of a folder's files, is on the disk.

    Args:
        path: The file or folder.

    Raises:
        OSError: The disk is full or fails.
    """
    if os.name == "nt":
        if path.is_dir():
            return  # Windows syncs no folders
        flags = os.O_RDWR
    else:
        flags = os.O_RDONLY
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise OSError(error.errno, os.strerror(error.errno or 0), str(path)) from None
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Wait until all files and folders in a folder are on the disk.

    Args:
        folder: The folder. Symbolic links in it are not followed.

    Raises:
        OSError: The disk is full or fails.
    """
    files: list[Path] = []
    folders: list[Path] = []
    for root, _, names in os.walk(folder):
        folders.append(Path(root))
        files += [path for name in names if not (path := Path(root, name)).is_symlink()]
    _sync_all(files)
    _sync_all(folders)


def _sync_all(paths: Iterable[Path]) -> None:
    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        list(pool.map(sync, paths))


def hidden_path(path: Path, suffix: str) -> Path:
    """Return the path of a hidden file or folder that belongs to another one, beside it.

    Args:
        path: The other one.
        suffix: End of the name, such as `.lock`.
    """
    name = os.fsencode(path.name)
    if len(name) > _MAX_NAME_BYTES:
        text = name[: _MAX_NAME_BYTES // 2].decode(errors="ignore")
        return path.with_name(f".{text}-{zlib.crc32(name):08x}{suffix}")
    return path.with_name(f".{path.name}{suffix}")


def publish(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file under a temporary name, and rename it.

    Args:
        path: The file. Its folder exists.
        write: Writes the content to the path that it receives.

    Raises:
        OSError: The file cannot be written. Nothing is left of it. The error names the file.
        ValueError: The name is that of a device or of another special file.
    """
    _check_replaceable(path)
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= _MAX_SUFFIX else ""
    draft = hidden_path(path, f"-{secrets.token_hex(4)}{suffix}")
    try:
        write(draft)
        with suppress(PermissionError):
            draft.chmod(file_mode())
        replace(draft, path)
    except BaseException as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        if isinstance(error, OSError) and str(error.filename) == str(draft):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def replace(draft: Path, path: Path) -> None:
    """Sync a finished draft, and rename it to a file.

    Args:
        draft: The draft, in the same folder.
        path: The file. An existing one is replaced.
    """
    sync(draft)
    os.replace(draft, path)
    sync(path.parent)


def _check_replaceable(path: Path) -> None:
    """Raise ValueError for a device, a pipe or a socket, which a rename would replace."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError(f"{str(path)!r} is a device or another special file; choose another name")


def publish_folder(draft: Path, final: Path) -> None:
    """Sync a finished folder, and give it its name. An older folder of that name is removed.

    A reader finds the old folder or the new one. On Linux this holds at every moment. Elsewhere
    the name is missing for an instant; `recover_folder` repairs what a kill at that instant leaves.

    Args:
        draft: The finished folder, beside the final one.
        final: The name.

    Raises:
        ValueError: The name is that of a device or of another special file.
    """
    _check_replaceable(final)
    sync_tree(draft)
    if os.path.lexists(final):
        _exchange(draft, final)
    else:
        os.rename(draft, final)
    sync(final.parent)
    remove(draft)  # now the older folder, if there was one


def recover_folder(final: Path) -> None:
    """Restore a folder that a process which was killed in `publish_folder` has renamed.

    A symbolic link in its place is removed. A file and the folder of another user are left there.

    Args:
        final: Name of the folder.
    """
    old = hidden_path(final, _OLD)
    if old.is_symlink():
        with suppress(OSError):
            old.unlink()
    elif old.is_dir() and is_own(old):
        if os.path.lexists(final):
            remove(old)
        else:
            os.rename(old, final)


def _exchange(draft: Path, final: Path) -> None:
    """Swap two paths in one step if the system can, else in three."""
    arguments = (_AT_FDCWD, os.fsencode(draft), _AT_FDCWD, os.fsencode(final), _RENAME_EXCHANGE)
    if (swap := _rename_function()) is not None and swap(*arguments) == 0:
        return
    old = hidden_path(final, _OLD)
    if old.is_dir() and not old.is_symlink() and not is_own(old):
        set_aside(old)
    remove(old)
    os.rename(final, old)
    os.rename(draft, final)
    os.rename(old, draft)


@cache
def _rename_function() -> Any:
    """Return renameat2 of the C library. None where it has none."""
    if not sys.platform.startswith("linux"):
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_char_p] * 2 + [ctypes.c_uint]
    return function


def copy_path(source: Path, target: Path) -> None:
    """Replace a file or a folder by a copy of another one. A file is replaced atomically.

    Args:
        source: The file or folder.
        target: The path of the copy. Its folder exists.
    """
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
    else:
        draft = target.with_name(f"{target.name}.draft")
        shutil.copyfile(source, draft)
        os.replace(draft, target)


def remove(path: Path) -> None:
    """Remove a file, a folder or a symbolic link, if it exists. Links are not followed.

    Args:
        path: The path.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def set_aside(path: Path, name: str | None = None) -> Path:
    """Rename a damaged file or folder to NAME.damaged-N. Older ones are removed.

    Args:
        path: The file, folder or symbolic link.
        name: NAME. None: that of the path.

    Returns:
        The new path. At most `KEPT_ASIDE` of a name are kept.
    """
    stem = f"{(name or path.name).lstrip('.')}.damaged-"
    numbers = sorted(
        int(entry.name.removeprefix(stem))
        for entry in path.parent.iterdir()
        if entry.name.startswith(stem) and entry.name.removeprefix(stem).isdecimal()
    )
    target = path.with_name(f"{stem}{numbers[-1] + 1 if numbers else 1}")
    os.rename(path, target)
    for number in numbers[: len(numbers) + 1 - KEPT_ASIDE]:
        with suppress(OSError):
            remove(path.with_name(f"{stem}{number}"))
    return target


def prepare_draft(draft: Path, resumable: bool = False) -> Path | None:
    """Create the folder of a draft, or keep the one of a killed process.

    A symbolic link, a file and the folder of another user are not trusted.

    Args:
        draft: The folder. The folder above it exists.
        resumable: Keep the content of a folder.

    Returns:
        Where the folder of another user was put, if there was one.
    """
    aside = None
    if draft.is_symlink() or (draft.exists() and not draft.is_dir()):
        draft.unlink()
    elif draft.is_dir() and not is_own(draft):
        aside = set_aside(draft)
    elif draft.is_dir() and not resumable:
        shutil.rmtree(draft)
    if not draft.is_dir():
        draft.mkdir(folder_mode())  # raises if another process puts anything there
    return aside


def is_own(path: Path) -> bool:
    """Whether a path belongs to the user of this process. Windows does not tell.

    Args:
        path: The path. A symbolic link is not followed.
    """
    return os.name == "nt" or path.lstat().st_uid == os.geteuid()


def open_lock(path: Path) -> FileLock:
    """Return the lock in a file, which the group may use if the umask lets it write.

    Args:
        path: The file. A symbolic link or a folder of that name is put away.
    """
    if path.is_symlink():
        path.unlink(missing_ok=True)
    elif path.exists() and not path.is_file():
        set_aside(path)
    return FileLock(path, mode=file_mode(), thread_local=False)  # any thread may release it


def acquire(lock: FileLock, wait: Callable[[], Any] | None = None) -> bool:
    """Acquire a lock.

    Args:
        lock: The lock.
        wait: Called before waiting for another process. None does not wait.

    Returns:
        Whether the lock was acquired.

    Raises:
        PermissionError: The file of the lock belongs to another user.
    """
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if wait is None:
                return False
            wait()
            lock.acquire()
    except PermissionError:
        raise PermissionError(
            f"{lock.lock_file} is another user's lock, and this user may not write to it; let "
            "that user start with umask 002 in a folder of a common group, or choose another "
            "output=FOLDER"
        ) from None
    return True
