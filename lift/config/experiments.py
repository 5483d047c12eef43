"""Experiments: which there are, what each changes, and why."""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from lift.config.comments import describe_file, find_comment, setting_comments
from lift.config.compose import CONFIG_MODULE, RUN_CONFIG, store_schemas
from lift.config.folders import ConfigFile, config_files
from lift.config.overrides import check_overrides
from lift.registry import ALL_SLOTS

_GROUP = "experiment"

_NOT_SET = "not set"
"""Value of a setting without default."""


@dataclass(frozen=True)
class Change:
    """A setting that an experiment changes."""

    key: str
    """Name of the setting, or of the group whose file is chosen."""
    before: str
    """Its default, as in YAML. For a component's setting: the default of the chosen component."""
    after: str
    """Its value, as in YAML."""
    reason: str
    """The comment beside or above it in the file; empty if there is none.

    The comment of a chosen component is not repeated for its settings.
    """


@dataclass(frozen=True)
class Experiment:
    """An experiment and what it changes."""

    file: ConfigFile
    """Its file."""
    description: str
    """The comment at the beginning of the file."""
    changes: tuple[Change, ...]
    """Chosen components and files first, then other settings."""
    repeated: tuple[str, ...]
    """Names of settings that the file sets to their defaults."""


def experiment_summaries() -> list[tuple[ConfigFile, str]]:
    """List the experiments with one line that says what each is for.

    It is called within `use_config_folders`.
    """
    return [
        (file, describe_file(file.text).partition("\n")[0])
        for file in config_files(_GROUP).values()
    ]


def read_experiment(name: str) -> Experiment:
    """Find out what an experiment changes. It is called within `use_config_folders`.

    Args:
        name: Name of the experiment.

    Raises:
        ComponentError: There is none of this name; the message lists the choices.
    """
    override = f"experiment={name}"
    check_overrides([override])
    store_schemas()
    file = config_files(_GROUP)[name]
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        _, default_choices = _compose([])
        after, choices = _compose([override])
        changed = {
            group: choices[group]
            for group in dict.fromkeys([*ALL_SLOTS, *choices])
            if choices.get(group) != default_choices.get(group)
        }
        # Settings are compared with the defaults of the chosen components.
        before, _ = _compose([f"{key}={changed[key]}" for key in changed if key in default_choices])
    pairs = {key: (default_choices.get(key), choice) for key, choice in changed.items()}
    pairs |= {
        key: (before.get(key), value) for key, value in after.items() if before.get(key) != value
    }
    comments: dict[str, str] = {}
    for source, prefix in _sources(_GROUP, name, ""):
        own = setting_comments(source.text)
        comments = {f"{prefix}{key}": comment for key, comment in own.items()} | comments
    changes = tuple(
        Change(key, old or _NOT_SET, new or _NOT_SET, _reason(comments, key, pairs))
        for key, (old, new) in pairs.items()
    )
    repeated = tuple(key for key in _written_settings(file) if key not in pairs)
    return Experiment(file, describe_file(file.text), changes, repeated)


def _reason(comments: dict[str, str], key: str, changed: Container[str]) -> str:
    """Find the comment of a change, unless it is that of a group that is a change itself."""
    group = key.rpartition(".")[0]
    is_inherited = key not in comments and group in changed
    return "" if is_inherited else find_comment(comments, key)


def _compose(overrides: list[str]) -> tuple[dict[str, str], dict[str, str | None]]:
    """Compose a run; return its settings as YAML by dotted name, and the choice of each group."""
    config = compose(RUN_CONFIG, overrides, return_hydra_config=True)
    choices = {
        group: choice
        for group, choice in config.hydra.runtime.choices.items()
        if not group.startswith("hydra/") and group != _GROUP
    }
    plain: Any = OmegaConf.to_container(config, resolve=False)
    plain.pop("hydra")
    return _flatten(plain), choices


def _flatten(value: Any, prefix: str = "") -> dict[str, str]:
    """Turn nested dictionaries into values as YAML by dotted name; a value not set is left out."""
    if isinstance(value, dict) and (value or not prefix):
        flat: dict[str, str] = {}
        for key, item in value.items():
            flat |= _flatten(item, f"{prefix}.{key}" if prefix else str(key))
        return flat
    if value == "???":
        return {}
    value = str(value) if isinstance(value, Path) else value
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1000)
    return {prefix: text.removesuffix("\n").removesuffix("\n...")}


def _sources(group: str, name: str, prefix: str) -> Iterator[tuple[ConfigFile, str]]:
    """Yield a file and those that its defaults list names, with the prefixes of their settings."""
    file = config_files(group).get(name)
    if file is None:  # a component
        return
    yield file, prefix
    for key, choice in _default_choices(file, group):
        is_global = key == _GROUP
        yield from _sources(key, choice, "" if is_global else f"{key.replace('/', '.')}.")


def _default_choices(file: ConfigFile, group: str) -> Iterator[tuple[str, str]]:
    """Yield the groups and names of a file's defaults list."""
    for entry in file.read().get("defaults", ()):
        if isinstance(entry, str):  # another file of the same group, or an absolute path
            path = entry.removeprefix("/") if entry[0] == "/" else f"{group}/{entry}"
            parent, _, name = path.rpartition("/")
            if entry != "_self_":
                yield parent, name
        else:
            for key, name in entry.items():
                path = key.split("@")[0].removeprefix("override ").strip()
                if isinstance(name, str):
                    yield path.removeprefix("/") if path[0] == "/" else f"{group}/{path}", name


def _written_settings(file: ConfigFile) -> list[str]:
    """List the settings and groups that a file sets itself."""
    content = file.read()
    groups = [group for group, _ in _default_choices(file, _GROUP) if group != _GROUP]
    content.pop("defaults", None)
    return [*groups, *_flatten(content)]
