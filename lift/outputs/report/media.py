"""Put the interactive scene and the film into the report, so that it can be mailed alone."""

import base64
import gzip
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

FILM = "video.mp4"
"""File of the fly-through in the folder of a run."""

MAX_FILM_BYTES = 4 * 2**20
"""Size up to which the film is put into the report. A larger one is linked.

Text of base64 is a third larger. Together with the largest scene and the pictures, the report then
has about 15 MB, which most mail servers accept.
"""

MAX_SCENE_BYTES = 8 * 2**20
"""Compressed size up to which the page of the scene is put into the report."""

_SCRIPT = re.compile(r"<script\b([^>]*)>(.*?)</script\s*>", re.DOTALL | re.IGNORECASE)
_PACKED = 'type="application/gzip"'
"""Attribute of a block with a compressed script, which the page unpacks and runs."""
_DATA = 'type="application/octet-stream"'
"""Attribute of a block with data, which is never run."""


@dataclass(frozen=True)
class EmbeddedScene:
    """The page of the interactive scene, as the report carries it."""

    data: str
    """The page in UTF-8, compressed by gzip, in base64. Empty if it is too large."""
    size: int
    """Bytes that it takes, or would take, in the report."""
    script_hashes: tuple[str, ...]
    """Sources for a content security policy: a hash of each script of the page."""


@dataclass(frozen=True)
class EmbeddedFilm:
    """The film, as the report shows it."""

    source: str
    """A data URI, or the name of the file if it is too large."""
    size: int
    """Bytes of the file."""
    embedded: bool
    """Whether the source is a data URI."""


def embed_scene(page: str, max_bytes: int = MAX_SCENE_BYTES) -> EmbeddedScene:
    """Compress the page of the interactive scene for the report.

    Args:
        page: HTML text that needs no other file.
        max_bytes: Compressed size above which the page is left out.

    Returns:
        The compressed page.
    """
    # Without a time stamp the same scene gives the same report.
    packed = gzip.compress(page.encode("utf-8"), compresslevel=6, mtime=0)
    size = 4 * -(-len(packed) // 3)
    if len(packed) > max_bytes:
        return EmbeddedScene("", size, ())
    return EmbeddedScene(base64.b64encode(packed).decode("ascii"), size, script_hashes(page))


def embed_film(folder: Path, max_bytes: int = MAX_FILM_BYTES) -> EmbeddedFilm | None:
    """Read the film of a run for the report.

    Args:
        folder: Folder of the run.
        max_bytes: Size above which the film is linked.

    Returns:
        The film. None if the run has none.
    """
    file = folder / FILM
    if not file.is_file():
        return None
    size = file.stat().st_size
    if size > max_bytes:
        return EmbeddedFilm(FILM, size, False)
    data = base64.b64encode(file.read_bytes()).decode("ascii")
    return EmbeddedFilm(f"data:video/mp4;base64,{data}", size, True)


def script_hashes(page: str) -> tuple[str, ...]:
    """Hash the inline scripts of a page for a content security policy.

    Args:
        page: HTML text.

    Returns:
        A source expression for each script. A script in a compressed block is hashed unpacked.
    """
    hashes = []
    for attributes, text in _SCRIPT.findall(page):
        if _PACKED in attributes:
            text = gzip.decompress(base64.b64decode(text)).decode("utf-8")
        if _DATA not in attributes:
            hashes.append(script_hash(text))
    return tuple(hashes)


def script_hash(text: str) -> str:
    """Hash a script for a content security policy.

    Args:
        text: All between the tags of the script.

    Returns:
        The source expression, with quotes.
    """
    # The parser of HTML turns other line ends into this one before a browser hashes the text.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
