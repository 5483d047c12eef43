"""Settings of loggers and callbacks. Imports neither torch nor Lightning."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from omegaconf import DictConfig, OmegaConf

from lift.registry import ComponentError
from lift.registry.ranges import OneOf

LOGGERS = ("tensorboard", "wandb", "csv")
"""Built-in loggers. Each writes to a folder of its name, in the folder of the fit."""

CALLBACK_FOLDER = "callbacks"
"""Folder for the files of callbacks, in the folder of the fit."""

RESERVED_TRAINER_SETTINGS = {
    "logger": "use logger=tensorboard, wandb, csv or none, or several: logger=[tensorboard,csv]",
    "callbacks": "use callbacks=[my_module.MyCallback]",
}
"""Argument of Lightning's Trainer that is a setting of its own -> what to use instead."""

_OWN_ARGUMENTS = ("dir", "id", "resume")
"""Arguments of `wandb.init` that are always set, so that a killed run continues."""


@dataclass
class Wandb:
    """Settings of the logger `wandb` (Weights & Biases): `pip install 'lift[wandb]'`."""

    project: str = "lift"
    """Project of the runs."""
    entity: str | None = None
    """User or team that owns the project. Null: the default of the account."""
    name: str | None = None
    """Name of the run. Null: the setting `name`, or made from picture, prior and distortion."""
    group: str | None = None
    """Group of the run, such as the name of an ablation."""
    tags: list[str] = field(default_factory=list)
    """Tags of the run."""
    notes: str | None = None
    """Description of the run."""
    mode: Annotated[str, OneOf(("online", "offline", "disabled"))] | None = None
    """online, offline or disabled. Null: as WANDB_MODE or `wandb offline` says, else online."""
    options: dict[str, Any] = field(default_factory=dict)
    """More arguments of `wandb.init`, such as +wandb.options.job_type=ablation."""


def read_loggers(config: DictConfig) -> list[str | dict[str, Any]]:
    """Read the setting `logger`.

    Args:
        config: Configuration of `lift run`.

    Returns:
        Names of built-in loggers, and others as `{_target_: path, argument: value}`. Empty for
        `none`.

    Raises:
        ComponentError: The setting is wrong.
    """
    items = _as_list(config, "logger")
    if items in (["none"], [None], [False]):
        return []
    loggers: list[str | dict[str, Any]] = []
    for item in items:
        if isinstance(item, str) and item in LOGGERS:
            loggers.append(item)
        elif isinstance(item, dict) or (isinstance(item, str) and "." in item):
            loggers.append(_as_target(item, "logger"))
        else:
            alone = " (none stands alone)" if item == "none" else ""
            raise ComponentError(
                f"logger is {item!r}{alone}; choose one or several of {', '.join(LOGGERS)}, or "
                "none, or the import path of another logger of Lightning's"
            )
    names = [logger_name(logger) for logger in loggers]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise ComponentError(f"logger names {double} twice; name it once")
    return loggers


def read_callbacks(config: DictConfig) -> list[dict[str, Any]]:
    """Read the setting `callbacks`.

    Args:
        config: Configuration of `lift run`.

    Returns:
        Each callback as `{_target_: path, argument: value}`.

    Raises:
        ComponentError: The setting is wrong.
    """
    return [_as_target(item, "callbacks") for item in _as_list(config, "callbacks")]


def logger_name(logger: str | Mapping[str, Any]) -> str:
    """Return the name or the import path of a logger.

    Args:
        logger: An item of `read_loggers`.
    """
    return logger if isinstance(logger, str) else logger["_target_"]


def validate_loggers(config: DictConfig) -> None:
    """Check the settings of loggers and callbacks. Nothing is imported.

    Args:
        config: Configuration of `lift run`.

    Raises:
        ComponentError: A setting is wrong; the message names it.
    """
    read_loggers(config)
    read_callbacks(config)
    for key in config.trainer:
        check_trainer_setting(str(key))
    for key in config.wandb.options:
        if key in config.wandb:
            raise ComponentError(f"wandb.options.{key} is a setting of its own; use wandb.{key}")
        if key in _OWN_ARGUMENTS:
            raise ComponentError(
                f"wandb.options.{key} cannot be set; lift sets {', '.join(_OWN_ARGUMENTS)}, so "
                "that a killed run continues"
            )


def check_trainer_setting(key: str) -> None:
    """Check that a setting of the trainer is not one that `lift` has under another name.

    Args:
        key: Name of the argument of Lightning's Trainer.

    Raises:
        ComponentError: It is; the message says what to use.
    """
    if hint := RESERVED_TRAINER_SETTINGS.get(key):
        raise ComponentError(f"trainer.{key} cannot be set; {hint}")


def _as_list(config: DictConfig, key: str) -> list[Any]:
    """Return a setting that may be one value or several as a list."""
    value = config[key]
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True)
    if key == "callbacks" and value is None:
        return []
    return value if isinstance(value, list) else [value]


def _as_target(item: Any, setting: str) -> dict[str, Any]:
    """Return an import path, or a dictionary with one, as `{_target_: path, argument: value}`."""
    if isinstance(item, str) and item:
        return {"_target_": item}
    if isinstance(item, dict) and isinstance(item.get("_target_"), str):
        return {str(key): value for key, value in item.items()}
    raise ComponentError(
        f"{setting} has {item!r}, which names no class; write my_module.MyClass, or with arguments "
        "{_target_: my_module.MyClass, argument: value}"
    )
