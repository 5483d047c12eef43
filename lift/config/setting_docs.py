"""Descriptions of the settings that belong to no component, read from the schema's source."""

import ast
import dataclasses
import inspect
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from lift.config.evaluation_schema import EvalConfig
from lift.config.schema import Config
from lift.config.setting_types import setting_annotations
from lift.registry import ALL_SLOTS, ComponentError
from lift.registry.entry import join_names

RUN_GROUP = "run"
"""Name that stands for the settings of a run that are in no group."""


@dataclasses.dataclass(frozen=True)
class SettingInfo:
    """A setting that belongs to no component."""

    key: str
    """Dotted name."""
    annotation: Any
    """Its type, with the declared range."""
    default: Any
    """Its default; `???` if it has none."""
    description: str
    """Its docstring."""


def setting_groups() -> dict[str, type]:
    """List the groups of settings.

    Returns:
        Dotted name of the group -> the dataclass that declares it.
    """
    return {RUN_GROUP: Config} | dict(_groups(Config, "")) | dict(_groups(EvalConfig, ""))


def describe_group(name: str) -> tuple[str, list[SettingInfo]]:
    """Describe a group of settings and those in it.

    Args:
        name: Dotted name of the group, such as `fit` or `fit.loss`.

    Returns:
        The group's docstring, and its settings with those of inner groups.

    Raises:
        ComponentError: There is no such group.
    """
    groups = setting_groups()
    if name not in groups:
        choices = [*groups, *ALL_SLOTS]
        raise ComponentError(f"there are no settings {name!r}; choose one of {join_names(choices)}")
    schema = groups[name]
    prefix = "" if name == RUN_GROUP else f"{name}."
    settings = [
        info for info in _settings(schema, prefix) if name != RUN_GROUP or "." not in info.key
    ]
    return inspect.cleandoc(schema.__doc__ or ""), settings


@cache
def field_docs(path: Path) -> dict[str, dict[str, str]]:
    """Read the docstrings of dataclasses and of their fields from a source file.

    Args:
        path: The source file.

    Returns:
        Class name to field name to docstring. The class's own docstring has the key "".
    """
    docs: dict[str, dict[str, str]] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef):
            continue
        own = docs[node.name] = {"": ast.get_docstring(node) or ""}
        for before, after in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(before, ast.AnnAssign)
                and isinstance(before.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                own[before.target.id] = str(after.value.value)
    return docs


def _groups(schema: type, prefix: str) -> Iterator[tuple[str, type]]:
    """Yield the groups in a dataclass, with their dotted names."""
    for name, annotation in setting_annotations(schema).items():
        if dataclasses.is_dataclass(annotation):
            group = typing.cast(type, annotation)
            yield f"{prefix}{name}", group
            yield from _groups(group, f"{prefix}{name}.")


def _settings(schema: type, prefix: str) -> Iterator[SettingInfo]:
    """Yield the settings of a dataclass and of those in it. Slots are left out."""
    docs = field_docs(Path(inspect.getfile(schema))).get(schema.__name__, {})
    for field in dataclasses.fields(schema):
        annotation = setting_annotations(schema)[field.name]
        if dataclasses.is_dataclass(annotation):
            yield from _settings(typing.cast(type, annotation), f"{prefix}{field.name}.")
        elif f"{prefix}{field.name}" not in ALL_SLOTS:
            default = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            description = " ".join(docs.get(field.name, "").split())
            yield SettingInfo(f"{prefix}{field.name}", annotation, default, description)
