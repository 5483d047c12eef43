"""Configuration: settings and their defaults, composition by Hydra, checks. Imports no torch.

`compose_run` makes the configuration of a run from overrides as on the command line:

    config = compose_run(["image=coffee", "fit.steps=500"])

Each name is imported when it is used first, so that its modules do not need Hydra for one constant.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lift.config.compose import compose_eval, compose_run, store_schemas
    from lift.config.defaults import default_components, is_default
    from lift.config.evaluation_schema import ALIGNMENTS, EvalConfig, Protocol
    from lift.config.files import config_to_yaml, escape_values, load_config
    from lift.config.fit_schema import FIT_DEFAULTS, Fit, resolve_fit
    from lift.config.overrides import check_overrides, check_setting_name
    from lift.config.schema import Config
    from lift.config.text import escape_text
    from lift.config.validation import (
        read_image_setting,
        validate_config,
        validate_eval_config,
    )

__all__ = [
    "ALIGNMENTS",
    "FIT_DEFAULTS",
    "Config",
    "EvalConfig",
    "Fit",
    "Protocol",
    "check_overrides",
    "check_setting_name",
    "compose_eval",
    "compose_run",
    "config_to_yaml",
    "default_components",
    "escape_text",
    "escape_values",
    "is_default",
    "load_config",
    "read_image_setting",
    "resolve_fit",
    "store_schemas",
    "validate_config",
    "validate_eval_config",
]

_MODULES = {
    "compose": ("compose_eval", "compose_run", "store_schemas"),
    "defaults": ("default_components", "is_default"),
    "evaluation_schema": ("ALIGNMENTS", "EvalConfig", "Protocol"),
    "files": ("config_to_yaml", "escape_values", "load_config"),
    "fit_schema": ("FIT_DEFAULTS", "Fit", "resolve_fit"),
    "overrides": ("check_overrides", "check_setting_name"),
    "schema": ("Config",),
    "text": ("escape_text",),
    "validation": ("read_image_setting", "validate_config", "validate_eval_config"),
}
"""Module of this package -> names that it defines."""

_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a name of the interface when it is used first."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'lift.config' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"lift.config.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
