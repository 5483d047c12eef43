"""What a power cut leaves of a folder: a model of a disk that keeps only what was synced.

`record` patches `os.fsync` in this process, so that each call adds a line to a log. `cut` reads the
log and damages the folder as a power cut may do:

- A file that was not synced after its last write keeps its content, or is empty, cut short, or ends
  with zeros.
- An entry of a folder that was not synced since it appeared is lost, or goes back to the name that
  the folder's last sync knew. All such entries of a folder are lost together, or none.

Deleted files do not come back. Real file systems lose less: ext4, for example, writes the data of a
file before it renames the file over an existing one.

`sync_recorder` calls `record` in all processes of a command.
"""

import json
import os
import random
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FileState = tuple[int, int, int]
"""Inode, size in bytes, and time of the last write in nanoseconds."""


def record(log: Path) -> None:
    """Write a line for each call of `os.fsync` and `os.fdatasync` in this process.

    Args:
        log: The file. Lines are added at its end.
    """
    os.fsync = _logged(os.fsync, log)
    if hasattr(os, "fdatasync"):
        os.fdatasync = _logged(os.fdatasync, log)


def _logged(sync: Callable[[Any], None], log: Path) -> Callable[[Any], None]:
    def logged_sync(descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        status = os.fstat(number)
        line: dict[str, Any]
        if stat.S_ISDIR(status.st_mode):
            entries = {entry.name: entry.inode() for entry in os.scandir(number)}
            line = {"folder": status.st_ino, "entries": entries}
        else:
            line = {"file": [status.st_ino, status.st_size, status.st_mtime_ns]}
        sync(descriptor)
        with log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    return logged_sync


@dataclass
class SyncLog:
    """What was synced."""

    files: set[FileState] = field(default_factory=set)
    """Files as they were at a sync."""
    folders: dict[int, dict[str, int]] = field(default_factory=dict)
    """Inode of a folder -> names and inodes of its entries at its last sync."""

    @classmethod
    def read(cls, log: Path) -> "SyncLog":
        """Read a log. A last line that is incomplete counts as no sync.

        Args:
            log: The file that `record` wrote. It may be missing.
        """
        result = cls()
        for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else []:
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                continue
            if "file" in event:
                result.files.add(tuple(event["file"]))
            else:
                result.folders[event["folder"]] = event["entries"]
        return result


def cut(root: Path, synced: SyncLog, rng: random.Random) -> dict[str, int]:
    """Damage a folder as a power cut may do. Nobody may write to it at the same time.

    Args:
        root: The folder. It counts as synced itself.
        synced: What was synced.
        rng: Source of randomness.

    Returns:
        Numbers of files that were `intact` and `damaged`, and of entries that were `renamed_back`
        and `lost`.
    """
    counts = {"intact": 0, "damaged": 0, "renamed_back": 0, "lost": 0}
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        status = path.stat()
        if (status.st_ino, status.st_size, status.st_mtime_ns) in synced.files:
            counts["intact"] += 1
        else:
            counts["damaged" if _damage(path, rng) else "intact"] += 1
    folders = [path for path in sorted(root.rglob("*")) if path.is_dir() and not path.is_symlink()]
    for folder in [*reversed(folders), root]:  # children before their parents
        if folder.exists() and rng.random() < 0.5:
            _lose_entries(folder, synced, counts)
    return counts


def _damage(path: Path, rng: random.Random) -> bool:
    """Damage a file, or leave it. Return whether it has changed."""
    size = path.stat().st_size
    kind = rng.choice(("keep", "empty", "short", "zeros"))
    if kind == "keep" or not size:
        return False
    length = 0 if kind == "empty" else rng.randrange(size)
    with path.open("r+b") as stream:
        stream.truncate(length)
        if kind == "zeros":
            stream.truncate(size)
    return True


def _lose_entries(folder: Path, synced: SyncLog, counts: dict[str, int]) -> None:
    """Undo all changes of a folder's entries since its last sync."""
    known = synced.folders.get(folder.stat().st_ino, {})
    names = {inode: name for name, inode in known.items()}
    moves: list[tuple[Path, Path]] = []
    for entry in list(os.scandir(folder)):
        path = Path(entry.path)
        if known.get(entry.name) == entry.inode():
            continue
        if old_name := names.get(entry.inode()):
            away = folder / f"{entry.name}.power-cut"
            path.rename(away)
            moves.append((away, folder / old_name))
            counts["renamed_back"] += 1
        else:
            shutil.rmtree(path) if entry.is_dir(follow_symlinks=False) else path.unlink()
            counts["lost"] += 1
    for away, target in moves:
        away.rename(target)
