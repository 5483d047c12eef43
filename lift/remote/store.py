"""Read, list and write the objects of a store. Errors are of few kinds, in one line."""

import errno
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lift.errors import summarize_error
from lift.remote.urls import WEB, join, scheme

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

THREADS = 32
"""Number of requests to a store at the same time."""

_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "adl": "adlfs",
    "http": "aiohttp",
    "https": "aiohttp",
}
"""Packages that fsspec needs for a scheme."""

_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "Content-MD5")
"""Entries of fsspec that change with the content of an object."""

_TIMES = ("LastModified", "last_modified", "Last-Modified", "updated", "mtime", "created")
"""Entries of fsspec that change when an object is written."""

_BUSY = (
    errno.EBUSY,
    errno.EIO,
    errno.ETIMEDOUT,
    errno.EPIPE,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
)
"""Errors of a store that is overloaded or out of reach."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""Errors of the local disk, which keep their message."""

_NETWORK_WORDS = ("Connect", "Timeout", "Disconnected", "Payload", "Endpoint", "Refresh")
"""Parts of the names of errors of network libraries."""


@dataclass(frozen=True)
class ObjectState:
    """What tells a version of an object from another one."""

    size: int | None
    """Size in bytes. None if the server does not tell."""
    tag: str
    """The store's hash of the content, or else the time of change. Empty if neither is known."""

    @property
    def is_known(self) -> bool:
        """Whether a changed object has another state."""
        return bool(self.tag) or self.size is not None

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> "ObjectState":
        """Read what fsspec says of an object.

        Args:
            info: An entry of a listing.
        """
        values = (info[key] for key in (*_TAGS, *_TIMES) if info.get(key))
        # A listing may have a time in another zone, or as a number.
        tags = (v.timestamp() if isinstance(v, datetime) else v for v in values)
        size = info.get("size")
        return cls(None if size is None else int(size), str(next(tags, "")).strip('"'))


def open_store(url: str) -> "AbstractFileSystem":
    """Return the file system of a URL.

    Args:
        url: The URL.

    Raises:
        ImportError: A package is missing.
        OSError: The store cannot be used.
    """
    import fsspec

    try:
        cls = fsspec.get_filesystem_class(scheme(url))
    except ImportError as error:
        package = _PACKAGES.get(scheme(url))
        advice = f"the package {package}: pip install {package}" if package else str(error)
        raise ImportError(f"{url} needs {advice}") from None
    with store_errors(url):
        return fsspec.filesystem(scheme(url), **cls._get_kwargs_from_urls(url))


@contextmanager
def store_errors(url: str) -> Iterator[None]:
    """Turn errors of a store in the block into FileNotFoundError, ConnectionError or OSError.

    Args:
        url: URL that messages name.
    """
    try:
        yield
    except FileNotFoundError as error:
        # fsspec raises it for a web server that cannot be reached, too.
        cause = error.__cause__
        is_missing = getattr(cause, "status", None) in (404, 410)
        if scheme(url) in WEB and isinstance(cause, Exception) and not is_missing:
            raise _translate(url, cause) from cause
        raise FileNotFoundError(f"there is no object {url}") from None
    except (MemoryError, ImportError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            raise
        raise _translate(url, error) from error


def _translate(url: str, error: Exception) -> OSError:
    """Choose the error that tells what a store's error means."""
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"there is no object {url}")
    status = getattr(error, "status", None)
    kind = type(error).__name__
    reason = summarize_error(error, 300) or kind
    if isinstance(error, PermissionError) or status in (401, 403) or "Credential" in kind:
        return PermissionError(
            f"access to {url} is refused ({reason}); check the credentials of the store"
        )
    is_busy = isinstance(error, OSError) and error.errno in _BUSY and scheme(url) != "file"
    is_network = isinstance(error, (ConnectionError, TimeoutError)) or any(
        word in kind for word in _NETWORK_WORDS
    )
    if status is None and (is_busy or is_network):
        return ConnectionError(f"{url} cannot be reached ({reason})")
    if isinstance(status, int) and (status == 429 or status >= 500):
        return ConnectionError(f"the server of {url} has failed ({reason})")
    if isinstance(error, NotImplementedError):
        return OSError(f"{url}: fsspec cannot do this with {scheme(url)}:// ({reason})")
    return OSError(f"{url} cannot be used ({kind}: {reason})")


def in_parallel(
    store: "AbstractFileSystem", function: Callable[[ItemT], ResultT], items: Iterable[ItemT]
) -> list[ResultT]:
    """Call a function for many items, with several requests at the same time.

    Args:
        store: The store. One whose library allows no threads is asked one by one.
        function: Makes a request.
        items: What it is called with.

    Returns:
        The results, in order.
    """
    names = (store.protocol,) if isinstance(store.protocol, str) else store.protocol
    is_safe = store.async_impl or {"file", "memory"} & set(names)
    with ThreadPoolExecutor(THREADS if is_safe else 1) as pool:
        return list(pool.map(function, items))


def object_state(url: str) -> ObjectState:
    """Return the state of an object.

    Args:
        url: Its URL.

    Raises:
        OSError: There is no such object, or the store cannot be reached.
    """
    store = open_store(url)
    with store_errors(url):
        store.invalidate_cache()
        info = store.info(url)
    if info.get("type") == "directory":
        raise IsADirectoryError(f"{url} is a folder; name the objects in it")
    return ObjectState.from_info(info)


def list_sizes(store: "AbstractFileSystem", url: str) -> dict[str, int]:
    """Return the size in bytes of each object below a URL, by its path relative to it.

    Args:
        store: The store.
        url: URL of a folder. It need not exist.
    """
    root = _root(store, url)
    try:
        with store_errors(url):
            store.invalidate_cache()
            found: dict[str, Any] = store.find(url, detail=True)  # pyright: ignore
    except FileNotFoundError:
        return {}
    return {
        path[len(root) :]: int(info.get("size") or 0)
        for path, info in found.items()
        if path.startswith(root)
    }


def list_names(store: "AbstractFileSystem", url: str) -> dict[str, Any]:
    """Return what is directly in a folder: the entries of fsspec by name.

    Args:
        store: The store.
        url: URL of the folder. It need not exist.
    """
    root = _root(store, url)
    try:
        with store_errors(url):
            store.invalidate_cache()
            entries = store.ls(url, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    names = ((str(entry["name"]).rstrip("/"), entry) for entry in entries)
    return {path[len(root) :]: entry for path, entry in names if path.startswith(root)}


def find_objects(pattern: str) -> list[str]:
    """Return the URLs of the objects that match a pattern, sorted.

    Args:
        pattern: A URL with `*`, `?` or `[...]`.
    """
    store = open_store(pattern)
    base = re.split(r"[*?[]", pattern, maxsplit=1)[0].rpartition("/")[0]
    root = _root(store, base)
    with store_errors(pattern):
        found = sorted(str(path) for path in store.glob(pattern))
    return [join(base, path[len(root) :]) for path in found if path.startswith(root)]


def _root(store: "AbstractFileSystem", url: str) -> str:
    """Return how paths begin that a store lists below a URL."""
    return str(store._strip_protocol(url)).rstrip("/") + "/"


def read_text(store: "AbstractFileSystem", url: str) -> str:
    """Read a text file.

    Args:
        store: The store.
        url: URL of the file.

    Raises:
        OSError: It cannot be read.
        UnicodeDecodeError: It is no UTF-8.
    """
    with store_errors(url):
        content = store.cat_file(url)
    assert isinstance(content, bytes)
    return content.decode("utf-8-sig")


def write_text(store: "AbstractFileSystem", url: str, text: str) -> None:
    """Write a text file.

    Args:
        store: The store.
        url: URL of the file.
        text: Its content.
    """
    with store_errors(url):
        make_parents(store, [url])
        store.pipe_file(url, text.encode("utf-8"))


def download(store: "AbstractFileSystem", pairs: Sequence[tuple[str, Path]]) -> None:
    """Copy objects to local files.

    Args:
        store: The store.
        pairs: URL and file of each. The folders of the files exist.
    """

    def get(pair: tuple[str, Path]) -> None:
        with store_errors(pair[0]):
            store.get_file(pair[0], str(pair[1]))

    in_parallel(store, get, pairs)


def upload(store: "AbstractFileSystem", pairs: Sequence[tuple[Path, str]]) -> None:
    """Copy local files to objects.

    Args:
        store: The store.
        pairs: File and URL of each.
    """

    def put(pair: tuple[Path, str]) -> None:
        with store_errors(pair[1]):
            store.put_file(str(pair[0]), pair[1])

    with store_errors(pairs[0][1]):
        make_parents(store, [url for _, url in pairs])
    in_parallel(store, put, pairs)


def make_parents(store: "AbstractFileSystem", urls: Sequence[str]) -> None:
    """Create the folders of objects in a store that has folders. A bucket is never created.

    Args:
        store: The store.
        urls: URLs of the objects.
    """
    if scheme(urls[0]) in _PACKAGES:
        return
    for folder in sorted({url.rpartition("/")[0] for url in urls}):
        store.makedirs(folder, exist_ok=True)


def remove(store: "AbstractFileSystem", urls: Sequence[str]) -> None:
    """Remove objects, if they exist.

    Args:
        store: The store.
        urls: Their URLs.
    """

    def remove_one(url: str) -> None:
        with suppress(FileNotFoundError), store_errors(url):
            store.rm_file(url)

    in_parallel(store, remove_one, urls)


def check_writable(url: str) -> None:
    """Write and remove a small object, before hours of work that need it.

    Args:
        url: URL of a folder.

    Raises:
        OSError: It cannot be written. The message says why.
        ImportError: A package is missing.
    """
    store = open_store(url)
    name = join(url, f".lift-check-{secrets.token_hex(4)}")
    try:
        write_text(store, name, "lift writes this to see whether it can\n")
    except FileNotFoundError:
        raise FileNotFoundError(f"output is {url}, but there is no such bucket") from None
    remove(store, [name])
