"""Networks that a worker keeps from one picture to the next.

Workers of `lift batch` and `lift eval` turn this on. Between pictures, and while another stage
needs the GPU, a network lies in main memory. Its next use moves it back, which takes a small part
of the time of loading it from files. Elsewhere networks are loaded for each run and freed.
"""

import gc
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


def keep_networks(is_on: bool = True) -> None:
    """Keep networks in this process from now on, or free them.

    Args:
        is_on: Whether they are kept.
    """
    global _is_on
    _is_on = is_on
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
    for kind, kept in [(k, v) for k, v in _kept.items() if k in kinds or not kinds]:
        moved = [m for m in networks_of(kept.value) if any(p.is_cuda for p in m.parameters())]
        size = sum(p.nbytes for m in moved for p in (*m.parameters(), *m.buffers()) if p.is_cuda)
        if free_memory() < size / 2**30 + RESERVE:
            del _kept[kind]
            continue
        for module in moved:
            module.to("cpu")
    gc.collect()


def free_memory() -> float:
    """Return the main memory in GiB that this process can still take, limits of containers too."""
    import psutil

    free = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            used = int((group / "memory.current").read_text())
            # Cached files count as used, and are dropped if memory is needed.
            lines = (group / "memory.stat").read_text().splitlines()
            cached = int(dict(line.split() for line in lines).get("file", 0))
            free = min(free, int(limit) - used + cached)
    except (OSError, ValueError):
        pass  # another system, or no limit
    return free / 2**30


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
            files = sorted(path.rglob("*")) if path.is_dir() and place else [path]
            found = [(str(file), file.stat()) for file in files if file.is_file()]
        stamps.append((str(place), *((name, s.st_size, s.st_mtime_ns) for name, s in found)))
    return tuple(stamps)
