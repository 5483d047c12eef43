"""Composition of configurations by Hydra, from the YAML files of `lift.configs` and overrides."""

from collections.abc import Sequence

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from lift.config.overrides import check_overrides, quote_override
from lift.config.schema import Config, EvalConfig
from lift.config.validation import validate_config, validate_eval_config
from lift.registry import ALL_SLOTS, catalogue


def store_schemas() -> None:
    """Register the schemas of the settings and of every component with Hydra."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    store.store(name="eval_schema", node=EvalConfig)
    for slot in ALL_SLOTS:
        for name, entry in catalogue().entries[slot].items():
            store.store(group=slot, name=name, node=entry.schema)


def compose_run(overrides: Sequence[str]) -> DictConfig:
    """Compose and check the configuration of `lift run`.

    Args:
        overrides: KEY=VALUE, as on the command line. `image` has no default.

    Returns:
        The configuration that `lift.pipeline.run` takes.

    Raises:
        ComponentError: A name or a value is wrong.
    """
    config = _compose("lift", overrides)
    validate_config(config)
    return config


def compose_eval(overrides: Sequence[str]) -> DictConfig:
    """Compose and check the settings that `lift eval` adds.

    Args:
        overrides: KEY=VALUE of `dataset` and `protocol`, as on the command line.

    Returns:
        An `EvalConfig`.

    Raises:
        ComponentError: A name or a value is wrong.
    """
    config = _compose("eval", overrides)
    validate_eval_config(config)
    return config


def _compose(name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose a configuration of `lift.configs` after a check of the overrides' names."""
    store_schemas()
    check_overrides(overrides)
    with initialize_config_module("lift.configs", version_base="1.3"):
        return compose(name, [quote_override(override) for override in overrides])
