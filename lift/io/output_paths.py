"""Check the name of an output before the work for it begins."""

import os
from pathlib import Path

MAX_NAME_BYTES = 255
"""Longest name of a file or folder on usual file systems."""


def check_writable(path: Path) -> None:
    """Check that a file or folder can be created.

    Args:
        path: The output. Its folder need not exist.

    Raises:
        ValueError: A name is too long, a file is in place of a folder, or the folder cannot be
            written.
    """
    shown = str(path) if len(str(path)) <= MAX_NAME_BYTES else f"{str(path)[:60]}..."
    longest = max(len(os.fsencode(part)) for part in (*path.parts, ""))
    if longest > MAX_NAME_BYTES:
        raise ValueError(
            f"the output is {shown!r}, with a name of {longest} bytes; choose a name of at most "
            f"{MAX_NAME_BYTES} bytes"
        )
    folder = next((f for f in path.absolute().parents if os.path.lexists(f)), path.absolute())
    if not folder.is_dir():
        kind = "a file, not a folder" if folder.exists() else "a link that leads nowhere"
        raise ValueError(
            f"the output is {shown!r}, but {str(folder)!r} is {kind}; choose another folder"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(
            f"the output is {shown!r}, but the folder {str(folder)!r} cannot be written; choose "
            "another folder"
        )
