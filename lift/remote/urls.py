"""URLs, what they are called on a local disk, and the local folder of an output at a URL."""

import os
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from omegaconf import DictConfig, OmegaConf

from lift.io.names import add_hash, safe_name, user_path

WEB = ("http", "https")
"""Schemes of web servers. They cannot be listed or written."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,10}")


def is_url(text: Any) -> bool:
    """Whether a name is a URL that fsspec can open. Any other name is that of a local file.

    Args:
        text: A name as the user gave it, such as `s3://bucket/a.jpg` or `odd:name.jpg`.
    """
    match = _URL.match(text) if isinstance(text, str) else None
    if match is None:
        return False
    import fsspec  # 0.1 s, only needed where there are URLs

    return match[1].lower() in fsspec.available_protocols()


def scheme(url: str) -> str:
    """Return the scheme of a URL, in lower case.

    Args:
        url: The URL.
    """
    return url.partition("://")[0].lower()


def join(url: str, *names: str) -> str:
    """Return the URL of something below another URL.

    Args:
        url: URL of a folder.
        *names: Names or relative paths.
    """
    return "/".join([url.rstrip("/"), *names])


def url_parts(url: str) -> tuple[str, ...]:
    """Return the names in a URL: its bucket or server, its folders and its file.

    Args:
        url: The URL. The query of a web address is left out.
    """
    rest = url.partition("://")[2]
    if scheme(url) in WEB:
        address = urlsplit(url)
        rest = address.netloc + unquote(address.path)
    return tuple(part for part in PurePosixPath(rest).parts if part.strip("/"))


def file_name(url: str) -> str:
    """Return the name that the object of a URL has on a local disk.

    Args:
        url: The URL.

    Returns:
        A safe name. Its stem is the title of runs on the object.
    """
    name = PurePosixPath(url_parts(url)[-1] if url_parts(url) else "picture")
    suffix = name.suffix if _SUFFIX.fullmatch(name.suffix) else ""
    return safe_name(name.name.removesuffix(suffix)) + suffix


def cache_folder() -> Path:
    """Return the folder below which runs work whose output is a URL, by default."""
    home = Path.home()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or home / ".cache"
    return Path(base) / "lift"


def working_folder(url: str, folder: str | None = None) -> Path:
    """Return the local folder in which runs work whose output is a URL.

    Args:
        url: The output.
        folder: The setting `cache.folder`. None: `cache_folder()`.

    Returns:
        A folder with the stages of these runs, and with results as they are in the store.
    """
    url = url.rstrip("/")
    base = cache_folder() if folder is None else user_path(folder)
    parts = url_parts(url)
    return base / add_hash(safe_name(parts[-1] if parts else scheme(url)), url)


def local_output(config: DictConfig) -> Path:
    """Return the local folder of all runs and of their cache.

    Args:
        config: Configuration of a run. `output` is a folder or a URL.
    """
    output = str(config.output)
    if not is_url(output):
        return Path(output)
    return working_folder(output, OmegaConf.select(config, "cache.folder", default=None))


def output_url(config: DictConfig) -> str | None:
    """Return the URL that results are uploaded to. None if the output is a local folder.

    Args:
        config: Configuration of a run.
    """
    output = str(config.output)
    return output.rstrip("/") if is_url(output) else None
