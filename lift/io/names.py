"""Names of folders from what users and files call things: pictures, videos, datasets, scenes.

A name of a file can be anything but a name of a folder that is safe to write to. `...png` is a
picture whose name without suffix is `..`, the parent of the folder of all runs.
"""

import hashlib
import os
import re
import sys
import unicodedata
from pathlib import Path

CACHE_FOLDER = "cache"
"""Folder of the stages, beside the folders of the scenes."""

EVALUATION_FOLDER = "eval"
"""Folder of the evaluations, beside the folders of the scenes."""

RESERVED = (CACHE_FOLDER, EVALUATION_FOLDER, "multirun")
"""Folders of `lift` among those of the scenes. No scene has such a name."""

MAX_NAME_BYTES = 100
"""Largest length of a name in UTF-8. File systems allow 255, and `lift` appends to names."""

_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"]
)
"""Names that Windows keeps for devices, with any suffix."""

_FORBIDDEN = re.compile(
    ('[<>:"|?*' if os.name == "nt" else "[")
    + r"/\\\x00-\x1f\x7f-\x9f"  # separators of all systems, control characters
    "\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069"  # line breaks, direction of writing
    "\ud800-\udfff\ufffe\uffff]"  # bytes that are no text, and what is no character
)
"""Characters that a name cannot have. Windows forbids more than other systems."""

_HASH_DIGITS = 8
"""Hexadecimal digits that tell changed names apart."""


def safe_name(text: str, default: str = "scene") -> str:
    """Return the name of a folder that stands for a text, and is safe to write to.

    It never is empty, hidden, a path, reserved by Windows or by `lift`, or longer than
    `MAX_NAME_BYTES`. A text that is such a name already stays as it is. A changed name ends with a
    hash of the text, so that different texts keep different names.

    Args:
        text: Any text, such as the name of a picture without its suffix.
        default: What a name without a usable character is called.

    Returns:
        The name. It is its own safe name.
    """
    if name_problem(text) is None and _fold(text) not in RESERVED:
        return text
    suffix = _hash_suffix(text)
    name = "".join(char if _is_encodable(char) else "_" for char in _FORBIDDEN.sub("_", text))
    name = _cut(name.lstrip(".").rstrip(". "), MAX_NAME_BYTES - len(suffix) - 1).rstrip(". ")
    if not name.strip("_ "):
        name = default
    if _is_device(name):
        name = f"_{name}"
    return f"{name}{suffix}"


def add_hash(name: str, identity: str) -> str:
    """Return a safe name that differs from the same name of something else.

    Args:
        name: A safe name.
        identity: Text that differs, such as the path of the file.
    """
    return safe_name(f"{name}{_hash_suffix(identity)}")


def name_problem(text: str) -> str | None:
    """Say why a text cannot be the name of a folder.

    Args:
        text: Any text.

    Returns:
        The reason, such as "is empty"; None if it can be.
    """
    if not text.strip(". "):
        return "is empty" if not text.strip() else "names no folder of its own"
    if text[0] == ".":
        return "starts with a dot, so that the folder is hidden"
    if text[-1] in ". ":
        return "ends with a dot or a space, which Windows drops"
    if match := _FORBIDDEN.search(text):
        return f"has the character {match[0]!r}, which not every system allows"
    if unencodable := [char for char in text if not _is_encodable(char)]:
        return f"has the character {unencodable[0]!r}, which this system's locale cannot write"
    if len(text.encode()) > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    if _is_device(text):
        return "is the name of a device on Windows"
    return None


def user_path(path: str | os.PathLike[str]) -> Path:
    """Replace `~` or `~NAME` at the start of a path by the home folder.

    A name of no user stays as it is, as in a shell.

    Args:
        path: The path as the user gave it.
    """
    return Path(os.path.expanduser(path))


def path_problem(path: str) -> str | None:
    """Say why files cannot be written to a folder by all libraries.

    Args:
        path: The path as the user gave it.

    Returns:
        The reason, such as "has a null character"; None if nothing is known against it.
    """
    if "\0" in path:
        return "has a null character"
    try:
        path.encode()  # safetensors writes to no path that is no text
        os.fsencode(path)
    except UnicodeEncodeError:
        return f"is no text in this system's encoding ({sys.getfilesystemencoding()})"
    folder = user_path(path)
    for place in (folder, *folder.parents):
        if place.is_dir():
            return None
        if os.path.lexists(place):
            return "is no folder" if place == folder else f"is below {place}, which is no folder"
    return None


def printable(text: str) -> str:
    """Return a text with escapes for bytes that are no text, for files in UTF-8.

    Args:
        text: Any text, such as a name of a file.
    """
    return text.encode("utf-8", "backslashreplace").decode()


def _hash_suffix(text: str) -> str:
    """Return the hash that a changed name ends with."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"-{digest[:_HASH_DIGITS]}"


def _is_encodable(char: str) -> bool:
    """Whether names of files can have a character in this process's locale."""
    if char < "\x80":
        return True
    try:
        os.fsencode(char)
    except UnicodeEncodeError:
        return False
    return True


def _is_device(name: str) -> bool:
    """Whether Windows takes a name for a device. It ignores the suffix."""
    return name.split(".")[0].rstrip(" ").casefold() in _DEVICES


def _fold(name: str) -> str:
    """Return a name as file systems compare it that ignore case."""
    return unicodedata.normalize("NFKC", name).casefold()


def _cut(text: str, size: int) -> str:
    """Shorten a text to a number of bytes in UTF-8."""
    return text.encode()[:size].decode(errors="ignore")
