"""Build the video prior, before the depth is known if its constructor allows that."""

import warnings
from collections.abc import Mapping
from typing import Any

from lift.depths import DepthEstimator
from lift.io.image import Picture
from lift.io.sizing import ShapeChoice
from lift.planners import Planner
from lift.priors import VideoPrior, priors
from lift.registry import ComponentError, catalogue
from lift.registry.fingerprint import PACKAGE
from lift.runtime.session import Session, plain_settings
from lift.stages.checked import CheckedPlanner
from lift.stages.checks import check_prior
from lift.stages.plan import constant_depth
from lift.types import Depth

_SUPPLIED_EARLY = {"device", "image", "camera", "estimator"}
"""Keywords of a prior's constructor that are known before the depth."""


def shape_choice(settings: Mapping[str, Any]) -> ShapeChoice | None:
    """Return what chooses the shape of the picture for a prior.

    Args:
        settings: Name and settings of the prior.

    Returns:
        The choice. None if a package is missing that the prior needs.
    """
    entry = catalogue()("prior", settings["name"])
    if entry.missing:
        return None
    component: type[VideoPrior] = entry.load()
    chosen = {"name": entry.name, **settings}
    return lambda width, height: component.choose_shape(chosen, width, height)


def build_early_prior(
    session: Session, picture: Picture, estimator: DepthEstimator, planner: Planner | None
) -> VideoPrior | None:
    """Build the prior before the first stage, so that mistakes are told before any work.

    A built-in prior that takes the depth is built once for a constant depth, and dropped. The
    planner plans for the length of the prior's clips.

    Args:
        session: The run.
        picture: The input.
        estimator: The depth estimator.
        planner: The planner. None: the frames exist already.

    Returns:
        The prior. None if its constructor takes the depth.

    Raises:
        ValueError: A setting cannot be used.
    """
    entry = catalogue()("prior", session.config.prior.name)
    if set(priors.keywords(entry.name)) <= _SUPPLIED_EARLY:
        prior = session.build(priors, camera=picture.cameras, estimator=estimator)
        check_prior(prior)
        _check_clip_length(picture, planner, prior)
        return prior
    if entry.module.startswith(f"{PACKAGE}.") and (trial := _build_trial(session, picture)):
        _check_clip_length(picture, planner, trial)
    return None


def build_prior(
    session: Session, picture: Picture, estimator: DepthEstimator, depth: Depth
) -> VideoPrior:
    """Build the prior for the input's depth.

    Args:
        session: The run.
        picture: The input.
        estimator: The depth estimator.
        depth: The input's depth.

    Raises:
        ValueError: A setting cannot be used.
    """
    prior = session.build(priors, depth=depth, camera=picture.cameras, estimator=estimator)
    check_prior(prior)
    return prior


def _build_trial(session: Session, picture: Picture) -> VideoPrior | None:
    """Build a built-in prior for a constant depth; None if the depth stands in the way.

    The constructors of built-in priors load no weights.
    """
    assert isinstance(session.image, str)  # several pictures need no prior
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they come when the prior is built for the run
            return priors.build(
                plain_settings(session.config.prior),
                device=session.device,
                image=session.image,
                depth=constant_depth(picture.cameras),
                camera=picture.cameras,
                estimator=None,
            )
    except Exception as error:
        if isinstance(error, ComponentError) or str(error).startswith("prior."):
            raise
        return None


def _check_clip_length(picture: Picture, planner: Planner | None, prior: VideoPrior) -> None:
    """Let the planner plan for a constant depth and the length of the prior's clips."""
    if planner is not None and prior.clip_length is not None:
        CheckedPlanner(planner)(picture.cameras, constant_depth(picture.cameras), prior.clip_length)
