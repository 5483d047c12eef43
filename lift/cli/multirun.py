"""Jobs of `lift run -m`: they are composed in advance, so that none overwrites another."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lift.registry import ComponentError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig


def check_jobs(overrides: Sequence[str], config_name: str) -> None:
    """Check that each job of a multirun has a run folder of its own.

    The caller has stored the schemas, and is within `use_config_folders`.

    Args:
        overrides: Overrides for Hydra, with sweeps.
        config_name: Name of the primary configuration.

    Raises:
        ComponentError: Two jobs would write to one folder.
    """
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.types import RunMode

    from lift.config.compose import CONFIG_MODULE
    from lift.runtime.run_folder import how_to_vary_names, shared_run_folder

    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        master = hydra.compose_config(
            config_name, list(overrides), RunMode.MULTIRUN, with_log_configuration=False
        )
        parser = OverridesParser.create(hydra.config_loader)
        parsed = parser.parse_overrides(list(overrides))
        swept = [item.key_or_group for item in parsed if item.is_sweep_override()]
        if not str(master.hydra.sweeper._target_).endswith(".BasicSweeper"):
            _check_constant_name(master, swept)
            return
        configs = [_compose(hydra, config_name, job) for job in _split_jobs(parsed, master, parser)]
    composed = [config for config in configs if config is not None]
    if shared := shared_run_folder(composed):
        numbers, folder = shared
        name = composed[numbers[0]].name
        reason = (
            f"name is {name!r} in each; leave name out, which gives each a folder of its own, or"
            if name
            else "they differ only in settings that do not change the scene;"
        )
        raise ComponentError(
            f"{len(numbers)} of {len(configs)} jobs would write to one folder in {folder}: "
            f"{reason} {how_to_vary_names(swept)}"
        )


def _split_jobs(parsed: "Sequence[Override]", master: "DictConfig", parser: Any) -> list[list[str]]:
    """Return the overrides of each job, as Hydra's own sweeper makes them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    params = master.hydra.sweeper.params or {}
    defaults = parser.parse_overrides([f"{key}={value}" for key, value in params.items()])
    hydra_settings = [item.input_line or "" for item in parsed if item.is_hydra_override()]
    task = [item for item in parsed if not item.is_hydra_override()]
    batches = BasicSweeper.split_arguments([*defaults, *task], None)
    return [[*hydra_settings, *job] for job in batches[0]]


def _compose(hydra: Any, config_name: str, job: list[str]) -> "DictConfig | None":
    """Compose and check a job; None if it is wrong, which the job itself reports."""
    from hydra.types import RunMode
    from omegaconf import open_dict

    from lift.config import validate_config
    from lift.errors import is_user_error

    try:
        config = hydra.compose_config(config_name, job, RunMode.RUN, with_log_configuration=False)
        with open_dict(config):
            del config["hydra"]
        validate_config(config)
    except Exception as error:
        if not is_user_error(error):
            raise
        return None
    return config


def _check_constant_name(master: "DictConfig", swept: Sequence[str]) -> None:
    """Refuse one name for all jobs of a sweeper whose jobs are not known in advance."""
    from omegaconf import OmegaConf

    from lift.runtime.run_folder import how_to_vary_names

    is_constant = not OmegaConf.is_interpolation(master, "name") and "name" not in swept
    if is_constant and master.name is not None:
        raise ComponentError(
            f"name is {master.name!r} in all jobs of this sweeper, which would write to one "
            f"folder; {how_to_vary_names(swept)}"
        )
