"""Look up many objects with few requests: the states of pictures, and which runs are complete."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from lift.remote.store import (
    ObjectState,
    in_parallel,
    list_names,
    list_sizes,
    object_state,
    open_store,
    read_text,
)
from lift.remote.urls import WEB, is_url, join, scheme
from lift.runtime.integrity import MANIFEST, is_sealed

_SHARED_PARENT = 8
"""Number of pictures of one folder for which the folder is listed."""

_AHEAD = 256
"""Number of pictures that are looked up together if no folder can be listed."""

_LIST_ALL = 0.25
"""Part of an output's pictures that a batch has for which the whole output is listed."""


class StoreView:
    """What stores have now. Each question is one request or two."""

    def state(self, url: str) -> ObjectState | None:
        """Return the state of an object. None if there is none, or none that can be read.

        Args:
            url: Its URL.
        """
        with suppress(OSError, ImportError):
            return object_state(url)
        return None

    def requests(self, output: str, title: str) -> Mapping[str, str]:
        """Return what the complete runs of a picture were asked for.

        Args:
            output: URL of all runs.
            title: Name of the picture.

        Returns:
            The entry `request` of each complete run, by its name.

        Raises:
            OSError: The store cannot be read.
        """
        sizes = list_sizes(open_store(output), join(output, title))
        paths = {f"{title}/{path}": size for path, size in sizes.items()}
        return _complete_runs(output, paths).get(title, {})


class StoreSnapshot(StoreView):
    """What stores had when they were asked first. Folders are listed as a whole.

    Args:
        images: URLs and names of pictures that will be asked for.
        titles: Names of the pictures among the results.
    """

    def __init__(self, images: Iterable[str], titles: Iterable[str]) -> None:
        self._urls = [image for image in dict.fromkeys(images) if is_url(image)]
        self._places = {url: place for place, url in enumerate(self._urls)}
        self._parents = Counter(_parent(url) for url in self._urls)
        self._titles = set(titles)
        self._states: dict[str, ObjectState | None] = {}
        self._runs: dict[str, dict[str, dict[str, str]]] = {}

    def state(self, url: str) -> ObjectState | None:
        """Return the state of an object. See `StoreView.state`."""
        if url not in self._states:
            with suppress(OSError, ImportError):
                self._look_up(url)
        return self._states.get(url)

    def requests(self, output: str, title: str) -> Mapping[str, str]:
        """Return what the complete runs of a picture were asked for. See `StoreView.requests`."""
        if output not in self._runs:
            self._runs[output] = self._list_runs(output)
        return self._runs[output].get(title, {})

    def _look_up(self, url: str) -> None:
        """Find the states of an object and of others like it."""
        parent = _parent(url)
        store = open_store(url)
        if self._parents[parent] >= _SHARED_PARENT and scheme(url) not in WEB:
            entries = list_names(store, parent)
            for other in self._urls:
                if _parent(other) == parent:
                    entry = entries.get(other[len(parent) + 1 :])
                    is_file = entry is not None and entry.get("type") != "directory"
                    self._states[other] = ObjectState.from_info(entry or {}) if is_file else None
            return
        place = self._places.get(url)
        urls = [url] if place is None else self._urls[place : place + _AHEAD]
        urls = [other for other in urls if scheme(other) == scheme(url)]
        self._states |= zip(urls, in_parallel(store, super().state, urls), strict=True)

    def _list_runs(self, output: str) -> dict[str, dict[str, str]]:
        """List the complete runs of all pictures, by as few requests as are useful."""
        store = open_store(output)
        present = set(list_names(store, output))
        wanted = sorted(present & self._titles)
        if len(wanted) >= _LIST_ALL * len(present):
            return _complete_runs(output, list_sizes(store, output))
        sizes = in_parallel(store, lambda title: list_sizes(store, join(output, title)), wanted)
        paths = {
            f"{title}/{path}": size
            for title, inner in zip(wanted, sizes, strict=True)
            for path, size in inner.items()
        }
        return _complete_runs(output, paths)


def _parent(url: str) -> str:
    return url.rpartition("/")[0]


def _complete_runs(output: str, sizes: Mapping[str, int]) -> dict[str, dict[str, str]]:
    """Return the requests of all complete runs by picture and name, from a listing.

    A run is complete if it has a manifest, and all files of the manifest with their sizes.
    """
    runs: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for path, size in sizes.items():
        parts = path.split("/", 2)
        if len(parts) == 3:
            runs[parts[0], parts[1]][parts[2]] = size
    keys = [key for key, files in runs.items() if MANIFEST in files and key[1][0] != "."]
    store = open_store(output)

    def read(key: tuple[str, str]) -> dict[str, Any]:
        with suppress(FileNotFoundError, ValueError):  # it is being replaced, or damaged
            return parse_manifest(read_text(store, join(output, *key, MANIFEST)))
        return {}

    complete: dict[str, dict[str, str]] = defaultdict(dict)
    for key, manifest in zip(keys, in_parallel(store, read, keys), strict=True):
        request = manifest.get("request")
        if request and has_files(manifest, runs[key]):
            complete[key[0]][key[1]] = request
    return dict(complete)


def parse_manifest(text: str) -> dict[str, Any]:
    """Read the text of a run's manifest.

    Args:
        text: The text.

    Raises:
        ValueError: It is damaged, or has no list of files.
    """
    manifest = json.loads(text)
    if not isinstance(manifest, dict) or not is_sealed(manifest):
        raise ValueError("the manifest is damaged")
    if not isinstance(manifest.get("files"), dict):
        raise ValueError("the manifest names no files")
    return manifest


def has_files(manifest: Mapping[str, Any], sizes: Mapping[str, int]) -> bool:
    """Whether all files of a manifest are there, with their sizes.

    Args:
        manifest: The manifest.
        sizes: Sizes in bytes of the files that there are.
    """
    return all(sizes.get(name) == size for name, (size, _) in manifest["files"].items())
