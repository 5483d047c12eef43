"""Slots and settings that take no part in a run."""

from omegaconf import DictConfig, OmegaConf

from lift.config import is_default
from lift.config.fit_schema import Densify
from lift.registry import catalogue
from lift.runtime.session import Session

_MCMC_SETTINGS = ("growth_until", "gradient_power", "noise_scale")
"""Settings of `fit.densify` that only `strategy=mcmc` uses."""


def planner_is_used(config: DictConfig) -> bool:
    """Whether a run from a single picture plans a trajectory.

    Args:
        config: Configuration of the run. The components declare what decides: the prior
            `has_recorded_frames`, the planner `hints_recorded_frames`.
    """
    prior = catalogue()("prior", config.prior.name)
    planner = catalogue()("planner", config.planner.name)
    return not prior.has_recorded_frames or planner.hints_recorded_frames


def unused_planner_message(config: DictConfig) -> str:
    """Say that the planner is not used, and which planners would be.

    Args:
        config: Configuration of a run whose prior has recorded frames.
    """
    return (
        f"planner={config.planner.name} is not used, because prior={config.prior.name} has its "
        f"frames already; planner={_hinting_planners()} gives their cameras as a hint"
    )


def unused_slots_message(config: DictConfig) -> str:
    """Say that planner and prior are not used for a video or for several pictures.

    Args:
        config: Configuration of the run.
    """
    return (
        f"planner={config.planner.name} and prior={config.prior.name} are not used, because image "
        f"is {config.image}, which has its frames already"
    )


def unused_densify_message(densify: DictConfig) -> str | None:
    """Name changed settings of the densification strategy that was not chosen.

    Args:
        densify: The settings `fit.densify`.

    Returns:
        The message; None if each changed setting is used.
    """
    defaults = OmegaConf.structured(Densify)
    if densify.strategy == "gradient":
        names = list(_MCMC_SETTINGS)
        other = "mcmc"
    else:
        names = [f"gradient.{name}" for name in defaults.gradient]
        other = "gradient"
    changed = [
        f"fit.densify.{name}"
        for name in names
        if OmegaConf.select(densify, name) != OmegaConf.select(defaults, name)
    ]
    if not changed:
        return None
    verb = "is" if len(changed) == 1 else "are"
    return (
        f"{', '.join(changed)} {verb} not used, because fit.densify.strategy is "
        f"{densify.strategy}; {other} uses {'it' if len(changed) == 1 else 'them'}"
    )


def check_capture(config: DictConfig) -> None:
    """Check that no component brings frames or cameras for an input that has its frames.

    Args:
        config: Configuration of a run on a video or on several pictures.

    Raises:
        ValueError: The prior has frames of its own, or the planner has cameras for such frames.
    """
    prior = catalogue()("prior", config.prior.name)
    if prior.has_recorded_frames:
        raise ValueError(
            f"image is {config.image}, which has its frames already, so prior={prior.name} has "
            "none to add; leave it out, or choose a single picture"
        )
    planner = catalogue()("planner", config.planner.name)
    if planner.hints_recorded_frames:
        raise ValueError(
            f"image is {config.image}, which has its frames already, so planner={planner.name} has "
            "nothing to plan; choose cameras=FILE for known cameras of the frames, or leave "
            "planner out"
        )


def tell_unused(session: Session, message: str) -> None:
    """Print which slots are not used. It is a note of the run if the user chose one of them.

    Args:
        session: The run, with its `unused_slots`.
        message: What to print.
    """
    if all(is_default(session.config, slot) for slot in session.unused_slots):
        session.say(message)
    else:
        session.note(message)


def _hinting_planners() -> str:
    """Name the planners whose path is a hint for recorded frames."""
    entries = catalogue().entries["planner"].values()
    return " or ".join(entry.name for entry in entries if entry.hints_recorded_frames)
