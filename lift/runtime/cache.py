"""Stage results on disk: made once, published whole, found again by what made them.

A stage's folder is `<root>/<stage>-<key>`, where the key hashes all that made it. It is made in a hidden draft beside it and renamed
when whole, under a lock a key: a killed maker leaves nothing that looks finished, and of two processes that want the same stage one
makes it and the other waits and finds it. Values are PNG, safetensors and JSON; no pickles.
"""

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import psutil
import torch
from filelock import FileLock, Timeout
from PIL import Image
from safetensors.torch import load_file, save_file

from lift import types
from lift.runtime.parallel import each

MANIFEST = "manifest.json"

_BLOCK = 1 << 24
"""Bytes of a file that are hashed by themselves."""


@dataclass(frozen=True)
class Stage:
    """A finished stage: where it lies, what it cost when it was made, and whether this process made it."""

    name: str
    key: str
    folder: Path
    seconds: float
    peak_bytes: int
    found: bool


def key_of(*parts: Any) -> str:
    """A short hash of JSON-like values; a Path stands for the bytes of the file (or of every file in the folder)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=_digest).encode()).hexdigest()[
        :12
    ]


def _digest(value: Any) -> Any:
    if isinstance(value, Path):
        digest = hashlib.sha256()
        files = sorted(p for p in value.rglob("*") if p.is_file()) if value.is_dir() else [value]
        for file in files:
            digest.update(str(file.relative_to(value)).encode())
            about = file.stat()
            digest.update(_of_file(file, about.st_size, about.st_mtime_ns))
        return digest.hexdigest()
    raise TypeError(f"{type(value).__name__} {value!r} cannot be part of a key")


@cache
def _of_file(file: Path, size: int, changed: int) -> bytes:
    """Read once a process, on all its cores: a model's gigabytes are in the key of each of its clips."""

    def of_block(start: int) -> bytes:
        with file.open("rb") as stream:
            stream.seek(start)
            return hashlib.sha256(stream.read(_BLOCK)).digest()

    return hashlib.sha256(
        b"".join(each(of_block, range(0, size, _BLOCK)) if size > _BLOCK else [of_block(0)])
    ).digest()


class Store:
    """Finished stages under one root."""

    def __init__(
        self,
        root: Path,
        say: Callable[[str], None] = lambda line: None,
        by: Mapping[str, str] | None = None,
    ) -> None:
        """by: what makes each stage, in words for its manifest."""
        self.root = root
        self.say = say
        self.by = by or {}

    def find(self, name: str, key: str) -> Stage | None:
        """The stage if it is finished."""
        final = self.root / f"{name}-{key}"
        return self._read(final, found=True) if final.exists() else None

    def folder(
        self,
        name: str,
        key: str,
        make: Callable[[Path], None],
        *,
        resumable: bool = False,
        wait: bool = True,
    ) -> Stage | None:
        """Finds the stage, or has `make` fill a draft. A resumable stage finds in its draft what an earlier, killed maker left.

        While another process is making it this one waits, or returns None at once if it shall not.
        """
        if done := self.find(name, key):
            return done
        final = self.root / f"{name}-{key}"
        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / f".{final.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                return None
            self.say(f"{name}: waiting for another process that is making it")
            lock.acquire()
        try:
            found = final.exists()
            if not found:
                self._make(final, name, key, make, resumable)
        finally:
            lock.release()
        return self._read(final, found)

    def value(
        self, name: str, key: str, make: Callable[[], Any], *, wait: bool = True
    ) -> tuple[Any, Stage | None]:
        """The same for a stage whose result is one value of `lift.types` (or a tuple or dictionary of them)."""
        stage = self.folder(name, key, lambda draft: save(make(), draft), wait=wait)
        return (load(stage.folder) if stage else None), stage

    def several(
        self, name: str, keys: list[str], make: Callable[[list[int]], list[Any]], most: int
    ) -> dict[int, tuple[Any, Stage]]:
        """Of stages that can be made together, those that are finished and up to `most` others, which `make` is given by index: those that no other process
        is making.
        """
        out, locks = {}, {}
        self.root.mkdir(parents=True, exist_ok=True)
        try:
            for index, key in enumerate(keys):
                lock = FileLock(self.root / f".{name}-{key}.lock")
                if not self.find(name, key) and len(locks) < most:
                    try:
                        lock.acquire(timeout=0)
                    except Timeout:
                        continue
                    locks[index] = lock
                if done := self.find(name, key):
                    out[index] = load(done.folder), done
            wanted = [index for index in locks if index not in out]
            if wanted:
                with Meter() as meter:
                    values = make(wanted)
                for index, value in zip(wanted, values, strict=True):
                    final = self.root / f"{name}-{keys[index]}"
                    draft = self._draft(final, resumable=False)
                    save(value, draft)
                    self._finish(
                        draft,
                        final,
                        name,
                        keys[index],
                        meter.seconds / len(wanted),
                        meter.peak_bytes,
                    )
                    out[index] = load(final), self._read(final, found=False)
        finally:
            for lock in locks.values():
                lock.release()
        return out

    def _make(
        self, final: Path, name: str, key: str, make: Callable[[Path], None], resumable: bool
    ) -> None:
        draft = self._draft(final, resumable)
        with Meter() as meter:
            make(draft)
        self._finish(draft, final, name, key, meter.seconds, meter.peak_bytes)

    def _draft(self, final: Path, resumable: bool) -> Path:
        draft = self.root / f".{final.name}.draft"
        if draft.exists() and not resumable:
            shutil.rmtree(draft)
        draft.mkdir(exist_ok=True)
        return draft

    def _finish(
        self, draft: Path, final: Path, name: str, key: str, seconds: float, peak_bytes: int
    ) -> None:
        about = {
            "stage": name,
            "by": self.by.get(name, ""),
            "key": key,
            "seconds": seconds,
            "peak_bytes": peak_bytes,
        }
        (draft / MANIFEST).write_text(json.dumps(about, indent=2))
        draft.rename(final)

    @staticmethod
    def _read(final: Path, found: bool) -> Stage:
        about = json.loads((final / MANIFEST).read_text())
        return Stage(
            about["stage"], about["key"], final, about["seconds"], about["peak_bytes"], found
        )


class Meter:
    """Wall seconds and peak memory of a block: resident memory of the process, or of CUDA where that was more."""

    def __enter__(self) -> "Meter":
        self.start = time.perf_counter()
        self.peak_bytes = 0
        self._process = psutil.Process(os.getpid())
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        return self

    def _watch(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)
            if self._done.wait(0.05):
                return

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.seconds = time.perf_counter() - self.start
        if torch.cuda.is_available():
            self.peak_bytes = max(self.peak_bytes, torch.cuda.max_memory_allocated())


def save(value: Any, folder: Path) -> None:
    """Writes a value of `lift.types`, or a tuple, list or dictionary of such values, to a folder."""
    tensors: dict[str, torch.Tensor] = {}
    tree = _pack(value, "value", tensors, folder)
    save_file(tensors, folder / "tensors.safetensors")
    (folder / "value.json").write_text(json.dumps(tree))


def load(folder: Path) -> Any:
    """What `save` wrote, bit for bit."""
    return _unpack(
        json.loads((folder / "value.json").read_text()),
        load_file(folder / "tensors.safetensors"),
        folder,
    )


def _pack(value: Any, name: str, tensors: dict[str, torch.Tensor], folder: Path) -> Any:
    if isinstance(value, torch.Tensor):
        if value.dtype == torch.uint8 and value.ndim == 4:
            return {"pictures": _write_pictures(value, folder / name)}
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if is_dataclass(value):
        inner = {
            f.name: _pack(getattr(value, f.name), f"{name}.{f.name}", tensors, folder)
            for f in fields(value)
        }
        return {"type": type(value).__name__, "fields": inner}
    if isinstance(value, (tuple, list)):
        return {
            "tuple": [_pack(item, f"{name}.{i}", tensors, folder) for i, item in enumerate(value)]
        }
    if isinstance(value, dict):
        return {
            "dict": {
                key: _pack(item, f"{name}.{key}", tensors, folder) for key, item in value.items()
            }
        }
    return {"is": value}


def _unpack(tree: Any, tensors: dict[str, torch.Tensor], folder: Path) -> Any:
    (kind, content), *rest = tree.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "pictures":
        return _read_pictures(folder / content)
    if kind == "type":
        inner = {key: _unpack(item, tensors, folder) for key, item in rest[0][1].items()}
        return getattr(types, content)(**inner)
    if kind == "tuple":
        return tuple(_unpack(item, tensors, folder) for item in content)
    if kind == "dict":
        return {key: _unpack(item, tensors, folder) for key, item in content.items()}
    return content


def _write_pictures(images: torch.Tensor, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    pictures = images.cpu().numpy()
    each(
        lambda number: Image.fromarray(pictures[number]).save(
            folder / f"{number:06d}.png", compress_level=1
        ),
        range(len(pictures)),
    )
    return folder.name


def _read_pictures(folder: Path) -> torch.Tensor:
    pictures = each(lambda path: numpy.array(Image.open(path)), sorted(folder.glob("*.png")))
    return torch.from_numpy(numpy.stack(pictures))
