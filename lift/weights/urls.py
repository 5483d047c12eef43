"""Files on the web that are kept in torch.hub's cache: downloads that resume and are verified."""

import errno
import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path

from lift.weights.problems import is_offline
from lift.weights.sources import CachedUrl

TIMEOUT = 20.0
"""Seconds that a server may be silent."""
_CHUNK = 1 << 20
"""Bytes that are read at once."""
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES)
"""Errors of the folder that a file is written to, not of the network."""


def default_folder() -> Path:
    """Return the folder of torch.hub's cache with files of weights. TORCH_HOME moves it."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def remote_size(source: CachedUrl) -> int | None:
    """Ask the server for the size of a file in bytes; None if it does not say.

    Args:
        source: The file.

    Raises:
        OSError: The server cannot be reached, or does not have the file. The message names the
            address.
    """
    request = urllib.request.Request(source.url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            length = response.headers.get("Content-Length")
    except OSError as error:
        raise _download_error(source, error) from None
    return int(length) if length else None


def ensure_file(source: CachedUrl, folder: Path | None = None) -> Path:
    """Return the path of a file in the cache, downloaded if it is not there.

    A download that was interrupted goes on where it ended.

    Args:
        source: The file.
        folder: Folder of the cache. None: that of torch.hub.

    Raises:
        FileNotFoundError: The file is not there, and HF_HUB_OFFLINE turns the network off.
        OSError: The download failed. The message names the address.
        ValueError: The file has another content than the published one.
    """
    folder = default_folder() if folder is None else folder
    path = folder / source.name
    if path.is_file():
        return path
    if is_offline():
        raise FileNotFoundError(
            f"HF_HUB_OFFLINE=1 is set and {source.name} is not in the cache ({folder}); "
            "lift download fetches it where there is a network"
        )
    folder.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{source.sha256[:8]}.part")
    try:
        _download(source, draft)
    except OSError as error:
        if error.errno in _DISK_ERRORS:
            raise
        raise _download_error(source, error) from None
    found = hashlib.sha256(draft.read_bytes()).hexdigest()
    if not found.startswith(source.sha256):
        draft.unlink()
        raise ValueError(
            f"{source.url} has the SHA-256 {found}, and the published file {source.sha256}; "
            "the download was damaged or replaced: try again"
        )
    os.replace(draft, path)
    return path


def _download_error(source: CachedUrl, error: OSError) -> OSError:
    """Make the error for a file that a server does not give."""
    # urllib wraps the errors of the network; those of a server have a text of their own.
    is_wrapped = type(error) is urllib.error.URLError
    return OSError(f"{source.url} cannot be downloaded: {error.reason if is_wrapped else error}")


def _download(source: CachedUrl, draft: Path) -> None:
    """Append what is missing of a file to its draft, with a progress bar."""
    from tqdm import tqdm

    start = draft.stat().st_size if draft.is_file() else 0
    request = urllib.request.Request(source.url)
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if start and error.code == 416:  # nothing is missing
            return
        raise
    with response:
        start = start if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        options = {"unit": "B", "unit_scale": True, "leave": False, "disable": None}
        with (
            tqdm(total=total, initial=start, desc=source.name, **options) as bar,
            draft.open("ab" if start else "wb") as file,
        ):
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and draft.stat().st_size < total:
        raise OSError(f"the connection ended after {draft.stat().st_size} of {total} bytes")
