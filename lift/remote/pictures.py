"""Fetch pictures and videos from URLs, once, to files that several processes share."""

import hashlib
from pathlib import Path

from omegaconf import DictConfig

from lift.config.validation import read_image_setting
from lift.remote.store import ObjectState, download, object_state, open_store
from lift.remote.urls import file_name, is_url, local_output
from lift.runtime.atomic_io import acquire, make_folder, open_lock, publish
from lift.runtime.atomic_io import remove as remove_path

_FOLDER = ("cache", "fetched")
"""Folder of the fetched files, below the local output."""


def local_image(config: DictConfig) -> str | tuple[str, ...]:
    """Return the setting `image` with local files in place of URLs. They are fetched if needed.

    Args:
        config: Configuration of a run.

    Raises:
        OSError: An object is missing, or a store cannot be reached.
        ImportError: A package is missing.
    """
    image = read_image_setting(config)
    if isinstance(image, str):
        return _local_file(image, config)
    return tuple(_local_file(name, config) for name in image)


def _local_file(name: str, config: DictConfig) -> str:
    return str(fetch(name, local_output(config))) if is_url(name) else name


def fetch(url: str, output: Path) -> Path:
    """Fetch an object, unless the same version of it is there.

    Args:
        url: Its URL.
        output: Local folder of all runs.

    Returns:
        The file. Its name is that of the object.

    Raises:
        OSError: There is no such object, or the store cannot be reached.
    """
    state = object_state(url)
    folder = _object_folder(url, output)
    path = folder / _hash(f"{state.size} {state.tag}") / file_name(url)
    if path.is_file() and state.is_known:
        return path
    make_folder(path.parent)
    lock = open_lock(folder / ".lock")
    acquire(lock, lambda: None)
    try:
        if not path.is_file() or not state.is_known:
            publish(path, lambda draft: _download(url, draft, state))
    finally:
        lock.release()
    return path


def _download(url: str, draft: Path, state: ObjectState) -> None:
    download(open_store(url), [(url, draft)])
    size = draft.stat().st_size
    if state.size is not None and size != state.size:
        raise ConnectionError(f"{url} has {state.size} bytes, but {size} have arrived")


def forget_pictures(config: DictConfig) -> None:
    """Remove the fetched files of a run.

    Args:
        config: Configuration of the run.
    """
    image = read_image_setting(config)
    for name in (image,) if isinstance(image, str) else image:
        if is_url(name):
            remove_path(_object_folder(name, local_output(config)))


def _object_folder(url: str, output: Path) -> Path:
    return output.joinpath(*_FOLDER, _hash(url))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
