"""Configuration: settings and their defaults, composition by Hydra, checks. Imports no torch.

`compose_run` makes the configuration of a run from overrides as on the command line:

    config = compose_run(["image=coffee", "fit.steps=500"])
"""

from lift.config.compose import compose_eval, compose_run, store_schemas
from lift.config.defaults import default_components, is_default
from lift.config.evaluation_schema import ALIGNMENTS, EvalConfig, Protocol
from lift.config.files import config_to_yaml, escape_values, load_config
from lift.config.fit_schema import FIT_DEFAULTS, Fit, resolve_fit
from lift.config.overrides import check_overrides, check_setting_name
from lift.config.schema import Config
from lift.config.text import escape_text
from lift.config.validation import read_image_setting, validate_config, validate_eval_config

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
