"""Damage to files, as bad disks, power cuts and careless people leave it."""

import random
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

KINDS = ("empty", "half", "flipped bit", "missing", "folder", "garbage", "longer")
"""Kinds of damage that `damage` does to a file."""


def damage(path: Path, kind: str, seed: int = 0) -> None:
    """Damage a file. A bit is flipped at a random place."""
    content = bytearray(path.read_bytes())
    rng = random.Random(f"{path.name} {kind} {seed}")
    path.unlink()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "half":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "flipped bit":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
    elif kind == "folder":
        path.mkdir()
        (path / "stray").write_text("")
    elif kind == "garbage":
        path.write_bytes(rng.randbytes(len(content) or 100))
    elif kind == "longer":
        path.write_bytes(bytes(content) + b"\0")
    elif kind != "missing":
        raise AssertionError(kind)


def stage_files(cache: Path) -> Iterator[Path]:
    """All files of finished stages in a cache."""
    for path in sorted(cache.glob("*/**/*")):
        if path.is_file() and ".damaged-" not in path.relative_to(cache).parts[0]:
            yield path


def stage_contents(cache: Path) -> dict[str, bytes]:
    """Content of what the stages have computed: all but times, and logs whose names are times."""
    return {
        path.relative_to(cache).as_posix(): _content(path)
        for path in stage_files(cache)
        if path.name != "manifest.json" and "tensorboard" not in path.parts
    }


def _content(path: Path) -> bytes:
    """Content of a file. Of a checkpoint its tensors: the archive has a random identifier."""
    if path.suffix != ".ckpt":
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if "/data/" in name)
        return b"".join(name.encode() + archive.read(name) for name in names)


def replace_folder(target: Path, source: Path) -> None:
    """Make a folder a copy of another one."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
