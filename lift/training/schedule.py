"""Schedules of a fit: its stages, degrees of the spherical harmonics, and the weight of depth.

A fit has one stage, or two if `fit.canonical_steps` is above 0. The first of two fits the canonical
Gaussians alone. Schedules count steps from the start of their stage. Degrees of the spherical
harmonics alone count from the start of the fit.
"""

from typing import Any


def stage_start(settings: Any, step: int) -> int:
    """Return the first step of the stage that a step belongs to.

    Args:
        settings: Settings `fit` of the configuration, without null.
        step: Number of steps that are done.
    """
    return settings.canonical_steps if step >= settings.canonical_steps else 0


def stage_progress(settings: Any, step: int, duration: int | None = None) -> float:
    """Return the fraction of a schedule that is done.

    Args:
        settings: Settings `fit` of the configuration, without null.
        step: Number of steps that are done.
        duration: Steps of the schedule. None: those of the stage.

    Returns:
        From 0 at the start of the stage to 1.
    """
    start = stage_start(settings, step)
    end = settings.canonical_steps if step < settings.canonical_steps else settings.steps
    return min(1.0, (step - start) / (duration or max(1, end - start)))


def sh_degree(settings: Any, next_step: int) -> int | None:
    """Return the degree of the spherical harmonics of a step. None: all degrees.

    Args:
        settings: Settings `fit` of the configuration, without null.
        next_step: Number of steps that are done after this one.
    """
    interval = settings.sh_degree_interval
    return next_step // interval if interval else None


def depth_ratio(settings: Any, step: int) -> float:
    """Return the weight of the depth term, relative to `fit.loss.depth`.

    Args:
        settings: Settings `fit` of the configuration, without null.
        step: Number of steps that are done.
    """
    weights = settings.loss
    if weights.depth_final is None:
        return 1.0
    progress = stage_progress(settings, step, weights.depth_steps)
    return (weights.depth_final / weights.depth) ** progress
