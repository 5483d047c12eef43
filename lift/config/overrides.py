"""Overrides of the command line, KEY=VALUE: their names are checked and their values quoted."""

import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

from lift.config.defaults import default_components
from lift.config.evaluation_schema import EvalConfig
from lift.config.folders import GLOBAL_PACKAGE, config_files, own_folders
from lift.config.literals import check_literal, check_shape
from lift.config.loggers import check_trainer_setting
from lift.config.schema import Config
from lift.config.setting_types import (
    ChosenComponent,
    chosen_annotation,
    schema_of,
    setting_annotation,
    setting_text_type,
)
from lift.config.text import quote_value, split_values, unquote
from lift.registry import ALL_SLOTS, ComponentError, catalogue
from lift.registry.entry import join_names
from lift.renamed import describe_renamed, renamed_setting

_KEY = re.compile(r"(\+{0,2})(\w+(?:\.\w+)*)")
_GROUP = re.compile(r"\w+(/\w+)*")
_EXPERIMENT = "experiment"
_EXTENDED_SYNTAX = set("(*${")
"""Characters of values that Hydra's extended syntax gives a meaning. Names have none of them."""


def check_setting_name(key: str) -> None:
    """Check that there is a setting of this name. Settings of components are not checked.

    Args:
        key: Dotted name, such as fit.steps.

    Raises:
        ComponentError: There is none; the message names those that exist, or the new name.
    """
    node: Any = schema_of(key)
    prefix = ""
    for part in key.split("."):
        if not is_dataclass(node):
            return
        names = [f.name for f in fields(node)]
        if node is Config:
            names.append(_EXPERIMENT)
        if part not in names:
            if new := renamed_setting(key):
                raise ComponentError(describe_renamed(key, new))
            close = get_close_matches(part, names, 1)
            hint = f"did you mean {prefix}{close[0]}? " if close else ""
            raise ComponentError(
                f"{key} is not a setting; {hint}{prefix.rstrip('.') or 'lift run'} has "
                f"{', '.join(names)}"
            )
        if part in ALL_SLOTS:
            return
        node = get_type_hints(node)[part]
        prefix = f"{prefix}{part}."


def check_dashes(arguments: Sequence[str]) -> None:
    """Check that no setting is written as an option.

    Args:
        arguments: Arguments of the command line.

    Raises:
        ComponentError: One is, such as `--experiment=gpu`.
    """
    settings = {_EXPERIMENT, *(f.name for schema in (Config, EvalConfig) for f in fields(schema))}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        name = key.lstrip("-")
        if key.startswith("--") and name.split(".")[0] in settings:
            raise ComponentError(
                f"{key} is no option; write settings without dashes: "
                f"{name}={value if equals else 'VALUE'}"
            )


def check_overrides(overrides: Sequence[str]) -> None:
    """Check the names of settings, components and files of groups, before Hydra reads them.

    Args:
        overrides: Arguments of the command line. Those in Hydra's extended syntax are skipped.

    Raises:
        ComponentError: A name is unknown; the message lists the choices in one line.
    """
    check_dashes(overrides)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            if not override.startswith(("-", "~")) and Path(override).exists():
                raise ComponentError(
                    f"{override!r} is not a setting; did you mean image={override}?"
                )
            continue
        if re.fullmatch(r"\w+(\.\w+)*", key) and key.split(".")[0] not in ("hydra", "experiment"):
            check_setting_name(key)
        elif new := renamed_setting(key.lstrip("+")):
            raise ComponentError(describe_renamed(key.lstrip("+"), new))
        if key.lstrip("+").startswith("trainer."):
            check_trainer_setting(key.lstrip("+").removeprefix("trainer."))
        if not _EXTENDED_SYNTAX & set(value):
            for name in _names(value):
                _check_choice(key.lstrip("+"), name)


def _names(value: str) -> list[str]:
    """Return the names that a group is set to: one, several of a sweep, or a list."""
    inner = value[1:-1] if value[:1] == "[" and value[-1:] == "]" else value
    return [unquote(name) for name in split_values(inner)]


def _check_choice(key: str, name: str) -> None:
    """Raise ComponentError if a group is set to a name that it does not have, or to a bad file."""
    if key not in ALL_SLOTS and key != _EXPERIMENT and not _is_settings_group(key):
        return
    files = config_files(key)
    if name in files:
        files[name].read()
        if key == _EXPERIMENT and not files[name].text.lstrip().startswith(GLOBAL_PACKAGE):
            raise ComponentError(
                f"{files[name].path} has to begin with the line {GLOBAL_PACKAGE!r}, so that it can "
                "set any setting"
            )
    elif key == _EXPERIMENT and name != "null":
        close = get_close_matches(name, files, 1)
        hint = _misplaced(name) or (f" (did you mean {close[0]}?)" if close else "")
        raise ComponentError(
            f"experiment is {name!r}; choose one of {join_names(files)}"
            f"{hint}{catalogue().broken_hint()}"
        )
    elif key in ALL_SLOTS and name not in catalogue().entries[key]:
        raise catalogue().unknown(key, name, files)
    elif _is_settings_group(key):
        choices = f" choose one of {join_names(files)}, or" if files else ""
        example = next(f.name for f in fields(get_type_hints(Config)[key]))
        raise ComponentError(
            f"{key} is {name!r}, but it is a group of settings;{choices} set one of them, "
            f"such as {key}.{example}=VALUE"
        )


def _is_settings_group(key: str) -> bool:
    """Whether a setting is a group of settings, such as `fit`."""
    return is_dataclass(get_type_hints(Config).get(key))


def _misplaced(name: str) -> str:
    """Tell of an experiment's file that is beside the folder `experiment` and not in it."""
    for folder in own_folders():
        if (folder / f"{name}.yaml").is_file():
            return f" (put {folder / f'{name}.yaml'} into the folder {folder / 'experiment'})"
    return ""


def literal_override(
    override: str, chosen: ChosenComponent, multirun: bool = False, primary: bool = True
) -> str:
    """Write an argument of the command line for Hydra, so that text is taken literally.

    Args:
        override: KEY=VALUE.
        chosen: Returns the name of the component that fills a slot.
        multirun: Whether commas separate the values of several runs.
        primary: Whether the primary configuration is that of `lift`.

    Returns:
        The argument for Hydra's grammar. A setting that holds text is quoted; a file of a group
        that `lift` has no default for is added to the defaults.

    Raises:
        ComponentError: A value is no number where the setting takes one, or is out of range.
    """
    key, equals, value = override.partition("=")
    match = _KEY.fullmatch(key)
    if equals and match and (kind := setting_text_type(match[2], chosen)):
        return f"{key}={quote_value(value, kind, multirun)}"
    check_shape(key.lstrip("+~"), value)
    if equals and match and not multirun and (annotation := setting_annotation(match[2])):
        try:
            check_literal(match[2], value, annotation)
        except ComponentError:
            # The ranges of components may differ, so that `annotation` has none.
            check_literal(match[2], value, chosen_annotation(match[2], chosen))
            raise
    if equals and primary and _is_added_group(key) and set(_names(value)) <= set(config_files(key)):
        return f"+{override}"
    return override


def _is_added_group(key: str) -> bool:
    """Whether a group is not among the defaults, so that Hydra must add it."""
    defaults = {*default_components(), "dataset", "trainer", "experiment"}
    return bool(_GROUP.fullmatch(key)) and key not in defaults and not key.startswith("hydra/")
