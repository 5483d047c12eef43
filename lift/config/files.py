"""Configurations in YAML files."""

from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf

from lift.config.text import escape_text


def config_to_yaml(config: DictConfig) -> str:
    """Write a configuration as YAML, with interpolations replaced by their values.

    Args:
        config: A composed configuration.

    Returns:
        Text from which `load_config` reads the same values, whatever characters they have.
    """
    plain = escape_values(OmegaConf.to_container(config, resolve=True))
    return yaml.dump(
        plain, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False
    )


def load_config(path: Path) -> DictConfig:
    """Read the configuration of a run from its file `config.yaml`.

    Args:
        path: The file.

    Returns:
        The configuration. The types of settings are not checked.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no settings.
    """
    config = OmegaConf.load(path)
    if not isinstance(config, DictConfig):
        raise ValueError(f"{path} holds no settings")
    return config


def escape_values(value: Any) -> Any:
    """Escape the texts in nested dictionaries and lists, as `escape_text` does; paths become texts.

    Args:
        value: Values with interpolations replaced. They are not changed.

    Returns:
        What a YAML file must hold so that OmegaConf reads the values.
    """
    if isinstance(value, dict):
        return {key: escape_values(item) for key, item in value.items()}
    if isinstance(value, list):
        return [escape_values(item) for item in value]
    return escape_text(str(value)) if isinstance(value, (str, Path)) else value


class _Dumper(yaml.SafeDumper):
    """Writes text so that OmegaConf reads it as text."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Quote text that OmegaConf, whose numbers differ from YAML's, would not take for text."""
    style = None
    if not all(character.isprintable() for character in text):
        style = '"'  # escapes line breaks and characters that have no picture
    elif _reads_as_number(text):
        style = "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=cast(Any, style))


def _reads_as_number(text: str) -> bool:
    """Whether Python's syntax of numbers fits the text."""
    try:
        float(text)
    except ValueError:
        return False
    return True


_Dumper.add_representer(str, _represent_text)
