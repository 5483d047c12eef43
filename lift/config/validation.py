"""Checks of a composed configuration that types alone do not make."""

import math
from dataclasses import is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lift.config.evaluation_schema import EvalConfig
from lift.config.film_schema import parse_aspect
from lift.config.fit_schema import FIT_DEFAULTS, resolve_fit
from lift.config.loggers import validate_loggers
from lift.config.schema import Config
from lift.config.setting_types import setting_annotations
from lift.io.names import name_problem, path_problem
from lift.registry import ALL_SLOTS, SLOTS, ComponentError, catalogue, check_listed_plugins
from lift.registry.entry import join_names
from lift.registry.values import convert_value, format_value
from lift.remote.urls import WEB, is_url, scheme

MIN_DEFAULT_STEPS = min(FIT_DEFAULTS["steps"])
"""Smallest number of steps that `fit.steps=null` stands for."""


def read_image_setting(config: DictConfig) -> str | tuple[str, ...]:
    """Read the setting `image`: one name, or several from a list.

    Args:
        config: Configuration of `lift run`.

    Returns:
        A name, or a tuple of at least two names.

    Raises:
        ComponentError: It is not set, or neither a name nor a list of names.
    """
    if OmegaConf.is_missing(config, "image") or config.image is None:
        raise ComponentError(
            "image is not set: give image=PATH, "
            "or the name of a built-in picture such as image=coffee"
        )
    value = config.image
    if not OmegaConf.is_config(value):
        return str(value)
    names = OmegaConf.to_container(value, resolve=True)
    if (
        not isinstance(names, list)
        or not names
        or any(isinstance(name, (list, dict)) or name is None for name in names)
    ):
        raise ComponentError(
            f"image is {format_value(names)}; give one name, or a list such as image=[a.jpg,b.jpg]"
        )
    return str(names[0]) if len(names) == 1 else tuple(str(name) for name in names)


def validate_config(config: DictConfig) -> None:
    """Check the configuration of `lift run`.

    Args:
        config: Composed configuration.

    Raises:
        ComponentError: A setting is wrong; the message names it.
    """
    check_listed_plugins()
    read_image_setting(config)
    _check_name(config)
    _check_output(config)
    for slot in SLOTS:
        _check_component(config, slot)
    check_settings(config, Config)
    validate_loggers(config)
    _check_aspect(config.export.film.aspect)
    _check_fit(config.fit)


def check_settings(config: DictConfig, schema: type, prefix: str = "") -> None:
    """Check the types and the ranges of settings that belong to no component.

    Args:
        config: Composed configuration, or a group of it.
        schema: The dataclass that declares its settings.
        prefix: Dotted name of the group, with a dot at its end.

    Raises:
        ComponentError: A setting is not set or out of range; the message names it.
    """
    for name, annotation in setting_annotations(schema).items():
        key = f"{prefix}{name}"
        if key in ALL_SLOTS:
            continue
        if name not in config or OmegaConf.is_missing(config, name):
            raise ComponentError(f"{key} is not set; set {key}=VALUE")
        value = config[name]
        if is_dataclass(annotation):
            check_settings(value, annotation, f"{key}.")  # pyright: ignore[reportArgumentType]
        else:
            if OmegaConf.is_config(value):
                value = OmegaConf.to_container(value, resolve=True)
            convert_value(key, value, annotation)


def _check_name(config: DictConfig) -> None:
    """Check that the run's name is the name of one folder."""
    if config.name is not None and (problem := name_problem(config.name)):
        raise ComponentError(
            f"name is {config.name!r}; choose the name of one folder (this one {problem}); "
            "output=FOLDER is its parent"
        )


def _check_output(config: DictConfig) -> None:
    """Check that all libraries can write to a folder of this name."""
    key, folder = "output", str(config.output)
    if is_url(folder):
        if scheme(folder) in WEB:
            raise ComponentError(
                f"output is {folder!r}, and web servers take no results; choose a folder or a "
                "store, such as output=s3://BUCKET/FOLDER"
            )
        key, folder = "cache.folder", OmegaConf.select(config, "cache.folder", default=None)
        if folder is None:
            return
    if problem := path_problem(folder):
        raise ComponentError(
            f"{key} is {folder!r}, which {problem}; choose another folder: {key}=FOLDER"
        )


def _check_component(config: DictConfig, slot: str) -> None:
    """Check the settings of a slot's component, and those of the parts of a composed one."""
    is_set = slot in config and not OmegaConf.is_missing(config, slot)
    settings: Any = OmegaConf.to_container(config[slot], resolve=True) if is_set else None
    if not isinstance(settings, dict) or not isinstance(settings.get("name"), str):
        raise ComponentError(
            f"{slot} is {format_value(settings)}; choose one of "
            f"{join_names(catalogue().entries[slot])}"
        )
    catalogue()(slot, settings.pop("name")).check(settings)
    for part in settings.get("parts", ()):
        part_settings = (settings.get("settings") or {}).get(part, {})
        if not isinstance(part_settings, dict):
            raise ComponentError(
                f"{slot}.settings.{part} is {part_settings!r}; set one of its settings: "
                f"{slot}.settings.{part}.SETTING=VALUE"
            )
        try:
            catalogue()(slot, part).check(part_settings)
        except ComponentError as error:
            raise ComponentError(f"in {slot}.parts: {error}") from None


def _check_aspect(aspect: str) -> None:
    """Check the aspect of the film."""
    try:
        parse_aspect(aspect, "export.film.aspect")
    except ValueError as error:
        raise ComponentError(str(error)) from None


def _check_fit(fit: DictConfig) -> None:
    """Check settings of the fit that depend on one another."""
    phases = resolve_fit(fit).coarse_to_fine
    scales = list(phases.scales)
    ends = list(phases.until)
    if len(scales) != len(ends) or ends != sorted(ends):
        raise ComponentError(
            f"fit.coarse_to_fine has scales {scales} and until {ends}; choose as many of each, "
            "and let until rise"
        )
    if fit.test_every == 1:
        raise ComponentError(
            "fit.test_every is 1, which leaves no generated frame to learn from; "
            "choose 0 for none, or 2 or more"
        )
    if fit.canonical_steps and fit.canonical_steps >= (fit.steps or MIN_DEFAULT_STEPS):
        raise ComponentError(
            f"fit.canonical_steps is {fit.canonical_steps}, which leaves no step for the "
            f"distortion; choose less than fit.steps, {fit.steps or MIN_DEFAULT_STEPS}"
        )
    _check_growth(fit)
    if fit.loss.depth_final is not None and not fit.loss.depth:
        raise ComponentError(
            "fit.loss.depth is 0, so it cannot change to fit.loss.depth_final, "
            f"{fit.loss.depth_final:g}; choose more than 0, or null for depth_final"
        )
    if fit.initial_gaussians > fit.max_gaussians:
        raise ComponentError(
            f"fit.initial_gaussians is {fit.initial_gaussians}, more than fit.max_gaussians, "
            f"{fit.max_gaussians}; choose no more"
        )


def _check_growth(fit: DictConfig) -> None:
    """Check that densification by gradients stops before the last of two stages ends."""
    if not fit.canonical_steps or fit.densify.strategy != "gradient":
        return
    steps = fit.steps or MIN_DEFAULT_STEPS
    last_stage = steps - fit.canonical_steps
    if fit.densify.stop * steps >= last_stage:
        most = math.ceil(100 * last_stage / steps - 1) / 100
        raise ComponentError(
            f"fit.densify.stop is {fit.densify.stop:g}, which is step "
            f"{fit.densify.stop * steps:g} of each stage, and the last stage has {last_stage}; "
            f"choose {most:g} or less, so that resets of opacities end before the fit"
        )


def validate_eval_config(config: DictConfig) -> None:
    """Check the settings that `lift eval` adds.

    Args:
        config: Composed `EvalConfig`.

    Raises:
        ComponentError: A setting is wrong; the message names it.
    """
    check_listed_plugins()
    _check_component(config, "dataset")
    check_settings(config, EvalConfig)
    protocol = config.protocol
    bins = list(protocol.bins)
    if bins != sorted(set(bins)):
        raise ComponentError(f"protocol.bins is {bins}; choose distances that rise")
    seeds = list(protocol.seeds)
    if len(set(seeds)) < len(seeds):
        raise ComponentError(f"protocol.seeds is {seeds}; choose each seed once")
    _check_reference(protocol.reference)


def _check_reference(name: str) -> None:
    """Check that a depth estimator can serve as `protocol.reference`."""
    entry = catalogue()("depth", name)
    entry.require()
    if required := [
        key for key, parameter in entry.settings.items() if parameter.default is parameter.empty
    ]:
        raise ComponentError(
            f"protocol.reference is {name!r}, which needs {', '.join(required)}; "
            "choose one that needs no settings, such as lite"
        )
    if name == "known":
        raise ComponentError(
            "protocol.reference is 'known'; the dataset's own depth is used anyway: "
            "choose an estimator, such as lite"
        )
