"""Collect the published weights that a run needs."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from omegaconf import DictConfig, OmegaConf

from lift.io.names import user_path
from lift.registry import SLOTS, ComponentError, Entry, catalogue
from lift.weights.sources import Weights, is_local


@dataclass(frozen=True)
class Requirement:
    """Published files, and what needs them."""

    owner: str
    """The component, such as `prior svd`, or the command."""
    weights: Weights
    """The files."""
    is_metric: bool = False
    """Whether only `lift eval` needs them, for LPIPS or DISTS."""


def collect_weights(
    config: DictConfig, half: bool, metrics: bool = True, slots: Iterable[str] = tuple(SLOTS)
) -> list[Requirement]:
    """List the files that the components of a run download.

    Args:
        config: Configuration of the run.
        half: Whether the run computes in half precision, on a GPU.
        metrics: Whether the networks of `lift eval`, LPIPS and DISTS, are listed, too.
        slots: Slots whose components take part in the run.

    Returns:
        The files, each once, in the order of the slots.
    """
    found: dict[Weights, Requirement] = {}
    for slot in slots:
        settings: Any = OmegaConf.to_container(config[slot], resolve=True)
        for name, own in _components(settings):
            entry = catalogue()(slot, name)
            for weights in component_weights(entry, own, half):
                found.setdefault(weights, Requirement(f"{slot} {name}", weights))
    if metrics:
        from lift.evaluation.dists import DISTS
        from lift.evaluation.lpips import LPIPS

        for measure in (LPIPS, DISTS):
            for weights in measure.sources:
                owner = f"lift eval, {measure.__name__}"
                found.setdefault(weights, Requirement(owner, weights, is_metric=True))
    return list(found.values())


def check_local_weights(config: DictConfig, half: bool, slots: Iterable[str]) -> None:
    """Check that files and folders with weights that settings name are there.

    Args:
        config: Configuration of the run.
        half: Whether the run computes in half precision, on a GPU.
        slots: Slots whose components take part in the run.

    Raises:
        ComponentError: A path does not exist. The message names its setting.
    """
    for slot in slots:
        settings: Any = OmegaConf.to_container(config[slot], resolve=True)
        for name, own in _components(settings):
            entry = catalogue()(slot, name)
            for key, value in own.items():
                is_path = isinstance(value, Path) or (isinstance(value, str) and is_local(value))
                if not is_path or user_path(value).exists():
                    continue
                if _names_weights(entry, own, key, half):
                    raise ComponentError(
                        f"{slot}.{key} is {value}, which does not exist; correct the path"
                    )


def component_weights(entry: Entry, settings: dict[str, Any], half: bool) -> tuple[Weights, ...]:
    """List the files that a component downloads. What it requires need not be installed.

    Args:
        entry: The component.
        settings: Settings by name. Those that are left out have their defaults.
        half: Whether it computes in half precision, on a GPU.

    Raises:
        ComponentError: It returns something else than declarations of files.
    """
    component: Any = entry.import_class()
    if not hasattr(component, "required_weights"):
        return ()
    defaults = {key: parameter.default for key, parameter in entry.settings.items()}
    weights = tuple(component.required_weights({**defaults, **settings}, half))
    for item in weights:
        if not isinstance(item, get_args(Weights)):
            raise ComponentError(
                f"required_weights of {entry.slot} {entry.name!r} returns {item!r}; "
                "return values of lift.weights"
            )
    return weights


def computes_in_half(config: DictConfig) -> bool:
    """Whether generators and networks of a run compute on a GPU, in half precision.

    A machine that only fetches weights may have no GPU. So a trainer on a GPU counts, too.

    Args:
        config: Configuration of the run.
    """
    import torch

    if config.device != "auto":
        return config.device == "cuda"
    return config.trainer.get("accelerator") in ("gpu", "cuda") or torch.cuda.is_available()


def _names_weights(entry: Entry, settings: dict[str, Any], key: str, half: bool) -> bool:
    """Whether a setting names weights: with its default or a name of the hub, it brings some."""
    others = {name: value for name, value in settings.items() if name != key}
    return any(
        item.setting == f"{entry.slot}.{key}"
        for choice in (others, {**others, key: "owner/name"})
        for item in component_weights(entry, choice, half)
    )


def _components(settings: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the names and settings of a slot's component and of its parts."""
    own = {key: value for key, value in settings.items() if key != "name"}
    parts = settings.get("parts") or ()
    shared = settings.get("settings") or {}
    return [(settings["name"], own), *((part, shared.get(part, {})) for part in parts)]
