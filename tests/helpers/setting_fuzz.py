"""Hostile values for every setting, and the way from an override to a checked configuration."""

import copy
import math
import random
import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from functools import cache
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from lift.config import compose_eval, compose_run, validate_config, validate_eval_config
from lift.config.evaluation_schema import EvalConfig
from lift.config.overrides import check_overrides, literal_override
from lift.config.schema import Config
from lift.config.setting_types import setting_annotations
from lift.registry import ALL_SLOTS, catalogue
from lift.registry.values import Limits, plain_annotation, split_annotation

HOSTILE = (
    *("nan", "inf", "-inf", "-1", "0", "1e400", "1e-320", "-0.0", f"1{'0' * 30}", f"{2**63}"),
    *("9" * 5000, "", "''", "???", "[]", "[[]]", "{}", "{a:1}", "null", "true", "yes", "text"),
    *("été 星", "x" * 10_000, "${a}", "${oc.env:HOME}", "..", "~nobody/x", "[nan]", "[null,1]"),
    *("[" * 200 + "]" * 200, "[" * 5000, "1,2", "a=b", "\\", "'", '"', "a\0b", "range(1,3)"),
)
"""Values that are wrong for most settings."""

_REQUIRED = {"model": "nobody/nothing", "path": "nowhere"}
"""Values of settings that have no default."""

_parser = OverridesParser.create()


@dataclass(frozen=True)
class FuzzedSetting:
    """A setting and where it belongs."""

    key: str
    """Dotted name."""
    annotation: Any
    """Its type, with the declared range."""
    slot: str | None = None
    """Slot of its component."""
    component: str | None = None
    """Name of its component."""


def all_settings() -> list[FuzzedSetting]:
    """List the settings of runs, evaluations and all built-in components."""
    found = [*_schema_settings(Config, ""), *_schema_settings(EvalConfig, "")]
    for slot in ALL_SLOTS:
        for name, entry in sorted(catalogue().entries[slot].items()):
            if entry.module.startswith("lift."):
                found += [
                    FuzzedSetting(f"{slot}.{key}", parameter.annotation, slot, name)
                    for key, parameter in entry.settings.items()
                ]
    return found


def number_limits(annotation: Any) -> Iterator[tuple[type, Limits]]:
    """Yield the type and the range of each number that a setting holds."""
    plain, limits = split_annotation(annotation)
    if plain in (int, float):
        yield plain, limits
    elif get_origin(plain) is not Literal:
        for member in get_args(plain):
            if member not in (NoneType, Ellipsis):
                yield from number_limits(member)


def values_in_range(setting: FuzzedSetting, rng: random.Random, count: int) -> Iterator[str]:
    """Yield the ends of a setting's range, and random values in it."""
    for kind, limits in number_limits(setting.annotation):
        low = limits.ge if limits.ge is not None else limits.gt
        high = limits.le if limits.le is not None else limits.lt
        if low is None or high is None:
            continue
        draw: Any = rng.randint if kind is int else rng.uniform
        values = [low, high, *(draw(low, high) for _ in range(count))]
        length = plain_annotation(setting.annotation)
        for value in values:
            if get_origin(length) in (list, tuple):
                yield f"[{','.join([str(value)] * rng.choice([1, 2, 3]))}]"
            else:
                yield str(value)
    alphabet = string.printable + "星é\u202e"
    for _ in range(count):
        yield "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 12)))


@contextmanager
def apply_override(setting: FuzzedSetting, value: str) -> Iterator[DictConfig]:
    """Apply an override as the command line does, on a configuration that is composed once.

    Args:
        setting: The setting.
        value: What a user would type behind the equals sign.

    Yields:
        The checked configuration. It changes back at the end of the block.
    """
    override = f"{setting.key}={value}"
    check_overrides([override])
    prepared = literal_override(override, lambda _: setting.component)
    config, validate = _base(setting.slot, setting.component, setting.key)
    group = setting.key.split(".")[0]
    parsed = _parser.parse_override(prepared)
    saved = copy.deepcopy(config._get_node(group))
    try:
        ConfigLoaderImpl._apply_overrides_to_config([parsed], config)
        validate(config)
        yield config
    finally:
        config.__dict__["_content"][group] = saved


def assert_sane(setting: FuzzedSetting, config: DictConfig) -> None:
    """Check that all numbers of a configuration are finite, and those of the setting in range."""
    plain = OmegaConf.to_container(config, resolve=True)
    for value in _leaves(plain):
        if isinstance(value, (int, float)):
            assert -(2**63) <= value < 2**63 and math.isfinite(value), value
        if isinstance(value, str):
            assert len(value) <= 4096 and "\0" not in value
    chosen = OmegaConf.select(config, setting.key)
    chosen = OmegaConf.to_container(chosen) if OmegaConf.is_config(chosen) else chosen
    allowed = list(number_limits(setting.annotation))
    for value in _leaves(chosen):
        if isinstance(value, (int, float)) and not isinstance(value, bool) and allowed:
            assert any(limits.contains(value) for _, limits in allowed), value


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the values in nested dictionaries and lists."""
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _schema_settings(schema: type, prefix: str) -> Iterator[FuzzedSetting]:
    """Yield the settings of a dataclass of the schema."""
    for name, annotation in setting_annotations(schema).items():
        if is_dataclass(annotation):
            yield from _schema_settings(annotation, f"{prefix}{name}.")  # pyright: ignore[reportArgumentType]
        elif name not in ALL_SLOTS:
            yield FuzzedSetting(f"{prefix}{name}", annotation)


@cache
def _base(
    slot: str | None, component: str | None, key: str
) -> tuple[DictConfig, Callable[[DictConfig], None]]:
    """Compose the configuration that overrides of a setting are applied to."""
    is_evaluation = slot == "dataset" or key.split(".")[0] == "protocol"
    return _composed(slot, component, is_evaluation)


@cache
def _composed(
    slot: str | None, component: str | None, is_evaluation: bool
) -> tuple[DictConfig, Callable[[DictConfig], None]]:
    """Compose a configuration with a component."""
    overrides = [f"{slot}={component}"] if slot else []
    if slot and component:
        overrides += [
            f"{slot}.{name}={_REQUIRED[name]}"
            for name, parameter in catalogue()(slot, component).settings.items()
            if parameter.default is parameter.empty
        ]
    if is_evaluation:
        overrides = overrides or ["dataset=ray_cast"]
        return compose_eval(overrides), validate_eval_config
    return compose_run(["image=coffee", *overrides]), validate_config
