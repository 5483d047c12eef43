"""Upload the folders of runs, and fetch them. A folder with a manifest is complete.

The manifest is removed first and written last. So a reader finds a whole result, or none.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from lift.remote.pictures import forget_pictures
from lift.remote.store import download, list_sizes, open_store, read_text, remove, upload
from lift.remote.urls import is_url, join, output_url, url_parts, working_folder
from lift.remote.views import has_files, parse_manifest
from lift.runtime.atomic_io import (
    acquire,
    hidden_path,
    make_folder,
    open_lock,
    prepare_draft,
    publish_folder,
    set_permissions,
)
from lift.runtime.atomic_io import remove as remove_path
from lift.runtime.integrity import MANIFEST, DamagedFileError, read_manifest, verify_files

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def share(config: DictConfig, folder: Path) -> Path | str:
    """Upload the folder of a finished run, if the output is a URL.

    With `cache.keep=false` the local copy and fetched pictures are removed.

    Args:
        config: Configuration of the run.
        folder: Its local folder.

    Returns:
        The URL of the run's folder. The local folder if the output is one.

    Raises:
        OSError: The store cannot be written. The next run uploads the folder again.
    """
    output = output_url(config)
    result: Path | str = folder
    if output is not None:
        result = join(output, folder.parent.name, folder.name)
        upload_run(folder, result)
    if not config.cache.keep:
        forget_pictures(config)
        if output is not None:
            remove_path(folder)
    return result


def upload_run(folder: Path, url: str) -> None:
    """Upload the folder of a finished run.

    Files of an earlier result that the new one does not have are removed. Others stay.

    Args:
        folder: The folder.
        url: Its URL.

    Raises:
        ConnectionError: The store has not got all files, or another job writes the same run.
        OSError: The store cannot be written.
    """
    store = open_store(url)
    manifest = read_manifest(folder)
    names = [*manifest["files"]]
    old = _old_files(store, url)
    remove(store, [join(url, MANIFEST)])
    remove(store, [join(url, name) for name in old if name not in manifest["files"]])
    upload(store, [(folder / name, join(url, name)) for name in names])
    if not has_files(manifest, list_sizes(store, url)):
        raise ConnectionError(f"{url} is not complete; another job may write to it")
    upload(store, [(folder / MANIFEST, join(url, MANIFEST))])


def _old_files(store: "AbstractFileSystem", url: str) -> list[str]:
    """Return the files that the manifest of an earlier result names."""
    with suppress(FileNotFoundError, ValueError):
        return [*parse_manifest(read_text(store, join(url, MANIFEST)))["files"]]
    return []


def local_run(folder: Any, cache: str | None = None) -> Any:
    """Return the local folder of a run. That of a URL is fetched, and its checksums are compared.

    Args:
        folder: Folder or URL of the run.
        cache: The setting `cache.folder` of the run.

    Returns:
        The folder. A name that is no URL stays as it is.

    Raises:
        FileNotFoundError: There is no complete run at the URL.
        DamagedFileError: A file is not what was uploaded.
    """
    if not is_url(folder):
        return folder
    url = str(folder).rstrip("/")
    if len(url_parts(url)) < 2:
        raise FileNotFoundError(f"there is no finished run at {url}: give the URL of its folder")
    output, title, name = url.rsplit("/", 2)
    target = working_folder(output, cache) / title / name
    store = open_store(url)
    try:
        text = read_text(store, join(url, MANIFEST))
        manifest = parse_manifest(text)
    except (FileNotFoundError, ValueError) as error:
        raise FileNotFoundError(
            f"there is no finished run at {url}: {MANIFEST} is missing, damaged or of another "
            "version of lift"
        ) from error
    make_folder(target.parent)
    lock = open_lock(hidden_path(target, ".lock"))
    acquire(lock, lambda: None)
    try:
        if not _is_current(target, manifest):
            _fetch(store, url, target, manifest, text)
    finally:
        lock.release()
    return target


def _is_current(target: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether a local folder has the result of a manifest."""
    with suppress(DamagedFileError, OSError):
        if read_manifest(target) == manifest:
            verify_files(target, manifest, "size")
            return True
    return False


def _fetch(
    store: "AbstractFileSystem", url: str, target: Path, manifest: Mapping[str, Any], text: str
) -> None:
    """Fetch a run to a draft, check it, and publish it."""
    draft = hidden_path(target, ".draft")
    prepare_draft(draft)
    try:
        for name in manifest["files"]:
            path = draft / name
            if draft.resolve() not in path.resolve().parents:
                raise DamagedFileError(Path(MANIFEST), f"it names {name!r}")
            path.parent.mkdir(parents=True, exist_ok=True)
        download(store, [(join(url, name), draft / name) for name in manifest["files"]])
        (draft / MANIFEST).write_text(text, encoding="utf-8")
        verify_files(draft, manifest)
        set_permissions(draft)
        publish_folder(draft, target)
    except BaseException:
        remove_path(draft)
        raise


def read_json(folder: Path | str, name: str) -> dict[str, Any]:
    """Read a JSON file of a run.

    Args:
        folder: Folder or URL of the run.
        name: Name of the file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no JSON.
    """
    if isinstance(folder, str) and is_url(folder):
        return json.loads(read_text(open_store(folder), join(folder, name)))
    return json.loads((Path(folder) / name).read_text(encoding="utf-8"))
