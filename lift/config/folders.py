"""Folders with configuration files: those of `lift`, of the user and of plugins.

A folder holds groups, such as `experiment` or `trainer`, each with files `NAME.yaml`. Hydra looks
for a file in the user's folders first, then in those of `lift`, then in those of plugins.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from lift.config.text import split_values, unquote
from lift.io.names import user_path
from lift.registry import ALL_SLOTS, ComponentError, catalogue
from lift.registry.discovery import plugin_config_folders

OPTION = "--config-dir"
"""Option that names a folder of the user."""

GLOBAL_PACKAGE = "# @package _global_"
"""First line of an experiment, by which Hydra lets it set settings of all groups."""

BUILT_IN = "lift"
"""Origin of the files of `lift`."""

_OPTIONS = (OPTION, "-cd")
_SEARCH_PATH = "hydra.searchpath"

_own_folders: ContextVar[tuple[Path, ...] | None] = ContextVar("own_folders", default=None)
"""The user's folders within `use_config_folders`; None outside."""


@dataclass(frozen=True)
class ConfigFile:
    """A file of a group."""

    name: str
    """What is chosen by `GROUP=NAME`."""
    path: Path
    """The YAML file."""
    origin: str
    """`lift`, the name of a plugin, or the user's folder."""
    hidden: tuple[str, ...] = ()
    """Origins of other files of this name, which are not used."""

    @property
    def text(self) -> str:
        """Content of the file."""
        return self.path.read_text(encoding="utf-8")

    def read(self) -> dict[str, Any]:
        """Return the settings and the defaults list of the file, which may have none.

        Raises:
            ComponentError: The file is not valid.
        """
        try:
            content = yaml.safe_load(self.text)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ComponentError(f"{self.path} is no valid YAML: {error}") from None
        except RecursionError:
            raise ComponentError(
                f"{self.path} is nested too deeply; write lists and groups of few levels"
            ) from None
        if content is not None and not isinstance(content, dict):
            raise ComponentError(f"{self.path} holds no settings; give KEY: VALUE")
        return content or {}


def split_config_folders(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the folders that arguments name from the other arguments.

    Args:
        arguments: Arguments of the command line. A folder is named by `--config-dir FOLDER`,
            `--config-dir=FOLDER` or `hydra.searchpath=[FOLDER,...]`, with or without `file://`.

    Returns:
        `--config-dir=FOLDER` for each folder, which must exist, as an absolute path; and the rest.

    Raises:
        ComponentError: A folder does not exist, or an option has none.
    """
    folders: list[str] = []
    rest: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, value = argument.partition("=")
        if name in _OPTIONS:
            folder = value if equals else next(remaining, "")
            if not folder:
                raise ComponentError(f"{name} names no folder; give {OPTION} FOLDER")
            folders.append(f"{OPTION}={_find_folder(name, folder)}")
        elif name.lstrip("+") == _SEARCH_PATH and equals:
            folders += [f"{OPTION}={_find_folder(name, item)}" for item in _list_items(value)]
        else:
            rest.append(argument)
    return folders, rest


def _list_items(value: str) -> list[str]:
    """Read a list of texts; one without brackets is a list of one."""
    if value in ("", "null", "[]"):
        return []
    is_list = value[0] == "[" and value[-1] == "]"
    return [unquote(item) for item in split_values(value[1:-1])] if is_list else [unquote(value)]


def _find_folder(name: str, value: str) -> Path:
    """Find a folder by its path, or by `pkg://` and the name of a package."""
    if value.startswith("pkg://"):
        module = value.removeprefix("pkg://").replace("/", ".")
        try:
            spec = importlib.util.find_spec(module)
        except ImportError:
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise ComponentError(f"{name} is {value!r}, but there is no package {module}")
        return Path(next(iter(spec.submodule_search_locations)))
    path = user_path(value.removeprefix("file://")).absolute()
    if not path.is_dir():
        problem = "is a file; give its folder" if path.exists() else "does not exist"
        raise ComponentError(f"{name} is {value!r}, but the folder {str(path)!r} {problem}")
    return path


@contextmanager
def use_config_folders(folders: Sequence[str]) -> Iterator[None]:
    """Let Hydra find the files of the user's folders, and of plugins, within a `with` block.

    Args:
        folders: The folders, as `split_config_folders` returns them.

    Raises:
        ComponentError: A file has the name of a component.
    """
    paths = [Path(folder.removeprefix(f"{OPTION}=")) for folder in folders]
    token = _own_folders.set(tuple(dict.fromkeys([*paths, *own_folders()])))
    Plugins.instance().register(_SearchPath)
    try:
        _check_names()
        yield
    finally:
        _own_folders.reset(token)


def config_files(group: str) -> dict[str, ConfigFile]:
    """Find the files of a group.

    Args:
        group: Name of the group, such as experiment, trainer or hydra/launcher.

    Returns:
        Name -> file. Of several files with one name it is the one that Hydra uses.
    """
    found: dict[str, ConfigFile] = {}
    for folder, origin in _folders():
        for path in sorted((folder / group).rglob("*.yaml")):
            name = path.relative_to(folder / group).with_suffix("").as_posix()
            first = found.setdefault(name, ConfigFile(name, path, origin))
            if first.path.resolve() != path.resolve():
                found[name] = replace(first, hidden=(*first.hidden, origin))
    return dict(sorted(found.items()))


def own_folders() -> tuple[Path, ...]:
    """Return the user's folders of the `with` block of `use_config_folders`."""
    return _own_folders.get() or ()


def _folders() -> list[tuple[Path, str]]:
    """List all folders in the order in which Hydra reads them, with their origins."""
    own = [(path, str(path)) for path in own_folders()]
    plugins = [(path, name) for name, path in plugin_config_folders()]
    return [*own, (Path(str(files("lift.configs"))), BUILT_IN), *plugins]


def _check_names() -> None:
    """Raise ComponentError if a file of the user or of a plugin has the name of a component."""
    components = catalogue()
    for slot in ALL_SLOTS:
        for file in config_files(slot).values():
            if file.name in components.entries[slot]:
                raise ComponentError(
                    f"{file.path} has the name of the {slot} {file.name!r}; rename the file, and "
                    f"begin it with the lines `defaults:` and `  - {file.name}`"
                )


class _SearchPath(SearchPathPlugin):
    """Adds the folders of the user and of plugins to those that Hydra searches."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the folders.

        Args:
            search_path: What Hydra searches so far.
        """
        if _own_folders.get() is None:  # another program's use of Hydra in this process
            return
        main = SearchPathQuery(provider="main")
        for path in own_folders():
            search_path.prepend(OPTION, f"file://{path}", anchor=main)
        for name, path in plugin_config_folders():
            search_path.append(name, f"file://{path}")
