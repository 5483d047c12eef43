"""Networks that a worker keeps from one picture to the next.

Workers of `lift batch` and `lift eval` turn this on. Between pictures, and while another stage
needs the GPU, a network lies in main memory. Its next use moves it back, which takes a small part
of the time of loading it from files. Elsewhere networks are loaded for each run and freed.
"""

import gc
import glob
import os
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

RESERVE = 4.0
"""GiB of main memory that kept networks leave free."""


@dataclass(frozen=True)
class _Kept:
    key: Hashable
    value: Any


_kept: dict[str, _Kept] = {}
_is_on = False
_workers = 1


def keep_networks(is_on: bool = True, workers: int = 1) -> None:
    """Keep networks in this process from now on, or free them.

    Args:
        is_on: Whether they are kept.
        workers: Number of processes that share the memory of this machine.
    """
    global _is_on, _workers
    _is_on = is_on
    _workers = workers
    if not is_on:
        forget_networks()


def forget_networks() -> None:
    """Free all kept networks."""
    _kept.clear()


def load_once(kind: str, key: Hashable, load: Callable[[], T]) -> T:
    """Load a network, unless it is kept.

    Args:
        kind: What the network is for, such as `prior`. One of each kind is kept.
        key: What the network depends on. `files_stamp` is to be part of it.
        load: Loads the network.

    Returns:
        The network. Users of a kept one move it to their device.
    """
    if not _is_on:
        return load()
    kept = _kept.get(kind)
    if kept is None or kept.key != key:
        _kept.pop(kind, None)  # the memory of the old one is free before the new one is loaded
        del kept
        gc.collect()
        _kept[kind] = kept = _Kept(key, load())
    return kept.value


def park_networks(*kinds: str) -> None:
    """Move kept networks to main memory. Those that do not fit there are freed.

    Args:
        *kinds: Their kinds; by default all.
    """
    chosen = [(kind, kept) for kind, kept in _kept.items() if kind in kinds or not kinds]
    on_gpu = False
    for kind, kept in chosen:
        moved = [m for m in networks_of(kept.value) if any(p.is_cuda for p in m.parameters())]
        size = sum(p.nbytes for m in moved for p in (*m.parameters(), *m.buffers()) if p.is_cuda)
        on_gpu |= bool(moved)
        if free_memory() / _workers < size / 2**30 + RESERVE:
            del _kept[kind]
            continue
        for module in moved:
            module.to("cpu")
    if chosen:
        gc.collect()
    if on_gpu:
        import torch

        torch.cuda.empty_cache()


def free_memory() -> float:
    """Return the main memory in GiB that can still be taken, within the limit of a container."""
    import psutil

    free = psutil.virtual_memory().available
    for folder in _memory_groups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")):
        free = min(free, _group_memory(folder))
    return free / 2**30


def _memory_groups(groups: Path, root: Path) -> Iterator[Path]:
    """Yield the folders of the control groups that limit the memory of this process.

    Args:
        groups: The file that names the groups of the process.
        root: Folder where they are mounted.
    """
    with suppress(OSError):
        for line in groups.read_text(encoding="utf-8").splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers in ("", "memory"):  # version 2, and version 1
                mounted = root / controllers
                folder = mounted / name.lstrip("/")
                yield from (one for one in (folder, *folder.parents) if one.is_relative_to(mounted))


def _group_memory(folder: Path) -> float:
    """Return the bytes that the processes of a control group can still take."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):  # "max", another version, or another container's group
            left = int((folder / limit).read_text()) - int((folder / used).read_text())
            lines = (folder / "memory.stat").read_text().splitlines()
            values = {key: int(value) for key, value in (line.split() for line in lines)}
            # Cached files count as used, and are dropped if memory is needed.
            return float(left + values.get("file", values.get("total_cache", 0)))
    return float("inf")


def networks_of(value: Any) -> Iterator[Any]:
    """Yield the networks (`torch.nn.Module`) of a network or of a pipeline.

    Args:
        value: A network, a pipeline of diffusers, or what has networks as its `parts`.
    """
    from torch import nn

    if isinstance(value, nn.Module):
        yield value
        return
    parts = getattr(value, "components", None) or getattr(value, "parts", None) or {}
    yield from (part for part in parts.values() if isinstance(part, nn.Module))


def files_stamp(*places: str | Path | None) -> tuple[Any, ...]:
    """Return what tells one content of files from another, without reading them.

    Args:
        *places: Files, folders, or names on a hub.
    """
    stamps: list[Any] = []
    for place in places:
        found = []
        with suppress(OSError, RuntimeError):  # a long text is no name of a file
            path = Path(place or "").expanduser().absolute()
            for file in _files_of(path) if place else ():
                status = file.stat()
                found.append((str(file), status.st_size, status.st_mtime_ns))
        stamps.append((str(place), *sorted(found)))
    return tuple(stamps)


def _files_of(path: Path) -> Iterator[Path]:
    """Yield a file and those that belong to it (`model.onnx.data`), or the files of a folder."""
    if path.is_dir():
        for folder, _, names in os.walk(path, followlinks=True):
            yield from (file for name in names if (file := Path(folder, name)).is_file())
    elif path.is_file():
        yield from (file for file in path.parent.glob(f"{glob.escape(path.name)}*"))
