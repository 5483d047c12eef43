"""Compose the settings of an evaluation."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lift.registry import ComponentError

if TYPE_CHECKING:
    from omegaconf import DictConfig

Composed = tuple["DictConfig", "DictConfig"]
"""Configuration of the runs, and an `EvalConfig`."""


def split_settings(settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split settings into those of the runs and those of the evaluation.

    Args:
        settings: Settings of one evaluation.
    """
    own = [text for text in settings if re.match(r"(dataset|protocol)[.=]", text)]
    return [text for text in settings if text not in own], own


def compose_evaluation(arguments: Sequence[str]) -> Composed:
    """Compose the configuration of the runs, and that of their evaluation.

    Args:
        arguments: Settings of one evaluation, and `--config-dir=FOLDER` for folders of your own.

    Returns:
        Configuration of `lift run` without an image, and an `EvalConfig`.

    Raises:
        ComponentError: An argument is not a setting that `lift eval` takes.
    """
    from lift.config import compose_eval, compose_run

    folders = [argument for argument in arguments if argument.startswith("--config-dir=")]
    settings = [argument for argument in arguments if argument not in folders]
    for argument in settings:
        _check_argument(argument)
    run_settings, own = split_settings(settings)
    try:
        run_config = compose_run([*folders, *run_settings, "image=none"])
        return run_config, compose_eval([*folders, *own])
    except Exception as error:
        # What Hydra says of a comma outside of a list advises -m, which is of `lift run`.
        if match := re.match(r"Ambiguous value for argument '(.*?)'$", str(error), re.M):
            raise ComponentError(
                f"{match[1]!r} has several values; --grid {match[1]!r} evaluates each"
            ) from None
        raise


def _check_argument(argument: str) -> None:
    """Raise ComponentError if an argument is not a setting that `lift eval` takes."""
    key, equals, _ = argument.partition("=")
    if key in ("-m", "--multirun"):
        raise ComponentError(f"{argument!r}: lift eval takes --grid KEY=VALUE,VALUE,... instead")
    if key.startswith("-"):
        from lift.config.overrides import check_dashes

        check_dashes([argument])
        raise ComponentError(f"{argument!r} is not an option of lift eval; see lift eval --help")
    if not key or not equals:
        raise ComponentError(
            f"{argument!r} is no setting; lift eval takes dataset=NAME, dataset.path=FOLDER, "
            "protocol.KEY=VALUE and the settings of lift run"
        )
    if key[0] in "+~":  # Hydra's prefixes for additions and deletions
        prefix = argument[: -len(argument.lstrip("+~"))]
        raise ComponentError(f"{argument!r}: lift eval takes KEY=VALUE; leave out {prefix!r}")
    if key == "image":
        raise ComponentError(f"{argument!r}: the dataset has the pictures")
    if key == "seed":
        raise ComponentError(f"{argument!r}: choose --seeds N or protocol.seeds=[...]")
