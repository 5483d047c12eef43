"""From observations to cameras in the plan's world.

Incremental mapping registers the frames. Then the input's camera is moved to the plan's, and the
input's depth gives the scale. A plan can also pull the cameras towards itself.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lift.geometry import rigid
from lift.multiview.depth_alignment import MIN_PIXELS
from lift.poses.sfm.bundle import Focal, adjust
from lift.poses.sfm.initialization import InitializationError, RelativePose
from lift.poses.sfm.mapper import Registration
from lift.poses.sfm.pairs import parent_frames
from lift.poses.sfm.registration import incremental_mapping, triangulate
from lift.poses.sfm.state import Observations, PosePrior, SfmState
from lift.poses.sfm.tracks import Matches, build_tracks, thin_observations
from lift.poses.sfm.verification import inconsistent_pairs
from lift.types import Cameras, Depth, Trajectory

_LOGGER = logging.getLogger(__name__)

PLAN_ROTATION_SIGMA = 2.0
"""Standard deviation of planned rotations, in degrees, at a plan weight of 1."""
PLAN_TRANSLATION_SIGMA = 0.05
"""Standard deviation of planned positions, as a fraction of the typical depth, at weight 1."""
MAX_FRAME_OBSERVATIONS = 800
"""Number of observations per frame from which cameras are estimated."""
MIN_FOCAL_GAIN = 25.0
"""Log-likelihood (robust reprojection cost) that an estimated focal length must gain.

Else the assumed one is kept. One parameter with independent errors would need 5. Errors of one
frame are not independent.
"""


@dataclass(frozen=True)
class RegisteredFrames:
    """Cameras and points in the plan's world."""

    cameras: Cameras
    """Cameras of all frames. A frame without a pose keeps its planned pose from its parent."""
    registered: Bool[Tensor, "frame"]
    """Whether the frame has an estimated or measured pose."""
    points: Float[Tensor, "point 3"]
    """Points in the world."""
    observations: Observations
    """Observations that agree with the cameras and points."""
    inconsistent: list[tuple[int, int]]
    """Pairs of frames whose matches do not agree with the cameras."""


@dataclass(frozen=True)
class Correspondences:
    """What matching says about the frames: the evidence for their cameras."""

    observations: Observations
    """Observed points."""
    matches: Sequence[Matches] = ()
    """Matches, to report those that do not agree with the cameras."""
    keypoints: Sequence[Float[Tensor, "_ 2"]] = ()
    """Keypoints of each frame in pixels."""
    relative_poses: Sequence[RelativePose] = ()
    """Relative poses of frames with measured depth."""


@dataclass(frozen=True)
class RegistrationOptions:
    """How cameras are estimated."""

    max_error: float
    """Reprojection error in pixels of a correct observation."""
    focal: Focal
    """Which focal lengths to estimate."""
    plan_weight: float
    """0 ignores the plan; at 1 cameras keep to it up to the sigmas of this module."""
    depth_sigma: float = 0.1
    """Scale of the log depth errors of `Observations.log_depth`."""


def align_to_plan(
    correspondences: Correspondences,
    trajectory: Trajectory,
    depth: Depth,
    options: RegistrationOptions,
    device: torch.device | None = None,
) -> RegisteredFrames:
    """Estimate cameras in the plan's world; the input's pose is the plan's.

    Args:
        correspondences: What matching says about the frames.
        trajectory: The plan.
        depth: Depth of the input, which gives the scale.
        options: How cameras are estimated.
        device: Device to compute on.

    Returns:
        Cameras of all frames, and the points that agree with them.

    Raises:
        InitializationError: If the frames or the input cannot be registered.
    """
    plan = trajectory.cameras.to(torch.float64).to(device)
    observations = correspondences.observations
    if len(observations):
        observations = thin_observations(observations, MAX_FRAME_OBSERVATIONS)
    observations = observations.to(device)
    if trajectory.hint == "known":
        return _triangulate_known(observations, trajectory, plan, options.max_error)
    if trajectory.hint != "planned":
        options = replace(options, plan_weight=0.0)
    input_depth = _input_depth(observations, depth)
    result, focal = _map_frames(
        observations, plan, input_depth, correspondences.relative_poses, options
    )
    options = replace(options, focal=focal)
    inliers = observations[result.inliers]
    input_depth = input_depth[result.inliers]
    state = _fit_to_plan(result, inliers, input_depth, plan, depth.typical, options)
    inconsistent = inconsistent_pairs(
        state, correspondences.matches, correspondences.keypoints, options.max_error
    )
    state = state.to("cpu")
    if inconsistent:
        _LOGGER.info("pairs of frames that do not agree with the cameras: %s", inconsistent)
    cameras = _plan_cameras(state, trajectory)
    inliers = inliers.to("cpu")
    return RegisteredFrames(cameras, state.registered, state.points, inliers, inconsistent)


def single_frame(trajectory: Trajectory) -> RegisteredFrames:
    """Return the planned camera of a single frame, without points.

    Args:
        trajectory: A plan with one camera.

    Returns:
        The camera, registered.
    """
    return RegisteredFrames(
        trajectory.cameras,
        torch.ones(1, dtype=torch.bool),
        torch.zeros(0, 3, dtype=torch.float64),
        build_tracks([torch.zeros(0, 2)], []),
        [],
    )


def _triangulate_known(
    observations: Observations, trajectory: Trajectory, plan: Cameras, max_error: float
) -> RegisteredFrames:
    """Triangulate points with the trajectory's measured cameras."""
    world = plan.world_to_camera
    intrinsics = (plan.intrinsics[:, 0, 0].log(), plan.intrinsics[:, :2, 2])
    result = triangulate(observations, world[:, :3, :3], world[:, :3, 3], *intrinsics, max_error)
    result = result.to("cpu")
    inliers = observations.to("cpu")[result.inliers]
    state = result.state
    return RegisteredFrames(trajectory.cameras, state.registered, state.points, inliers, [])


def _map_frames(
    observations: Observations,
    plan: Cameras,
    input_depth: Float[Tensor, "observation"],
    relative_poses: Sequence[RelativePose],
    options: RegistrationOptions,
) -> tuple[Registration, Focal]:
    """Register frames; keep the assumed focal lengths if the motion does not determine them."""
    focal = options.focal
    log_focal = plan.intrinsics[:, 0, 0].log()
    intrinsics = (log_focal, plan.intrinsics[:, :2, 2])
    try:
        result = incremental_mapping(
            observations,
            *intrinsics,
            options.max_error,
            focal,
            depth_sigma=options.depth_sigma,
            relative_poses=relative_poses,
        )
    except InitializationError:
        if focal != "fixed":
            focal = "fixed"
            _LOGGER.warning(
                "frames move too little to estimate focal lengths; the assumed ones are kept"
            )
        if observations.log_depth is not None:
            measured = observations.log_depth.exp().nan_to_num(0.0)
            input_depth = torch.where(observations.frame == 0, measured, 0.0)
        result = incremental_mapping(
            observations,
            *intrinsics,
            options.max_error,
            "fixed",
            depth=input_depth,
            depth_sigma=options.depth_sigma,
        )
    if focal == "shared" and observations.log_depth is None:
        fixed = adjust_with_focal(result, observations, log_focal)
        if not explains_better(result, fixed, observations):
            focal = "fixed"
            result = fixed
            _LOGGER.warning(
                "the motion of the frames does not determine the focal length; "
                "the assumed one is kept"
            )
    return result, focal


def adjust_with_focal(
    result: Registration, observations: Observations, log_focal: Float[Tensor, "frame"]
) -> Registration:
    """Adjust cameras and points again with given focal lengths.

    Args:
        result: Registered frames.
        observations: Observed points.
        log_focal: Logarithm of each frame's focal length in pixels.

    Returns:
        The adjusted registration.
    """
    fixed_poses = torch.zeros_like(result.state.registered)
    fixed_poses[int(result.state.registered.nonzero()[0])] = True
    state = replace(result.state, log_focal=log_focal.clone())
    inliers = observations[result.inliers]
    state = adjust(state, inliers, fixed_poses, "fixed", sigma=result.sigma, steps=40)
    return replace(result, state=state)


def explains_better(result: Registration, fixed: Registration, observations: Observations) -> bool:
    """Tell whether estimated focal lengths explain the observations better than assumed ones.

    Args:
        result: Registration with estimated focal lengths.
        fixed: Registration with assumed focal lengths.
        observations: Observed points.

    Returns:
        Whether the log-likelihood gains more than MIN_FOCAL_GAIN.
    """
    costs = []
    for state in (result.state, fixed.state):
        _, error = state.reproject(observations[result.inliers])
        costs.append(torch.log1p((error / result.sigma).square().sum(-1)).sum())
    return float(costs[1] - costs[0]) > MIN_FOCAL_GAIN


def _input_depth(observations: Observations, depth: Depth) -> Float[Tensor, "observation"]:
    """Return the input's depth at its observations; 0 for other frames and unknown depth."""
    values = torch.zeros(len(observations), dtype=torch.float64, device=observations.frame.device)
    in_input = observations.frame == 0
    column, row = observations.pixel[in_input].long().unbind(-1)
    image = torch.where(depth.valid, depth.depth, 0.0).to(values.device)
    row = row.clamp(0, image.shape[0] - 1)
    values[in_input] = image[row, column.clamp(0, image.shape[1] - 1)].double()
    return values


def _fit_to_plan(
    result: Registration,
    inliers: Observations,
    input_depth: Float[Tensor, "observation"],
    plan: Cameras,
    typical: float,
    options: RegistrationOptions,
) -> SfmState:
    """Move cameras and points to the plan's world, and pull them towards the plan."""
    state = result.state
    if not bool(state.registered[0]):
        raise InitializationError(
            f"{int(state.registered.sum())} of {len(plan)} frames were registered, "
            "but not the input, which ties the scene to the plan"
        )
    state = _move_to_plan(state, inliers, input_depth, plan, typical)
    if not options.plan_weight:
        return state
    prior = PosePrior(
        plan.world_to_camera[:, :3, :3],
        plan.world_to_camera[:, :3, 3],
        np.radians(PLAN_ROTATION_SIGMA) / options.plan_weight,
        PLAN_TRANSLATION_SIGMA * typical / options.plan_weight,
    )
    fixed_poses = torch.zeros_like(state.registered)
    fixed_poses[0] = True
    state = adjust(
        state,
        inliers,
        fixed_poses,
        options.focal,
        0.2,
        result.sigma,
        options.depth_sigma if inliers.log_depth is not None else 0.0,
        prior,
        prior_log_focal=plan.intrinsics[:, 0, 0].log(),
    )
    # A wrong plan has stretched the scene.
    return _move_to_plan(state, inliers, input_depth, plan, typical)


def _move_to_plan(
    state: SfmState,
    inliers: Observations,
    input_depth: Float[Tensor, "observation"],
    plan: Cameras,
    typical: float,
) -> SfmState:
    """Scale and move cameras and points so that the input's camera is the plan's.

    With x in the world of `state`, the new world is start^-1 (scale (R0 x + t0)).
    """
    scale = _scale_to_plan(state, inliers, input_depth, plan, typical)
    first = state.rotation[0]
    offset = state.translation[0]
    start = plan.world_to_camera[0]
    back = start[:3, :3].T
    center = -start[:3, :3].T @ start[:3, 3]
    points = (scale * (state.points @ first.T + offset)) @ back.T + center
    relative = state.rotation @ first.T
    rotation = relative @ start[:3, :3]
    translation = (
        scale * (state.translation - (relative @ offset[..., None])[..., 0])
        + (relative @ start[:3, 3:])[..., 0]
    )
    return replace(state, rotation=rotation, translation=translation, points=points)


def _scale_to_plan(
    state: SfmState,
    inliers: Observations,
    input_depth: Float[Tensor, "observation"],
    plan: Cameras,
    typical: float,
) -> float:
    """Return the scale by the input's depth, else by the distances between planned cameras."""
    usable = (input_depth > 0) & (inliers.frame == 0)
    if int(usable.sum()) >= MIN_PIXELS:
        local, _ = state.reproject(inliers[usable])
        return float((input_depth[usable] / local[:, 2]).median())
    estimated, planned = (
        (centers - centers[0]).norm(dim=-1)[state.registered]
        for centers in (state.centers, plan.centers)
    )
    if float(planned.max()) > 1e-3 * typical and float(estimated.max()) > 0:
        return float((estimated * planned).sum() / (estimated**2).sum())
    raise InitializationError("neither the input's depth nor the plan's motion gives the scale")


def _plan_cameras(state: SfmState, trajectory: Trajectory) -> Cameras:
    """Return all cameras; a frame without a pose keeps its planned pose relative to its parent."""
    plan = trajectory.cameras
    world = plan.world_to_camera.double().clone()
    intrinsics = plan.intrinsics.double().clone()
    estimated = rigid(state.rotation, state.translation)
    parents = parent_frames(trajectory)
    for view in range(len(plan)):
        parent = parents[view]
        if state.registered[view]:
            world[view] = estimated[view]
            intrinsics[view, [0, 1], [0, 1]] *= (
                state.log_focal[view].exp() / plan.intrinsics[view, 0, 0]
            )
        elif view:
            relative = torch.linalg.inv(plan.world_to_camera[parent].double())
            world[view] = world[view] @ relative @ world[parent]
            intrinsics[view] = intrinsics[parent]
    cameras = Cameras(
        world.to(plan.world_to_camera), intrinsics.to(plan.intrinsics), plan.width, plan.height
    )
    cameras.world_to_camera[0] = plan.world_to_camera[0]  # bit for bit
    return cameras
