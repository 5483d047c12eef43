"""Write files so that a reader sees either all of a file or nothing."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


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


def publish(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file under a temporary name, and rename it.

    Args:
        path: The file. Its folder exists.
        write: Writes the content to the path that it receives.
    """
    draft = path.with_name(f".{os.getpid()}-{path.name}")
    write(draft)
    os.replace(draft, path)
