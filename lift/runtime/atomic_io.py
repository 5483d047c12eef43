"""Write files so that a reader sees either all of a file or nothing."""

import os
import shutil
from pathlib import Path


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


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically.

    Args:
        path: The file. Its folder exists.
        content: The bytes.
    """
    draft = path.with_name(f".{os.getpid()}-{path.name}")
    draft.write_bytes(content)
    os.replace(draft, path)
