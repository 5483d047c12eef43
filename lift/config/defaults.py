"""The components that a run uses if the user chooses none."""

from functools import cache
from importlib.resources import as_file, files
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lift.registry import SLOTS, catalogue


@cache
def default_components() -> dict[str, str]:
    """Read the default component of each slot from `configs/lift.yaml`.

    Returns:
        Slot -> name of the component.
    """
    with as_file(files("lift.configs") / "lift.yaml") as path:
        entries: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    chosen = [entry for entry in entries["defaults"] if isinstance(entry, dict)]
    return {slot: name for entry in chosen for slot, name in entry.items() if slot in SLOTS}


def is_default(config: DictConfig, slot: str) -> bool:
    """Whether a slot has its default component, with default settings.

    Args:
        config: Configuration of `lift run`.
        slot: Name of the slot.
    """
    settings: Any = OmegaConf.to_container(config[slot], resolve=True)
    name = settings.pop("name")
    entry = catalogue()(slot, name)
    values = entry.check(settings)
    return name == default_components()[slot] and all(
        value == entry.settings[key].default for key, value in values.items()
    )
