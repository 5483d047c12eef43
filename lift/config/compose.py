"""Composition of configurations by Hydra, from the YAML files of `lift.configs` and overrides."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigNode, ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from lift.config.evaluation_schema import EvalConfig
from lift.config.folders import split_config_folders, use_config_folders
from lift.config.overrides import check_overrides, literal_override
from lift.config.schema import Config
from lift.config.validation import validate_config, validate_eval_config
from lift.config.values import apply_values
from lift.registry import ALL_SLOTS, Entry, catalogue, check_listed_plugins

CONFIG_MODULE = "lift.configs"
"""Package with the YAML files of `lift`."""

RUN_CONFIG = "lift"
"""Name of the primary configuration of `lift run`."""

_EVAL_CONFIG = "eval"

_stored: dict[tuple[str, str], Entry] = {}
"""Components whose schemas Hydra has, by slot and name."""


class _Schemas(dict[str, Any]):
    """The components of a slot in Hydra's store. The schema of one is made when it is read first.

    Hydra lists the names of all components, but it reads only the schemas of chosen ones.
    """

    def __getitem__(self, name: str) -> ConfigNode:
        """Return the schema of a component.

        Args:
            name: Name of the component, with `.yaml` as Hydra has it.
        """
        value = super().__getitem__(name)
        if isinstance(value, Entry):
            schema = OmegaConf.structured(value.schema)
            self[name] = value = ConfigNode(name, schema, value.slot, None, None)
        return value

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Schemas":
        """Return this object. Hydra copies its store twice a run, and a schema before each use."""
        return self

    def __reduce__(self) -> tuple[type, tuple[dict[str, ConfigNode]]]:
        """Pickle all schemas. Launchers of Hydra send its store to other processes."""
        return dict, ({name: self[name] for name in self},)


def store_schemas() -> None:
    """Register the schemas of the settings and of every component with Hydra."""
    store = ConfigStore.instance()
    if not _stored:
        store.store(name="schema", node=Config)
        store.store(name="eval_schema", node=EvalConfig)
    for slot in ALL_SLOTS:
        if not isinstance(store.repo.get(slot), _Schemas):
            store.repo[slot] = _Schemas(store.repo.get(slot, {}))
        for name, entry in catalogue().entries[slot].items():
            if _stored.get((slot, name)) is not entry:
                store.repo[slot][f"{name}.yaml"] = entry
                _stored[slot, name] = entry


def compose_run(overrides: Sequence[str], values: Mapping[str, Any] | None = None) -> DictConfig:
    """Compose and check the configuration of `lift run`.

    Args:
        overrides: KEY=VALUE, as on the command line. `image` has no default. `--config-dir=FOLDER`
            names a folder with experiments of your own.
        values: Nested settings as values of Python, which win over those of the overrides.

    Returns:
        The configuration that `lift.pipeline.run` takes.

    Raises:
        ComponentError: A name or a value is wrong.
    """
    config = _compose(RUN_CONFIG, overrides)
    apply_values(config, values or {})
    validate_config(config)
    return config


def compose_eval(overrides: Sequence[str]) -> DictConfig:
    """Compose and check the settings that `lift eval` adds.

    Args:
        overrides: KEY=VALUE of `dataset` and `protocol`, as on the command line.
            `--config-dir=FOLDER` names a folder with files of your own.

    Returns:
        An `EvalConfig`.

    Raises:
        ComponentError: A name or a value is wrong.
    """
    config = _compose(_EVAL_CONFIG, overrides)
    validate_eval_config(config)
    return config


def prepare_overrides(
    overrides: Sequence[str], name: str = RUN_CONFIG, multirun: bool = False
) -> list[str]:
    """Check the names in overrides, and write them for Hydra so that text is taken literally.

    Schemas must be stored. It is called within `use_config_folders`.

    Args:
        overrides: KEY=VALUE, as on the command line.
        name: Name of the primary configuration.
        multirun: Whether commas separate the values of several runs.

    Returns:
        The overrides for Hydra.

    Raises:
        ComponentError: A name is wrong.
    """
    if overrides:  # else only help is asked for, or values of Python follow
        check_listed_plugins()
    check_overrides(overrides)

    def chosen(slot: str) -> str | None:
        groups = [_first_choice(override) for override in overrides if _is_choice(override)]
        with _hydra():
            config = compose(name, groups)
        return config[slot].name if slot in config else None

    is_primary = name in (RUN_CONFIG, _EVAL_CONFIG)
    return [literal_override(override, chosen, multirun, is_primary) for override in overrides]


def _is_choice(override: str) -> bool:
    """Whether an override chooses a component or an experiment by name."""
    key, _, value = override.partition("=")
    return key in (*ALL_SLOTS, "experiment") and not set("({*$") & set(value)


def _first_choice(override: str) -> str:
    """Return an override with the first of the values of a sweep."""
    return override if "=[" in override else override.partition(",")[0]


def _compose(name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose a configuration of `lift.configs` after a check of the overrides' names."""
    store_schemas()
    folders, settings = split_config_folders(overrides)
    with use_config_folders(folders):
        prepared = prepare_overrides(settings, name)
        with _hydra():
            return compose(name, prepared)


@contextmanager
def _hydra() -> Iterator[None]:
    """Initialise Hydra for the files of `lift`, also within a program that uses Hydra itself."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().hydra = None
    try:
        with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = outer
