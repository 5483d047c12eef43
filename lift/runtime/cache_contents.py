"""What the cache of an output folder holds, which runs use it, and how parts of it are removed."""

import json
import os
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from lift.runtime.atomic_io import acquire, is_own, open_lock, remove
from lift.runtime.integrity import MANIFEST

CACHE = "cache"
"""Folder of the stages in an output folder."""

_STAGE = re.compile(r"(?P<name>[a-z_]+)-(?P<key>[0-9a-f]{12})")
_UNFINISHED = re.compile(rf"\.{_STAGE.pattern}\.draft")
_DAMAGED = re.compile(rf"{_STAGE.pattern}\.damaged-\d+")
_REMOVED = re.compile(rf"\.{_STAGE.pattern}.*\.removed-\d+")


@dataclass(frozen=True)
class CachedStage:
    """A stage in the cache, or what is left of one."""

    folder: Path
    """Its folder."""
    name: str
    """Name of the stage."""
    key: str
    """Hash of everything that it depends on."""
    state: str
    """`finished`; `unfinished`, which a run goes on from; `damaged`, which was set aside; or
    `removed`, if the process that removed it was killed."""
    bytes: int
    """Size of its files."""
    age: float
    """Seconds since it was made."""
    runs: tuple[Path, ...]
    """Folders of the finished runs that use it."""


def list_cache(output: Path) -> list[CachedStage]:
    """List the stages in the cache of an output folder, the oldest first.

    Args:
        output: Folder of all runs.

    Raises:
        FileNotFoundError: There is no cache.
    """
    root = output / CACHE
    if not root.is_dir():
        raise FileNotFoundError(f"{output} has no cache; give the output folder of runs")
    users = _users(output)
    stages = []
    for folder in root.iterdir():
        for pattern, state in (
            (_STAGE, "finished"),
            (_UNFINISHED, "unfinished"),
            (_DAMAGED, "damaged"),
            (_REMOVED, "removed"),
        ):
            match = pattern.fullmatch(folder.name)
            if match and not folder.is_symlink():
                with suppress(FileNotFoundError):  # it was published or removed meanwhile
                    stages.append(_describe(folder, match["name"], match["key"], state, users))
    return sorted(stages, key=lambda stage: -stage.age)


def choose_stages(
    stages: Sequence[CachedStage],
    *,
    min_days: float | None = None,
    max_bytes: float | None = None,
    run: Path | None = None,
    unused: bool = False,
) -> list[CachedStage]:
    """Choose stages that meet all conditions.

    Args:
        stages: Of `list_cache`.
        min_days: Smallest age in days.
        max_bytes: Size of what remains at most. The oldest go first.
        run: Folder of a run: stages that it uses and no other finished run does.
        unused: Stages that no finished run uses. Unfinished ones, from which a killed run goes on,
            only with `min_days`.

    Returns:
        The stages, the oldest first.
    """
    chosen = list(stages)
    if min_days is not None:
        chosen = [stage for stage in chosen if stage.age >= min_days * 86_400]
    if unused:
        states = (
            "finished",
            "damaged",
            "removed",
            *(["unfinished"] if min_days is not None else []),
        )
        chosen = [stage for stage in chosen if not stage.runs and stage.state in states]
    if run is not None:
        chosen = [stage for stage in chosen if stage.runs == (run.resolve(),)]
    if max_bytes is not None:
        excess = sum(stage.bytes for stage in stages) - max_bytes
        limited = []
        for stage in chosen:
            if excess <= 0:
                break
            limited.append(stage)
            excess -= stage.bytes
        chosen = limited
    return chosen


def stage_lock(root: Path, name: str, key: str) -> FileLock:
    """Return the lock that a process holds while it makes or removes a stage.

    Args:
        root: Folder of the stages.
        name: Name of the stage.
        key: Its key.
    """
    return open_lock(root / f".{name}-{key}.lock")


def remove_stages(stages: Iterable[CachedStage]) -> tuple[int, list[CachedStage]]:
    """Remove stages from the cache. A stage that a process is making stays.

    Args:
        stages: The stages.

    Returns:
        Bytes that are free now, and the stages that are in use or another user's.
    """
    freed = 0
    busy = []
    for stage in stages:
        if remove_stage(stage.folder, stage.name, stage.key):
            freed += stage.bytes
        else:
            busy.append(stage)
    return freed, busy


def remove_stage(folder: Path, name: str, key: str) -> bool:
    """Remove one stage, under its lock.

    Args:
        folder: Its folder in the cache.
        name: Name of the stage.
        key: Its key.

    Returns:
        Whether it was removed. It stays if a process is making it, which holds its lock, or if it
        is another user's. A run that reads it now fails, and can be run again.
    """
    lock = stage_lock(folder.parent, name, key)
    try:
        if (folder.exists() and not is_own(folder)) or not acquire(lock):
            return False
    except OSError:  # another user's lock
        return False
    try:
        gone = folder.with_name(f".{folder.name.lstrip('.')}.removed-{os.getpid()}")
        with suppress(FileNotFoundError):
            os.replace(folder, gone)  # it is gone whole, or not at all
        remove(gone)
    except OSError:
        return False
    finally:
        lock.release()
    return True


def _users(output: Path) -> dict[str, list[Path]]:
    """Map names of stages with keys to the folders of finished runs."""
    users: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(output.glob("[!.]*/[!.]*/provenance.json")):
        with suppress(OSError, ValueError, LookupError, TypeError):
            for stage in json.loads(file.read_text(encoding="utf-8"))["stages"]:
                users[f"{stage['stage']}-{stage['key']}"].append(file.parent.resolve())
    return users


def _describe(
    folder: Path, name: str, key: str, state: str, users: dict[str, list[Path]]
) -> CachedStage:
    """Measure the folder of a stage."""
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    size = 0
    for file in files:
        with suppress(FileNotFoundError):
            size += file.stat().st_size
    manifest = folder / MANIFEST
    made = (manifest if manifest.is_file() else folder).stat().st_mtime
    runs = tuple(dict.fromkeys(users.get(f"{name}-{key}", ()))) if state == "finished" else ()
    return CachedStage(folder, name, key, state, size, max(0.0, time.time() - made), runs)
