"""Bundle adjustment: cameras and points that minimize robust reprojection errors.

The solver is Levenberg-Marquardt with Cauchy's loss. It runs batched on one device, in double
precision. `lift.poses.sfm.normal_equations` solves the linear system of each step.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lift.geometry import rotation_from_vector
from lift.poses.sfm.normal_equations import (
    FOCAL,
    SCALE,
    BlockPattern,
    Linearization,
    NormalEquations,
)
from lift.poses.sfm.state import MIN_DEPTH, Observations, PosePrior, SfmState

MAX_DAMPING_TRIALS = 6
"""Number of damping values to try before a step counts as failed."""

Focal = Literal["fixed", "shared", "per_frame"]
"""Focal lengths: given, one unknown for all frames, or one unknown per frame."""


def adjust(
    state: SfmState,
    observations: Observations,
    fixed_poses: Bool[Tensor, "frame"],
    focal: Focal = "fixed",
    focal_prior_sigma: float = 0.0,
    sigma: float = 1.0,
    depth_sigma: float = 0.0,
    prior: PosePrior | None = None,
    steps: int = 20,
    prior_log_focal: Float[Tensor, "frame"] | None = None,
) -> SfmState:
    """Minimize the robust errors of all observations in registered frames.

    Args:
        state: Initial cameras and points.
        observations: Observed points. Observations in frames without a pose are ignored.
        fixed_poses: Frames whose pose does not change.
        focal: Which focal lengths to estimate.
        focal_prior_sigma: Standard deviation of log focal lengths; 0 for no prior.
        sigma: Scale of the pixel errors in Cauchy's loss, in pixels.
        depth_sigma: Scale of the log depth errors in Cauchy's loss; 0 to ignore measured depth.
        prior: Poses that cameras are pulled towards.
        steps: Largest number of steps.
        prior_log_focal: Mean of the focal length prior; the initial values if None.

    Returns:
        The adjusted cameras and points.
    """
    observations = observations[state.registered[observations.frame]]
    free = torch.ones(len(state.rotation), 8, dtype=torch.float64, device=state.points.device)
    free[fixed_poses, :6] = 0
    free[~state.registered] = 0
    free[:, FOCAL] *= focal != "fixed"
    free[:, SCALE] *= depth_sigma > 0 and observations.log_depth is not None
    log_focal = state.log_focal if prior_log_focal is None else prior_log_focal
    order = (observations.frame * len(state.points) + observations.point).argsort()
    observations = observations[order]
    residuals = Residuals(
        observations, sigma, depth_sigma, prior, log_focal, focal_prior_sigma, free
    )
    return _minimize(state, residuals, focal == "shared", steps)


def _minimize(state: SfmState, residuals: "Residuals", shared_focal: bool, steps: int) -> SfmState:
    """Run Levenberg-Marquardt until the cost stops falling."""
    observations = residuals.observations
    pattern = BlockPattern(
        observations.frame, observations.point, len(state.rotation), len(state.points)
    )
    damping = 1e-4
    cost = residuals.cost(state)
    for _ in range(steps):
        equations = NormalEquations(residuals.linearize(state), pattern, shared_focal)
        for _ in range(MAX_DAMPING_TRIALS):
            camera_step, point_step = equations.solve(damping)
            candidate = apply_step(state, camera_step, point_step)
            new_cost = residuals.cost(candidate)
            if new_cost < cost:
                break
            damping *= 8
        else:
            return state
        damping = max(damping / 6, 1e-9)
        gain = cost - new_cost
        state = candidate
        cost = new_cost
        if gain < 1e-5 * cost:
            break
    return state


def apply_step(
    state: SfmState, cameras: Float[Tensor, "frame 8"], points: Float[Tensor, "point 3"]
) -> SfmState:
    """Add a step to cameras and points.

    Args:
        state: Cameras and points.
        cameras: Rotation vector, translation, log focal length and log depth scale of each frame.
        points: Translation of each point.

    Returns:
        The new cameras and points.
    """
    rotation = rotation_from_vector(cameras[:, :3])
    return replace(
        state,
        rotation=rotation @ state.rotation,
        translation=(rotation @ state.translation[..., None])[..., 0] + cameras[:, 3:6],
        log_focal=state.log_focal + cameras[:, FOCAL],
        log_scale=state.log_scale + cameras[:, SCALE],
        points=state.points + points,
    )


@dataclass(frozen=True)
class Residuals:
    """The errors to minimize, in units of their sigma."""

    observations: Observations
    """Observations, ordered by frame, then by point."""
    sigma: float
    """Scale of the pixel errors, in pixels."""
    depth_sigma: float
    """Scale of the log depth errors; 0 to ignore measured depth."""
    prior: PosePrior | None
    """Poses that cameras are pulled towards."""
    log_focal: Float[Tensor, "frame"]
    """Mean of the prior of the log focal lengths."""
    focal_prior_sigma: float
    """Standard deviation of the prior of the log focal lengths; 0 for no prior."""
    free: Float[Tensor, "frame 8"]
    """1 for camera parameters to estimate, else 0."""

    def evaluate(self, state: SfmState) -> tuple[Tensor, Float[Tensor, "observation 3"]]:
        """Evaluate the errors of all observations.

        Args:
            state: Cameras and points.

        Returns:
            The points in camera coordinates, and their errors in x, y and log depth.
        """
        local, pixel = state.reproject(self.observations)
        error = torch.zeros_like(local)
        error[:, :2] = pixel / self.sigma
        if self.depth_sigma and self.observations.log_depth is not None:
            depth = (
                local[:, 2].clamp(min=MIN_DEPTH).log()
                - self.observations.log_depth
                - state.log_scale[self.observations.frame]
            )
            error[:, 2] = depth.nan_to_num(0.0) / self.depth_sigma
        # A point behind its camera has a large error, wherever it projects to.
        return local, torch.where(local[:, 2:] > MIN_DEPTH, error, 1e3)

    def evaluate_priors(self, state: SfmState) -> Float[Tensor, "frame 8"]:
        """Evaluate the errors of the camera priors.

        Args:
            state: Cameras and points.

        Returns:
            The error of each camera parameter; 0 if it has no prior.
        """
        error = torch.zeros_like(self.free)
        if self.prior:
            rotation = state.rotation @ self.prior.rotation.mT
            error[:, :3] = _rotation_vector(rotation) / self.prior.rotation_sigma
            error[:, 3:6] = (
                state.translation - (rotation @ self.prior.translation[..., None])[..., 0]
            ) / self.prior.translation_sigma
        if self.focal_prior_sigma:
            error[:, FOCAL] = (state.log_focal - self.log_focal) / self.focal_prior_sigma
        return error * self.free

    def cost(self, state: SfmState) -> float:
        """Sum Cauchy's loss of all errors.

        Args:
            state: Cameras and points.

        Returns:
            The cost.
        """
        _, error = self.evaluate(state)
        loss = self.observations.weight * (
            torch.log1p(error[:, :2].square().sum(-1)) + torch.log1p(error[:, 2].square())
        )
        return float(loss.sum() + torch.log1p(self.evaluate_priors(state).square()).sum())

    def linearize(self, state: SfmState) -> Linearization:
        """Differentiate the errors and weight them robustly.

        Args:
            state: Cameras and points.

        Returns:
            Errors, derivatives and weights of all observations, and those of the priors.
        """
        frame = self.observations.frame
        local, error = self.evaluate(state)
        by_camera, by_local = self._jacobians(state, local)
        by_point = by_local @ state.rotation[frame]
        robust = torch.stack(
            [1 / (1 + error[:, :2].square().sum(-1))] * 2 + [1 / (1 + error[:, 2].square())], -1
        )
        weight = self.observations.weight[:, None] * robust * (local[:, 2:] > MIN_DEPTH)
        precision = torch.zeros_like(self.free)
        if self.prior:
            precision[:, :3] = self.prior.rotation_sigma**-2
            precision[:, 3:6] = self.prior.translation_sigma**-2
        if self.focal_prior_sigma:
            precision[:, FOCAL] = self.focal_prior_sigma**-2
        return Linearization(
            frame,
            self.observations.point,
            error,
            by_camera,
            by_point,
            weight,
            self.evaluate_priors(state),
            precision,
            self.free,
            len(state.points),
        )

    def _jacobians(
        self, state: SfmState, local: Float[Tensor, "observation 3"]
    ) -> tuple[Float[Tensor, "observation 3 8"], Float[Tensor, "observation 3 3"]]:
        """Differentiate the errors by the camera's parameters and by the camera coordinates."""
        frame = self.observations.frame
        focal = state.log_focal.exp()[frame]
        depth = local[:, 2].clamp(min=MIN_DEPTH)
        x = local[:, 0] / depth
        y = local[:, 1] / depth
        zero = torch.zeros_like(x)
        one = torch.ones_like(x)
        by_local = (
            torch.stack([one, zero, -x, zero, one, -y], -1).view(-1, 2, 3)
            * (focal / depth / self.sigma)[:, None, None]
        )
        has_depth = torch.zeros_like(zero)
        if self.depth_sigma and self.observations.log_depth is not None:
            has_depth = (~self.observations.log_depth.isnan()).double() / self.depth_sigma
        by_local = torch.cat(
            [by_local, torch.stack([zero, zero, has_depth / depth], -1)[:, None]], 1
        )
        a, b, c = local.unbind(-1)
        by_rotation = torch.stack([zero, c, -b, -c, zero, a, b, -a, zero], -1).view(-1, 3, 3)
        by_focal = torch.stack([x * focal / self.sigma, y * focal / self.sigma, zero], -1)
        by_scale = torch.stack([zero, zero, -has_depth], -1)
        by_camera = (
            torch.cat(
                [by_local @ by_rotation, by_local, by_focal[..., None], by_scale[..., None]], -1
            )
            * self.free[frame, None]
        )
        return by_camera, by_local


def _rotation_vector(rotation: Float[Tensor, "frame 3 3"]) -> Float[Tensor, "frame 3"]:
    """Convert rotations of less than half a turn to axis times angle in radians."""
    r = rotation
    twice = torch.stack(
        [r[:, 2, 1] - r[:, 1, 2], r[:, 0, 2] - r[:, 2, 0], r[:, 1, 0] - r[:, 0, 1]], -1
    )
    sine = twice.norm(dim=-1, keepdim=True) / 2
    cosine = (r.diagonal(dim1=1, dim2=2).sum(-1, keepdim=True) - 1) / 2
    angle = torch.atan2(sine, cosine)
    return torch.where(sine > 1e-9, angle / (2 * sine.clamp(min=1e-9)), 0.5) * twice
