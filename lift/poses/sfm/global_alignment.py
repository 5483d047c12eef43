"""DUSt3R's global alignment of pairs of point maps, for comparison.

All pairs keep their maps. Adam optimizes the depth, pose and focal length of all frames and a
similarity per pair. The loss is the distance between a pair's points, moved to the world, and the
frames' unprojected depth. Memory grows with the pairs. Settings are those of LiftImage3D.

Reference:
    Wang et al., "DUSt3R: Geometric 3D vision made easy", CVPR 2024, section 3.4.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize
from tqdm import trange

from lift.geometry import pixel_centers, quat_to_rotation, rigid, rotation_to_quat
from lift.multiview.depth_alignment import merge_points, normalize_confidence
from lift.poses.sfm.spanning_tree import BASE_SCALE, PairPointMaps, initial_alignment
from lift.types import Cameras, Depth, Frames, Reconstruction, Trajectory

STEPS = 400
"""Number of steps of Adam."""
LEARNING_RATE = 0.01
"""Learning rate of the first step."""
FINAL_LEARNING_RATE = 1e-6
"""Learning rate of the last step."""
BETAS = (0.9, 0.9)
"""Decay rates of Adam's moments."""
FOCAL_BREAK = 20.0
"""Factor on log focal lengths as parameters, so that they change more slowly."""


@dataclass(frozen=True)
class GlobalAlignment:
    """Result of the alignment, in a world of arbitrary pose and scale."""

    poses: Float[Tensor, "frame 4 4"]
    """Camera-to-world poses."""
    focals: Float[Tensor, "frame"]
    """Focal lengths in pixels of the maps."""
    depth: Float[Tensor, "frame height width"]
    """z-depth."""
    confidence: Float[Tensor, "frame height width"]
    """Largest confidence of a pixel in any pair, at least 1."""
    losses: list[float]
    """Loss after each step."""

    def to_reconstruction(
        self, frames: Frames, trajectory: Trajectory, depth: Depth, max_points: int
    ) -> Reconstruction:
        """Move the result to the plan's world and merge the depths into a point cloud.

        Args:
            frames: The frames.
            trajectory: The plan, whose start is the input's camera.
            depth: Depth of the input, which gives the scale.
            max_points: Largest number of points of the cloud.

        Returns:
            Cameras, points, depth and confidence.
        """
        plan = trajectory.cameras
        size = (plan.height, plan.width)
        scale = self._scale(depth)
        cameras = self._cameras(plan, scale)
        depths = interpolate(scale * self.depth[:, None], size, mode="nearest")[:, 0]
        depths = depths.to(frames.images.device)
        confidence = normalize_confidence(self.confidence)[:, None]
        confidence = interpolate(confidence, size, mode="nearest")[:, 0].to(depths.device)
        cloud = merge_points(frames, cameras, depths, confidence, max_points)
        return Reconstruction(cameras, cloud, depths, confidence)

    def _scale(self, depth: Depth) -> float:
        """Return the scale by the input's depth where the network is confident."""
        input_depth = interpolate(
            torch.where(depth.valid, depth.depth, 0.0)[None, None].to(self.depth),
            tuple(self.depth.shape[1:]),
            mode="nearest",
        )[0, 0]
        both = (input_depth > 0) & (self.confidence[0] >= self.confidence[0].median())
        return float((input_depth[both] / self.depth[0][both]).median())

    def _cameras(self, plan: Cameras, scale: float) -> Cameras:
        """Return the cameras in the plan's world; the input's pose is the plan's."""
        height, width = self.depth.shape[1:]
        relative = torch.linalg.inv(self.poses[0]) @ self.poses
        relative[:, :3, 3] *= scale
        to_world = plan.camera_to_world[:1].to(relative) @ relative
        intrinsics = plan.intrinsics.clone()
        stretch = torch.tensor([plan.width / width, plan.height / height])
        focals = self.focals.cpu()[:, None] * stretch
        intrinsics[:, 0, 0] = focals[:, 0]
        intrinsics[:, 1, 1] = focals[:, 1]
        intrinsics[:, :2, 2] = torch.tensor([plan.width / 2, plan.height / 2])
        cameras = Cameras(
            torch.linalg.inv(to_world).cpu().to(plan.world_to_camera),
            intrinsics,
            plan.width,
            plan.height,
        )
        cameras.world_to_camera[0] = plan.world_to_camera[0]
        return cameras


class _Problem:
    """Parameters and data of the alignment.

    Args:
        pairs: Point maps of all pairs, views of `stacked`.
        stacked: Points and confidence of the first frames, then of the second frames.
        frames: Number of frames.
    """

    def __init__(self, pairs: list[PairPointMaps], stacked: list[Tensor], frames: int) -> None:
        points, confidence, second_points, second_confidence = stacked
        self.frames = frames
        self.height, self.width = confidence.shape[1:]
        self.points = points.flatten(1, 2)
        self.second_points = second_points.flatten(1, 2)
        device = confidence.device
        self.first = torch.tensor([pair.first for pair in pairs], device=device)
        self.second = torch.tensor([pair.second for pair in pairs], device=device)
        self.confidence = torch.zeros(frames, self.height, self.width, device=device)
        for k, pair in enumerate(pairs):
            for frame, values in ((pair.first, confidence), (pair.second, second_confidence)):
                self.confidence[frame] = torch.maximum(self.confidence[frame], values[k])
        initial = initial_alignment(pairs, frames)
        similarities = initial.similarities
        self.parameters = nn.ParameterDict(
            {
                "log_depth": initial.depth.clamp(min=1e-6).log().flatten(1),
                "quats": rotation_to_quat(initial.poses[:, :3, :3]),
                "centers": _signed_log(initial.poses[:, :3, 3]),
                "log_focal": FOCAL_BREAK * initial.focals.log(),
                "pair_quats": rotation_to_quat(normalize(similarities[:, :3, :3], dim=-2)),
                "pair_moves": _signed_log(similarities[:, :3, 3]),
                "pair_log_scale": similarities[:, :3, 0].norm(dim=-1).log(),
            }
        )
        self.weight = confidence.flatten(1).log()
        self.second_weight = second_confidence.flatten(1).log()
        self.pixels = pixel_centers(self.width, self.height, device).flatten(
            0, 1
        ) - confidence.new_tensor([self.width / 2, self.height / 2])

    def focals(self) -> Float[Tensor, "frame"]:
        """Return the focal lengths in pixels of the maps."""
        return (self.parameters["log_focal"] / FOCAL_BREAK).exp()

    def world_points(self) -> Float[Tensor, "frame pixel 3"]:
        """Unproject the depth of all frames."""
        focal = self.focals()
        depth = self.parameters["log_depth"].exp()
        local = torch.cat([self.pixels * (depth / focal[:, None])[..., None], depth[..., None]], -1)
        return (
            local @ quat_to_rotation(self.parameters["quats"]).mT
            + _signed_exp(self.parameters["centers"])[:, None]
        )

    def loss(self) -> Tensor:
        """Return the mean weighted distance between the pairs' points and the frames'."""
        points = self.world_points()
        log_scale = self.parameters["pair_log_scale"]
        # The geometric mean of the scales is constant, or all would shrink to a point.
        scale = (log_scale - log_scale.mean()).exp()[:, None, None] * BASE_SCALE
        rotation = scale * quat_to_rotation(self.parameters["pair_quats"]).mT
        offset = _signed_exp(self.parameters["pair_moves"])[:, None] * scale
        error = points[self.first] - (self.points @ rotation + offset)
        loss = (error.norm(dim=-1) * self.weight).mean()
        error = points[self.second] - (self.second_points @ rotation + offset)
        return loss + (error.norm(dim=-1) * self.second_weight).mean()


def align_globally(
    maps: Iterable[PairPointMaps], count: int, frames: int, steps: int = STEPS
) -> GlobalAlignment:
    """Align pairs of point maps.

    Args:
        maps: Point maps of the pairs.
        count: Number of pairs.
        frames: Number of frames.
        steps: Number of steps of Adam.

    Returns:
        Poses, focal lengths and depth of all frames.

    Raises:
        ValueError: If the pairs do not connect all frames.
    """
    problem = _Problem(*_stack(maps, count), frames)
    parameters = problem.parameters
    optimizer = torch.optim.Adam(parameters.values(), LEARNING_RATE, BETAS)
    losses = []
    for step in trange(steps, desc="global alignment", leave=False, disable=None):
        fraction = step / max(1, steps)
        optimizer.param_groups[0]["lr"] = (
            FINAL_LEARNING_RATE
            + (LEARNING_RATE - FINAL_LEARNING_RATE)
            * (1 + torch.cos(torch.tensor(torch.pi * fraction)).item())
            / 2
        )
        loss = problem.loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    with torch.no_grad():
        rotation = quat_to_rotation(parameters["quats"])
        return GlobalAlignment(
            rigid(rotation, _signed_exp(parameters["centers"])),
            problem.focals(),
            parameters["log_depth"].exp().view(frames, problem.height, problem.width),
            problem.confidence,
            torch.stack(losses).tolist() if losses else [],
        )


def _stack(maps: Iterable[PairPointMaps], count: int) -> tuple[list[PairPointMaps], list[Tensor]]:
    """Copy all maps into preallocated tensors; stacking them would take twice the memory."""
    pairs = []
    stacked: list[Tensor] = []
    for k, pair in enumerate(maps):
        parts = (pair.points, pair.confidence, pair.second_points, pair.second_confidence)
        stacked = stacked or [part.new_empty(count, *part.shape) for part in parts]
        for target, part in zip(stacked, parts, strict=True):
            target[k] = part
        pairs.append(PairPointMaps(pair.first, pair.second, *(target[k] for target in stacked)))
    return pairs, stacked


def _signed_log(values: Tensor) -> Tensor:
    """Compress positions, so that distant ones change more slowly as parameters."""
    return values.sign() * values.abs().log1p()


def _signed_exp(values: Tensor) -> Tensor:
    """Invert `_signed_log`."""
    return values.sign() * values.abs().expm1()
