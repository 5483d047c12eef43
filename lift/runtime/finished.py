"""Find the result of a run that was asked for before, in milliseconds and without a stage's key.

The manifest of a run's folder records the request: a hash of the settings, of the files that they
name (path, size and time of change), and of the code of `lift` and of plugins. The same request is
answered by that folder as long as its files are as they were delivered.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lift import __version__
from lift.config.validation import read_image_setting
from lift.io.names import user_path
from lift.registry import SLOTS, catalogue
from lift.registry.fingerprint import ROOT
from lift.remote.results import read_json
from lift.remote.urls import is_url, join, local_output, output_url
from lift.remote.views import StoreView
from lift.runtime.integrity import MANIFEST, read_manifest, verify_files
from lift.runtime.run_folder import claim_run_folder, run_title

REQUEST = "request"
"""Entry of a run folder's manifest."""

REDELIVER = "redeliver"
"""Setting: write the results again, even if they are there."""

_NOT_IN_REQUEST = (REDELIVER, "cache", "image", "output", "preview")
"""Settings that do not change a result, and the picture, which is hashed by itself."""
_WITH_PATHS = ("cameras", *SLOTS)
"""Settings in which a text may name a file or a folder."""
_TOLD = ("provenance.json", "metrics.json")
"""Files of a run whose notes and verdict are told."""
_MAX_FILES = 10_000
"""Files of a folder that a setting may name. A larger one makes a request unknown."""


class Request:
    """What runs with the same settings on different pictures are asked for.

    Args:
        config: Configuration of a run.
    """

    def __init__(self, config: DictConfig) -> None:
        settings: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
        self.output = local_output(config)
        self.url = output_url(config)
        self.name: str | None = OmegaConf.select(config, "name", default=None)
        self._shared: str | None = None
        known = {key: value for key, value in settings.items() if key not in _NOT_IN_REQUEST}
        with suppress(_UnknownError):
            paths = [_path_state(text) for key in _WITH_PATHS for text in _texts(known.get(key))]
            parts = [__version__, known, paths, _code_state(), _plugin_state(config)]
            self._shared = _hash(parts)

    def key(self, image: str | tuple[str, ...], view: StoreView | None = None) -> str | None:
        """Hash the request for one picture.

        Args:
            image: The setting `image`.
            view: Knows the states of pictures at URLs. None: they are looked up.

        Returns:
            Hexadecimal digits. None if a result cannot be recognised, as with a folder of more
            than 10,000 files.
        """
        if self._shared is None:
            return None
        names = (image,) if isinstance(image, str) else image
        try:
            states = [_image_state(name, view or StoreView()) for name in names]
            return _hash([self._shared, names, states])
        except _UnknownError:
            return None

    def find(
        self, image: str | tuple[str, ...], title: str | None = None, view: StoreView | None = None
    ) -> Path | None:
        """Find the local folder of a finished run that was asked for the same.

        Args:
            image: The setting `image`.
            title: Name of the picture; by default that of its file.
            view: Knows the states of pictures at URLs. None: they are looked up.

        Returns:
            The run's folder. None if there is none, or if one of its files has changed.
        """
        key = self.key(image, view)
        parent = self.output / (title or run_title(image))
        if key is None or not parent.is_dir():
            return None
        folders = [parent / self.name] if self.name else sorted(parent.glob("[!.]*"))  # no drafts
        return next((folder for folder in folders if _answers(folder, key)), None)

    def find_remote(
        self, image: str | tuple[str, ...], title: str | None = None, view: StoreView | None = None
    ) -> str | None:
        """Find a complete run in the store, if the output is a URL, that was asked for the same.

        Args:
            image: The setting `image`.
            title: Name of the picture; by default that of its file.
            view: Knows what stores have. None: they are looked up.

        Returns:
            The URL of the run's folder. None if there is none.

        Raises:
            OSError: The store cannot be read.
        """
        key = self.key(image, view) if self.url is not None else None
        if key is None or self.url is None:
            return None
        title = title or run_title(image)
        requests = (view or StoreView()).requests(self.url, title)
        names = [self.name] if self.name else sorted(requests)
        found = next((name for name in names if requests.get(name) == key), None)
        return None if found is None else join(self.url, title, found)


def request_key(config: DictConfig) -> str | None:
    """Hash what a run is asked for. See `Request.key`.

    Args:
        config: Configuration of the run.
    """
    return Request(config).key(read_image_setting(config))


def find_finished(config: DictConfig, title: str | None = None) -> Path | None:
    """Find the local folder of a finished run. See `Request.find`.

    Args:
        config: Configuration of the run. With `redeliver` nothing is found.
        title: Name of the picture; by default that of its file.
    """
    if OmegaConf.select(config, REDELIVER, default=False):
        return None
    return Request(config).find(read_image_setting(config), title)


def find_remote(config: DictConfig) -> str | None:
    """Find the URL of a finished run. See `Request.find_remote`.

    Args:
        config: Configuration of the run. With `redeliver` nothing is found.
    """
    if output_url(config) is None or OmegaConf.select(config, REDELIVER, default=False):
        return None
    return Request(config).find_remote(read_image_setting(config))


def pass_over(folder: Path | str) -> Path | str:
    """Tell the user that a run is finished already, its notes, and what its scene is like.

    Args:
        folder: The run's folder, or its URL.

    Returns:
        The folder.

    Raises:
        ValueError: It is the folder of another job of the same multirun.
    """
    from lift.outputs.verdict import Verdict

    if isinstance(folder, Path):
        claim_run_folder(folder)
    print("finished before; --redeliver writes the results again", file=sys.stderr)
    provenance, metrics = (read_json(folder, name) for name in _TOLD)
    print(*(f"note: {note}\n" for note in provenance["notes"]), sep="", end="", file=sys.stderr)
    print(*Verdict.from_metrics(metrics).lines, sep="\n", file=sys.stderr)
    return folder


class _UnknownError(Exception):
    """The state of what a setting names cannot be known in little time."""


def _answers(folder: Path, key: str) -> bool:
    """Whether a folder has the whole result of a request.

    A file that was changed later than the manifest, which is written last, is no result.
    """
    try:
        manifest = read_manifest(folder)
        if manifest.get(REQUEST) != key:
            return False
        written = (folder / MANIFEST).stat().st_mtime_ns
        for name, (size, _) in manifest["files"].items():
            status = os.stat(folder / name)
            if status.st_size != size or status.st_mtime_ns > written:
                return False
        verify_files(folder, manifest, names=_TOLD)
    except (LookupError, OSError, ValueError):
        return False
    return True


def _hash(parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts among settings."""
    if isinstance(value, (str, Path)):
        yield str(value)
    elif isinstance(value, dict):
        for key, entry in value.items():
            if key != "name":  # of a component
                yield from _texts(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _texts(entry)


def _image_state(name: str, view: StoreView) -> list[Any]:
    """Describe the picture or video of a name, or the files of a folder as a capture reads them.

    Raises:
        _UnknownError: The folder or the URL cannot be read, or it has too many files.
    """
    if is_url(name):
        state = view.state(name)
        if state is None or not state.is_known:
            raise _UnknownError
        return [name, state.size, state.tag]
    path = user_path(name).absolute()
    try:
        if path.is_file():
            return [str(path), *_file_state(path)]
        if not path.is_dir():  # a built-in picture
            return []
        with os.scandir(path) as entries:
            names = [entry.name for entry in entries if entry.is_file() and entry.name[0] != "."]
        if len(names) > _MAX_FILES:
            raise _UnknownError
        return [[str(path / name), *_file_state(path / name)] for name in sorted(names)]
    except OSError:
        raise _UnknownError from None


def _path_state(text: str) -> list[Any]:
    """Describe the file, or all files of the folder, that a text names; nothing if it names none.

    Raises:
        _UnknownError: The folder cannot be read, or has too many files.
    """

    def fail(_error: OSError) -> None:
        raise _UnknownError

    path = user_path(text).absolute()
    if not text or not os.path.exists(path):
        return []
    files = []
    try:
        if not path.is_dir():
            return [str(path), *_file_state(path)]
        for folder, _, names in os.walk(path, onerror=fail, followlinks=True):
            if len(files) + len(names) > _MAX_FILES:  # or links that lead in a circle
                raise _UnknownError
            paths = [Path(folder, name) for name in names]
            files += [[str(file), *_file_state(file)] for file in paths if file.exists()]
    except OSError:
        raise _UnknownError from None
    return [str(path), sorted(files)]


def _file_state(path: Path) -> tuple[int, int]:
    """Return the size of a file and the time of its last change."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@cache
def _code_state() -> str:
    """Hash the files of this package: the same on all machines, wherever it is installed."""
    code = hashlib.sha256()
    for path in sorted(ROOT.rglob("*")):
        if path.suffix not in (".pyc", ".nbi", ".nbc") and path.is_file():
            content = path.read_bytes()
            code.update(f"{path.relative_to(ROOT).as_posix()}\0{len(content)}\0".encode() + content)
    return code.hexdigest()


def _plugin_state(config: DictConfig) -> list[Any]:
    """Hash the code of the chosen components that are not part of this package.

    Raises:
        _UnknownError: Callbacks of the user take part, whose code is not known.
    """
    if OmegaConf.select(config, "callbacks"):
        raise _UnknownError
    names = [(slot, config[slot].name) for slot in SLOTS if slot in config]
    parts = OmegaConf.select(config, "distortion.parts", default=None) or ()
    names += [("distortion", part) for part in parts]
    entries = [(slot, name, catalogue()(slot, name)) for slot, name in names]
    return [
        [slot, name, entry.fingerprint()]
        for slot, name, entry in entries
        if entry.source is None or ROOT not in entry.source.parents
    ]
