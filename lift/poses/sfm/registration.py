"""Cameras and points from observations alone, in a world of arbitrary pose and scale."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lift.poses.sfm.bundle import Focal
from lift.poses.sfm.initialization import InitializationError, RelativePose
from lift.poses.sfm.mapper import IncrementalMapper, Registration
from lift.poses.sfm.state import Observations

FOCAL_FACTORS = (1.0, 1.0, 1.4, 0.7)
"""Factors on the assumed focal length, one per start."""
COMPLETE = 0.8
"""Fraction of registered frames that ends the search for a better start."""

MapperFactory = Callable[[float], IncrementalMapper]
"""Creates a mapper with a factor on the assumed focal length."""


def incremental_mapping(
    observations: Observations,
    log_focal: Float[Tensor, "frame"],
    principal_point: Float[Tensor, "frame 2"],
    max_error: float,
    focal: Focal = "shared",
    focal_prior_sigma: float = 0.2,
    depth: Float[Tensor, "observation"] | None = None,
    depth_sigma: float = 0.1,
    relative_poses: Sequence[RelativePose] = (),
) -> Registration:
    """Register frames one after another.

    Mapping starts from `relative_poses` if there are any, else from `depth` if there is any, else
    from the best pair of frames. `observations.log_depth` gives positions to points that are not
    visible from two sides.

    Args:
        observations: Observed points.
        log_focal: Logarithm of each frame's assumed focal length in pixels.
        principal_point: Principal point of each frame in pixels.
        max_error: Reprojection error in pixels of a correct observation.
        focal: Which focal lengths to estimate.
        focal_prior_sigma: Standard deviation of log focal lengths from the assumed ones.
        depth: z-depth of the observations in frame 0; 0 if unknown.
        depth_sigma: Scale of the log depth errors.
        relative_poses: Relative poses of frames with measured depth.

    Returns:
        The registered frames and points.

    Raises:
        InitializationError: If mapping cannot start.
    """

    def create_mapper(factor: float = 1.0) -> IncrementalMapper:
        return IncrementalMapper(
            observations.to(torch.float64),
            log_focal.double() + math.log(factor),
            principal_point.double(),
            max_error,
            focal,
            focal_prior_sigma,
            depth_sigma,
        )

    if relative_poses:
        mapper = create_mapper()
        mapper.initialize_from_relative_poses(relative_poses)
        return mapper.run()
    if depth is not None:
        mapper = create_mapper()
        mapper.initialize_from_depth(depth.double())
        return mapper.run()
    return _best_start(create_mapper, focal)


def _best_start(create_mapper: MapperFactory, focal: Focal) -> Registration:
    """Return the most complete result of several initial pairs and focal lengths.

    A wrong initial pair or focal length registers only a few frames. The next start then uses a
    pair with a frame that is not registered. A result without the input is useless, so the last
    starts use pairs with the input.
    """
    factors = FOCAL_FACTORS if focal != "fixed" else (1.0,) * len(FOCAL_FACTORS)
    # Frames from one place seem to move with a wrong focal length, so the first start may raise.
    best = _start(create_mapper, factors[0])
    covered = best.state.registered
    for factor in factors[1:]:
        if _completeness(best) >= COMPLETE:
            return best
        try:
            result = _start(create_mapper, factor, covered=covered)
        except InitializationError:
            continue
        best = max(best, result, key=_completeness)
        covered = covered | result.state.registered
    for factor in dict.fromkeys(factors):
        if bool(best.state.registered[0]):
            break
        with suppress(InitializationError):
            best = max(best, _start(create_mapper, factor, member=0), key=_completeness)
    return best


def _start(
    create_mapper: MapperFactory,
    factor: float,
    covered: Bool[Tensor, "frame"] | None = None,
    member: int | None = None,
) -> Registration:
    """Register frames from an initial pair on, with a factor on the assumed focal length."""
    mapper = create_mapper(factor)
    mapper.prior_log_focal = mapper.prior_log_focal - math.log(factor)
    mapper.initialize_from_pair(covered, member)
    return mapper.run()


def _completeness(result: Registration) -> float:
    """Return the fraction of registered frames, less 1 if the input is not among them."""
    registered = result.state.registered
    return float(registered.double().mean()) - (0.0 if bool(registered[0]) else 1.0)


def triangulate(
    observations: Observations,
    rotation: Float[Tensor, "frame 3 3"],
    translation: Float[Tensor, "frame 3"],
    log_focal: Float[Tensor, "frame"],
    principal_point: Float[Tensor, "frame 2"],
    max_error: float,
) -> Registration:
    """Triangulate points with measured cameras.

    Args:
        observations: Observed points.
        rotation: Rotation of `world_to_camera`.
        translation: Translation of `world_to_camera`.
        log_focal: Logarithm of the focal length in pixels.
        principal_point: Principal point in pixels.
        max_error: Reprojection error in pixels of a correct observation.

    Returns:
        The unchanged cameras, all registered, and the points that two or more of them agree on.
    """
    mapper = IncrementalMapper(
        observations.to(torch.float64), log_focal, principal_point, max_error, "fixed", 0.2, 0.1
    )
    mapper.state = replace(
        mapper.state,
        rotation=rotation,
        translation=translation,
        registered=torch.ones_like(mapper.state.registered),
    )
    mapper.triangulate()
    return Registration(mapper.state, mapper.inliers(), max_error / 4)
