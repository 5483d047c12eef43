"""Incremental mapping: register frame after frame and adjust all of them together.

Reference:
    Schoenberger and Frahm, "Structure-from-motion revisited", CVPR 2016. Here frames are registered
    in batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lift.poses.sfm.bundle import Focal, adjust
from lift.poses.sfm.initialization import (
    InitializationError,
    Pose,
    RelativePose,
    chain_relative_poses,
    find_initial_pair,
)
from lift.poses.sfm.state import MIN_DEPTH, MIN_FRAME_POINTS, Observations, SfmState
from lift.poses.sfm.triangulation import triangulate_points
from lift.runtime.parallel import parallel_map

MAX_REGISTRATIONS = 4
"""Number of times that a frame is registered; a frame that is lost so often gets no pose."""
MIN_EXACT_FRAMES = 4
"""Number of registered frames from which on other frames have to agree with points exactly."""
FINAL_ROUNDS = 4
"""Largest number of rounds of adjusting and filtering once all frames were tried."""


@dataclass(frozen=True)
class Registration:
    """Cameras and points in a world of arbitrary pose and scale."""

    state: SfmState
    """Cameras and points."""
    inliers: Bool[Tensor, "observation"]
    """Whether an observation agrees with the cameras and points."""
    sigma: float
    """Scale of the pixel errors, in pixels."""

    def to(self, device: torch.device | str) -> "Registration":
        """Move all tensors.

        Args:
            device: Device to move to.

        Returns:
            The registration on that device.
        """
        return Registration(self.state.to(device), self.inliers.to(device), self.sigma)


class IncrementalMapper:
    """Registers frame after frame, starting from one of three initializations.

    Args:
        observations: Observed points, in double precision.
        log_focal: Logarithm of each frame's assumed focal length in pixels.
        principal_point: Principal point of each frame in pixels.
        max_error: Reprojection error in pixels of a correct observation.
        focal: Which focal lengths to estimate.
        focal_prior_sigma: Standard deviation of log focal lengths from the assumed ones.
        depth_sigma: Scale of the log depth errors.
    """

    def __init__(
        self,
        observations: Observations,
        log_focal: Float[Tensor, "frame"],
        principal_point: Float[Tensor, "frame 2"],
        max_error: float,
        focal: Focal,
        focal_prior_sigma: float,
        depth_sigma: float,
    ) -> None:
        frames = len(log_focal)
        points = int(observations.point.max()) + 1 if len(observations) else 0
        device = log_focal.device
        self.state = SfmState(
            torch.eye(3, dtype=torch.float64, device=device).repeat(frames, 1, 1),
            log_focal.new_zeros(frames, 3),
            log_focal,
            principal_point,
            log_focal.new_zeros(frames),
            log_focal.new_zeros(points, 3),
            torch.zeros(frames, dtype=torch.bool, device=device),
        )
        self.observations = observations
        self.max_error = max_error
        self.focal: Focal = focal
        self.focal_prior_sigma = focal_prior_sigma
        self.prior_log_focal = log_focal
        self.depth_sigma = depth_sigma
        self.sigma = max_error / 4
        self.has_depth = observations.log_depth is not None
        self.num_registrations = [0] * frames
        self.has_position = torch.zeros(points, dtype=torch.bool, device=device)
        """Points whose position is estimated."""
        self.has_scale = torch.zeros(frames, dtype=torch.bool, device=device)
        """Frames whose scale of measured depth is estimated."""
        self.origin = 0
        """Frame whose pose does not change."""

    # Initialization

    def initialize_from_relative_poses(self, relative_poses: Sequence[RelativePose]) -> None:
        """Register all frames that relative poses connect to frame 0.

        Args:
            relative_poses: Relative poses of pairs of frames.

        Raises:
            InitializationError: If no pose leads from frame 0 to another frame.
        """
        frames = chain_relative_poses(self.state, relative_poses)
        self.has_scale[frames] = True
        self.origin = 0
        self._unproject()
        self._adjust("fixed", 25)
        self._filter()

    def initialize_from_pair(
        self, covered: Bool[Tensor, "frame"] | None = None, member: int | None = None
    ) -> None:
        """Register two frames.

        Args:
            covered: Frames that earlier starts registered. One of the two is not among them.
            member: Frame that is one of the two; any if None.

        Raises:
            InitializationError: If no such pair shows enough points from two sides.
        """
        a, b, (rotation, translation) = find_initial_pair(
            self.state, self.observations, self.max_error, covered, member
        )
        self.state.rotation[b] = rotation
        self.state.translation[b] = translation
        self.state.registered[[a, b]] = True
        self.origin = a
        self.triangulate()
        self._unproject()
        self._adjust("fixed", 10)

    def initialize_from_depth(self, depth: Float[Tensor, "observation"]) -> None:
        """Register frame 0 with the depth of its points.

        Args:
            depth: z-depth of the observations in frame 0; 0 if unknown.

        Raises:
            InitializationError: If too few points have a depth.
        """
        in_frame = (self.observations.frame == 0) & (depth > 0)
        if int(in_frame.sum()) < MIN_FRAME_POINTS:
            raise InitializationError(f"the input shows {int(in_frame.sum())} points with a depth")
        point = self.observations.point[in_frame]
        rays = self.state.rays(0, self.observations.pixel[in_frame])
        self.state.points[point] = rays * depth[in_frame, None]
        self.has_position[point] = True
        self.state.registered[0] = True
        self.has_scale[0] = True
        self.origin = 0
        if not self.has_depth:
            self.has_depth = True
            log_depth = torch.where(in_frame, depth, torch.nan).log()
            self.observations = replace(self.observations, log_depth=log_depth)

    # Growth

    def run(self) -> Registration:
        """Register all frames, then adjust and filter until nothing changes.

        Returns:
            The registered frames and points.
        """
        self._grow()
        for _ in range(FINAL_ROUNDS):
            before = (int(self.has_position.sum()), int(self.state.registered.sum()))
            self._adjust(self.focal, 25)
            self._filter()
            self.triangulate()
            self._unproject()
            self.register_next_frames()
            if (int(self.has_position.sum()), int(self.state.registered.sum())) == before:
                break
        self._adjust(self.focal, 25)
        self._filter()
        return Registration(self.state, self.inliers(), self.sigma)

    def _grow(self) -> None:
        """Register frames until no more can be registered."""
        adjusted = int(self.state.registered.sum())
        while self.register_next_frames():
            self.triangulate()
            self._unproject()
            count = int(self.state.registered.sum())
            if count >= 3:
                self._adjust(
                    self.focal if count >= 4 else "fixed",
                    6 if count > 1.15 * adjusted or count < 8 else 3,
                )
                adjusted = count
                self._filter()
                self.triangulate()
                self._unproject()

    def register_next_frames(self) -> bool:
        """Register the frames that show most points with a position.

        Returns:
            Whether a frame was registered.
        """
        frame = self.observations.frame
        ready = self.has_position[self.observations.point] & ~self.state.registered[frame]
        counts = torch.bincount(frame[ready], minlength=len(self.state.rotation))
        max_count = int(counts.max()) if len(counts) else 0
        registered = False
        for min_count in (0.6 * max_count, MIN_FRAME_POINTS):
            candidates = [
                candidate
                for candidate in counts.argsort(descending=True).tolist()
                if counts[candidate] >= max(min_count, MIN_FRAME_POINTS)
                and not self.state.registered[candidate]
                and self.num_registrations[candidate] < MAX_REGISTRATIONS
            ]
            registered = self._register_frames(candidates, ready)
            if registered:
                break
        return registered

    def _register_frames(
        self, candidates: Sequence[int], ready: Bool[Tensor, "observation"]
    ) -> bool:
        """Register frames by their observations of points with a position, if they agree."""

        def estimate(frame: int, max_error: float) -> Pose | None:
            visible = ready & (self.observations.frame == frame)
            points = self.state.points[self.observations.point[visible]]
            return self._absolute_pose(frame, self.observations.pixel[visible], points, max_error)

        count = int(self.state.registered.sum())
        registered = False
        remaining = list(candidates)
        while remaining and count < MIN_EXACT_FRAMES:  # few frames determine points inexactly
            frame = remaining.pop(0)
            if pose := estimate(frame, 2 * self.max_error):
                self._set_pose(frame, pose)
                count += 1
                registered = True
        poses = parallel_map(lambda frame: estimate(frame, self.max_error), remaining)
        for frame, pose in zip(remaining, poses, strict=True):
            if pose is not None:
                self._set_pose(frame, pose)
                registered = True
        return registered

    def _set_pose(self, frame: int, pose: Pose) -> None:
        """Register a frame with a pose."""
        self.state.rotation[frame], self.state.translation[frame] = pose
        if self.focal == "shared":
            self.state.log_focal[frame] = self.state.log_focal[self.state.registered].median()
        self.state.registered[frame] = True
        self.num_registrations[frame] += 1

    def _absolute_pose(
        self,
        frame: int,
        pixel: Float[Tensor, "point 2"],
        points: Float[Tensor, "point 3"],
        max_error: float,
    ) -> Pose | None:
        """Estimate a frame's pose from points; None if too few points agree."""
        import poselib

        camera = self.state.camera_model(frame if self.focal != "shared" else self.origin)
        ransac = {
            "max_reproj_error": max_error,
            "seed": 0,
            "min_iterations": 100,
            "max_iterations": 5000,
        }
        pose, info = poselib.estimate_absolute_pose(
            pixel.cpu().numpy(), points.cpu().numpy(), camera, ransac, {}
        )
        if info["num_inliers"] < max(MIN_FRAME_POINTS, 0.2 * len(pixel)):
            return None
        return torch.tensor(pose.R).to(points), torch.tensor(pose.t).to(points)

    # Points

    def triangulate(self) -> None:
        """Triangulate points without a position that registered frames show from two sides."""
        state = self.state
        observations = self.observations
        use = (
            state.registered[observations.frame]
            & ~self.has_position[observations.point]
            & (observations.weight > 0)
        )
        if not bool(use.any()):
            return
        index, positions = triangulate_points(state, observations[use], self.max_error)
        state.points[index] = positions
        self.has_position[index] = True

    def _unproject(self) -> None:
        """Unproject points without a position from the measured depth of registered frames."""
        log_depth = self.observations.log_depth
        if not self.has_depth or log_depth is None:
            return
        state = self.state
        frame = self.observations.frame
        point = self.observations.point
        usable = state.registered[frame] & ~log_depth.isnan()
        log_scale = self._estimate_scales(usable, log_depth)
        new = usable & ~self.has_position[point] & self.has_scale[frame]
        first = torch.full((len(self.has_position),), len(frame), device=new.device)
        first = first.scatter_reduce_(0, point[new], new.nonzero()[:, 0], "amin")
        index = first[first < len(frame)]
        rays = state.rays(frame[index], self.observations.pixel[index])
        depth = (log_depth[index] + log_scale[frame[index]]).exp()[:, None]
        local = rays * depth - state.translation[frame[index]]
        points = state.points.clone()
        points[point[index]] = (state.rotation[frame[index]].mT @ local[..., None])[..., 0]
        self.has_position[point[index]] = True
        self.state = replace(state, points=points, log_scale=log_scale)

    def _estimate_scales(
        self, usable: Bool[Tensor, "observation"], log_depth: Float[Tensor, "observation"]
    ) -> Float[Tensor, "frame"]:
        """Return log scales of measured depth, new ones for frames with enough points."""
        log_scale = self.state.log_scale.clone()
        frame = self.observations.frame
        open_scale = usable & ~self.has_scale[frame] & self.has_position[self.observations.point]
        local, error = self.state.reproject(self.observations[open_scale])
        good = (local[:, 2] > MIN_DEPTH) & (error.norm(dim=-1) < self.max_error)
        ratio = local[good, 2].log() - log_depth[open_scale][good]
        frame = frame[open_scale][good]
        counts = torch.bincount(frame, minlength=len(log_scale))
        for view in (counts >= MIN_FRAME_POINTS).nonzero()[:, 0].tolist():
            log_scale[view] = ratio[frame == view].median()
            self.has_scale[view] = True
        return log_scale

    # Adjustment

    def _visible(self) -> Bool[Tensor, "observation"]:
        """Return which observations have a point with a position and a registered frame."""
        frame = self.observations.frame
        return self.has_position[self.observations.point] & self.state.registered[frame]

    def _adjust(self, focal: Focal, steps: int) -> None:
        """Adjust all cameras and points, with a new scale of the pixel errors."""
        visible = self.observations[self._visible()]
        _, error = self.state.reproject(visible)
        limits = (self.max_error / 16, self.max_error / 2)
        self.sigma = float(error.norm(dim=-1).median().clamp(*limits))
        fixed_poses = torch.zeros_like(self.state.registered)
        fixed_poses[self.origin] = True
        self.state = adjust(
            self.state,
            visible,
            fixed_poses,
            focal,
            self.focal_prior_sigma,
            self.sigma,
            self.depth_sigma if self.has_depth else 0.0,
            steps=steps,
            prior_log_focal=self.prior_log_focal,
        )

    def inliers(self) -> Bool[Tensor, "observation"]:
        """Return which observations agree with the cameras and points."""
        local, error = self.state.reproject(self.observations)
        in_front = local[:, 2] > MIN_DEPTH
        return self._visible() & in_front & (error.norm(dim=-1) < self.max_error)

    def _filter(self) -> None:
        """Drop points with fewer than two inliers, and frames with too few inliers."""
        inliers = self.inliers()
        point = self.observations.point
        counts = torch.bincount(point[inliers], minlength=len(self.has_position))
        measured = torch.zeros_like(self.has_position)
        log_depth = self.observations.log_depth
        if self.has_depth and log_depth is not None:
            measured[point[inliers & ~log_depth.isnan()]] = True
        self.has_position &= (counts >= 2) | measured
        visible = torch.bincount(
            self.observations.frame[inliers & self.has_position[point]],
            minlength=len(self.state.registered),
        )
        lost = self.state.registered & (visible < MIN_FRAME_POINTS)
        lost[self.origin] = False
        self.state.registered[lost] = False
