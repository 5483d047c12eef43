"""Cache of stages on disk: each is computed once, published atomically and found by its key.

A stage's folder is `<root>/<stage>-<key>`. The key hashes everything that the result depends on.
The result is written to a hidden draft folder, which is renamed when it is complete. So a killed
process leaves nothing that looks finished. A lock protects each key. If two processes want the
same stage, one computes it, and the other waits and reads it. Values are PNG, safetensors and
JSON. There are no pickles.

The manifest of a stage has the checksums of its files. They are compared when a stage is read, once
a process. A damaged stage is renamed to `<stage>-<key>.damaged-N`, and made again.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from lift.errors import format_error
from lift.runtime.atomic_io import (
    acquire,
    make_folder,
    prepare_draft,
    publish_folder,
    set_aside,
    set_permissions,
)
from lift.runtime.cache_contents import stage_lock
from lift.runtime.deferred import DeferredWriter
from lift.runtime.integrity import (
    MANIFEST,
    DamagedFileError,
    read_manifest,
    verify_files,
    write_manifest,
)
from lift.runtime.meter import Meter
from lift.runtime.parallel import parallel_map
from lift.runtime.profiling import span
from lift.runtime.serialization import as_loaded, load, save

_BLOCK_BYTES = 1 << 24
"""Bytes of a file that are hashed separately."""


@dataclass(frozen=True)
class Stage:
    """A finished stage."""

    name: str
    """Name of the stage, such as `fit`."""
    key: str
    """Hash of everything that the result depends on."""
    folder: Path
    """Folder of the result."""
    seconds: float
    """Wall time of the computation."""
    peak_bytes: int
    """Peak memory of the computation: resident, or CUDA's if that was more."""
    cached: bool
    """Whether the result was on disk already."""


def hash_key(*parts: Any) -> str:
    """Hash values to a key of 12 hexadecimal digits.

    Args:
        *parts: JSON-like values. A Path stands for the bytes of the file, or of all files in the
            folder.
    """
    text = json.dumps(parts, sort_keys=True, default=_digest)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def with_paths(slot: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Replace texts that name a file or folder by paths, so that their content is hashed.

    Args:
        slot: Name of the component's slot, for the message.
        settings: Settings of the component.

    Raises:
        FileNotFoundError: A setting that is a path names nothing.
    """
    values = dict(settings)
    for key, value in settings.items():
        # `os.path.exists` returns False for a long text, where a method of Path would fail.
        if isinstance(value, str) and value and os.path.exists(os.path.expanduser(value)):
            values[key] = Path(value).expanduser()
        elif isinstance(value, Path) and not os.path.exists(value.expanduser()):
            raise FileNotFoundError(f"{slot}.{key} is {value}, where there is no file or folder")
    return values


def _digest(value: Any) -> str:
    """Hash the content of a path; raise TypeError for other types that are not JSON-like."""
    if not isinstance(value, Path):
        raise TypeError(f"{type(value).__name__} {value!r} cannot be part of a key")
    digest = hashlib.sha256()
    files = sorted(p for p in value.rglob("*") if p.is_file()) if value.is_dir() else [value]
    for file in files:
        digest.update(os.fsencode(file.relative_to(value)))
        status = file.stat()
        digest.update(_file_digest(file, status.st_size, status.st_mtime_ns))
    return digest.hexdigest()


@cache
def _file_digest(file: Path, size: int, modified: int) -> bytes:
    """Hash a file on all cores, once a process.

    A model's gigabytes are part of the key of each of its clips.
    """

    def block_digest(start: int) -> bytes:
        with file.open("rb") as stream:
            stream.seek(start)
            return hashlib.sha256(stream.read(_BLOCK_BYTES)).digest()

    if size > _BLOCK_BYTES:
        digests = parallel_map(block_digest, range(0, size, _BLOCK_BYTES))
    else:
        digests = [block_digest(0)]
    return hashlib.sha256(b"".join(digests)).digest()


class Store:
    """Finished stages in one folder.

    Args:
        root: The folder. It is created when the first stage is computed.
        say: Receives messages for the user.
        components: Names of the components that compute each stage, for its manifest.
        verify: How the files of a stage are checked when it is read: `checksum`, `size` or `none`.
        method: Returns what the time of a stage depends on, for its manifest. None: not known.
    """

    def __init__(
        self,
        root: Path,
        say: Callable[[str], None] = lambda line: None,
        components: Mapping[str, str] | None = None,
        verify: str = "checksum",
        method: Callable[[str], str | None] = lambda name: None,
    ) -> None:
        self.root = root
        self.say = say
        self.components = components or {}
        self.verify = verify
        self.method = method
        self._writer = DeferredWriter()
        self._deferring_blocks = 0

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Write values beside the work of the block.

        Blocks may be nested. All is written at the end of the outermost one.

        Raises:
            OSError: A value cannot be written.
        """
        self._deferring_blocks += 1
        try:
            yield
        except BaseException as error:
            try:
                self._end_deferring()
            except Exception as write_error:
                if isinstance(error, Exception):
                    raise write_error from error  # it came first, and may have the same cause
                self.say(f"a stage was not written: {format_error(write_error)}")
            raise
        self._end_deferring()

    def _end_deferring(self) -> None:
        """Wait until all values are written, if this is the end of the outermost block."""
        self._deferring_blocks -= 1
        if not self._deferring_blocks:
            with span("writing values"):
                self._writer.flush()

    def find(self, name: str, key: str) -> Stage | None:
        """Return a stage if it is finished and not damaged.

        Args:
            name: Name of the stage.
            key: Hash of everything that the result depends on.
        """
        if not os.path.lexists(self._final(name, key)):
            return None
        try:
            return self._read(name, key, cached=True)
        except DamagedFileError:
            return None  # who has the lock sets it aside

    def folder(
        self,
        name: str,
        key: str,
        make: Callable[[Path], None],
        *,
        resumable: bool = False,
    ) -> Stage:
        """Find a stage, or compute it. Wait while another process computes it.

        Args:
            name: Name of the stage.
            key: Hash of everything that the result depends on.
            make: Writes the result to the draft folder that it receives.
            resumable: Keep the draft of a killed process, so that `make` can go on from it.

        Raises:
            PermissionError: The lock or the folder belongs to another user.
        """
        self._writer.raise_errors()
        if stage := self.find(name, key):
            return stage
        make_folder(self.root)
        lock = self._lock(name, key)
        acquire(lock, lambda: self.say(f"{name}: waiting for another process that is making it"))
        try:
            if stage := self._find_locked(name, key):
                return stage
            draft = self._draft(self._final(name, key), resumable)
            is_resumed = any(draft.iterdir())
            with Meter() as meter:
                make(draft)
            final = self._final(name, key)
            self._writer.wait()  # the method may depend on an earlier stage
            method = None if is_resumed else self.method(name)
            self._finish(draft, final, name, key, meter, method)
        finally:
            lock.release()
        return self._read(name, key, cached=False)

    def value(self, name: str, key: str, make: Callable[[], Any]) -> tuple[Any, Stage]:
        """Find or compute a stage whose result is a value. Wait while another process computes it.

        Args:
            name: Name of the stage.
            key: Hash of everything that the result depends on.
            make: Computes a value that `lift.runtime.serialization.save` can write.

        Returns:
            The value, equal to what is read from disk, and its stage.
        """
        if self._deferring_blocks:
            found = self.batch(name, [key], lambda _: [make()], 1)
            if found:
                return found[0]
            self._writer.wait()  # a pending write of this process may hold the lock
        stage = self.folder(name, key, lambda draft: save(make(), draft))
        return load(stage.folder), stage

    def batch(
        self, name: str, keys: list[str], make: Callable[[list[int]], list[Any]], max_count: int
    ) -> dict[int, tuple[Any, Stage]]:
        """Find stages, and compute some of the others together.

        Stages that another process is computing are skipped.

        Args:
            name: Name of the stages.
            keys: Key of each stage.
            make: Computes the values of the stages at the indices that it receives.
            max_count: Largest number of stages to compute.

        Returns:
            Values and stages by index: those that are finished and those that were computed.
        """
        self._writer.raise_errors()
        results: dict[int, tuple[Any, Stage]] = {}
        locks: dict[int, FileLock] = {}
        make_folder(self.root)
        try:
            for index, key in enumerate(keys):
                stage = self.find(name, key)
                if not stage and len(locks) < max_count:
                    lock = self._lock(name, key)
                    if not acquire(lock):
                        continue
                    locks[index] = lock
                    stage = self._find_locked(name, key)
                if stage:
                    results[index] = load(stage.folder), stage
            missing = [index for index in locks if index not in results]
            if missing:
                with Meter() as meter:
                    values = make(missing)
                meter.seconds /= len(missing)
                for index, value in zip(missing, values, strict=True):
                    value = as_loaded(value)
                    write = partial(self._write, name, keys[index], value, meter)
                    self._writer.submit(write, locks.pop(index))
                    final = self._final(name, keys[index])
                    cost = meter.seconds, meter.peak_bytes
                    results[index] = value, Stage(name, keys[index], final, *cost, False)
        finally:
            for lock in locks.values():
                lock.release()
        if not self._deferring_blocks:
            self._writer.flush()
        return results

    def _write(self, name: str, key: str, value: Any, meter: "Meter") -> None:
        """Write and publish the value of a stage whose lock is held."""
        final = self._final(name, key)
        draft = self._draft(final, resumable=False)
        save(value, draft)
        self._finish(draft, final, name, key, meter, self.method(name))

    def _final(self, name: str, key: str) -> Path:
        """Return the folder of a finished stage."""
        return self.root / f"{name}-{key}"

    def _lock(self, name: str, key: str) -> FileLock:
        return stage_lock(self.root, name, key)

    def _draft(self, final: Path, resumable: bool) -> Path:
        """Return the draft folder of a stage, emptied unless the stage is resumable."""
        draft = self.root / f".{final.name}.draft"
        if aside := prepare_draft(draft, resumable):
            self.say(f"{draft} is another user's; it is kept as {aside.name}, and not continued")
        return draft

    def _finish(
        self, draft: Path, final: Path, name: str, key: str, meter: "Meter", method: str | None
    ) -> None:
        """Write the manifest and publish the draft."""
        manifest = {
            "stage": name,
            "by": self.components.get(name, ""),
            "key": key,
            "seconds": meter.seconds,
            "peak_bytes": meter.peak_bytes,
        }
        if method is not None:  # else the time says nothing of other runs
            manifest["method"] = method
        manifest = write_manifest(draft, manifest)
        set_permissions(draft)
        publish_folder(draft, final)
        _verified[str(final.absolute())] = _identity(final, manifest, self.verify)

    def _find_locked(self, name: str, key: str) -> Stage | None:
        """Return a stage if it is finished. Set a damaged one aside; the lock is held."""
        final = self._final(name, key)
        if not os.path.lexists(final):
            return None
        try:
            return self._read(name, key, cached=True)
        except DamagedFileError as error:
            aside = set_aside(final)
            self.say(f"{name}: {error}; the stage is kept as {aside.name}, and made again")
            return None

    def _read(self, name: str, key: str, cached: bool) -> Stage:
        """Read the manifest of a stage, and check its files.

        Raises:
            DamagedFileError: The stage cannot be used.
        """
        final = self._final(name, key)
        manifest = read_manifest(final)
        values = [manifest.get(entry) for entry in ("stage", "key", "seconds", "peak_bytes")]
        is_number = all(isinstance(value, (int, float)) for value in values[2:])
        if values[:2] != [name, key] or not is_number:
            raise DamagedFileError(final / MANIFEST, f"it is not that of {name}-{key}")
        identity = _identity(final, manifest, self.verify)
        if identity is None or _verified.get(str(final.absolute())) != identity:
            if "files" in manifest:
                verify_files(final, manifest, self.verify)
            elif (final / "value.json").exists():
                load(final)  # of a version without checksums
            _verified[str(final.absolute())] = identity
        return Stage(name, key, final, manifest["seconds"], manifest["peak_bytes"], cached)


_verified: dict[str, Any] = {}
"""Folders of stages that this process has verified or made -> what `_identity` returned then."""


def _identity(final: Path, manifest: Mapping[str, Any], level: str) -> list[Any] | None:
    """Return what changes when a file of a stage changes. None if a file is missing."""
    try:
        states = [(final / name).stat() for name in (MANIFEST, *manifest.get("files", ()))]
    except OSError:
        return None
    return [level, [(state.st_ino, state.st_size, state.st_mtime_ns) for state in states]]
