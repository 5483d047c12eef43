"""The published way of bringing point maps of pairs into one world, for comparison: DUSt3R's global alignment (Wang et al., CVPR 2024, section 3.4),
set as LiftImage3D sets it.

Every pair keeps its maps; all frames' depths, poses and focal lengths, and a similarity a pair, are moved by Adam until the points of a pair, laid
into the world, lie where the frames' depths put them. Memory grows with pairs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize
from tqdm import trange

from lift.geometry import align_similarity, pixel_centers, quat_to_rotation, rigid, rotation_to_quat
from lift.multiview.depth_alignment import merged, trusted
from lift.types import Cameras, Depth, Frames, Reconstruction, Trajectory

STEPS, RATE, LAST_RATE, MOMENTA = 400, 0.01, 1e-6, (0.9, 0.9)
FOCAL_BREAK = 20.0
"""Logarithms of focal lengths are learned so many times as slowly as all else."""
BASE_SCALE = 0.5
"""The geometric mean of the pairs' scales is held at it, lest all shrink to a point."""


@dataclass(frozen=True)
class PairMap:
    """Points of both frames of a pair in the axes of the first, with their confidences."""

    first: int
    second: int
    points: Float[Tensor, "height width 3"]
    confidence: Float[Tensor, "height width"]
    other: Float[Tensor, "height width 3"]
    other_confidence: Float[Tensor, "height width"]


@dataclass(frozen=True)
class Global:
    """What came out, in a world of its own: poses [frame 4 4] camera to world, focal lengths in pixels of a map, z-depths, confidences (the highest of a
    pixel's in any pair), and the loss after each step.
    """

    poses: Float[Tensor, "frame 4 4"]
    focals: Float[Tensor, "frame"]
    depth: Float[Tensor, "frame height width"]
    confidence: Float[Tensor, "frame height width"]
    losses: list[float]

    def reconstructed(
        self, frames: Frames, trajectory: Trajectory, depth: Depth, most_points: int
    ) -> Reconstruction:
        """In the plan's world: the input's camera is the plan's, its points are as far away as its depth says."""
        plan = trajectory.cameras
        height, width = self.depth.shape[1:]
        own = interpolate(
            torch.where(depth.valid, depth.depth, 0.0)[None, None].to(self.depth),
            (height, width),
            mode="nearest",
        )[0, 0]
        both = (own > 0) & (self.confidence[0] >= self.confidence[0].median())
        scale = float((own[both] / self.depth[0][both]).median())
        relative = torch.linalg.inv(self.poses[0]) @ self.poses
        relative[:, :3, 3] *= scale
        to_world = plan.camera_to_world[:1].to(relative) @ relative
        intrinsics = plan.intrinsics.clone()
        stretch = torch.tensor([plan.width / width, plan.height / height])
        focals = self.focals.cpu()[:, None] * stretch
        intrinsics[:, 0, 0], intrinsics[:, 1, 1] = focals[:, 0], focals[:, 1]
        intrinsics[:, :2, 2] = torch.tensor([plan.width / 2, plan.height / 2])
        cameras = Cameras(
            torch.linalg.inv(to_world).cpu().to(plan.world_to_camera),
            intrinsics,
            plan.width,
            plan.height,
        )
        cameras.world_to_camera[0] = plan.world_to_camera[0]
        depths = interpolate(
            scale * self.depth[:, None], (plan.height, plan.width), mode="nearest"
        )[:, 0].to(frames.images.device)
        trust = interpolate(
            trusted(self.confidence)[:, None], (plan.height, plan.width), mode="nearest"
        )[:, 0].to(depths.device)
        return Reconstruction(
            cameras, merged(frames, cameras, depths, trust, most_points), depths, trust
        )


def globally_aligned(
    found: Iterable[PairMap], count: int, frames: int, steps: int = STEPS
) -> Global:
    """Of `count` pairs. Raises ValueError if they leave a frame without ties to the others."""
    pairs, held = [], list[Tensor]()
    for k, pair in enumerate(found):  # into what was laid out for all: twice all would be too much
        parts = (pair.points, pair.confidence, pair.other, pair.other_confidence)
        held = held or [part.new_empty(count, *part.shape) for part in parts]
        for place, part in zip(held, parts, strict=True):
            place[k] = part
        pairs.append(PairMap(pair.first, pair.second, *(place[k] for place in held)))
    ones, sure, others, other_sure = held
    ones, others = ones.flatten(1, 2), others.flatten(1, 2)
    first, second = (
        torch.tensor([getattr(pair, side) for pair in pairs], device=sure.device)
        for side in ("first", "second")
    )
    height, width = sure.shape[1:]
    best = torch.zeros(frames, height, width, device=sure.device)
    for k in range(len(pairs)):
        best[first[k]] = torch.maximum(best[first[k]], sure[k])
        best[second[k]] = torch.maximum(best[second[k]], other_sure[k])
    begun = _begun(pairs, frames)
    away, similarities = begun.positions, begun.similarities
    parameters = nn.ParameterDict(
        {
            "log_depth": begun.depth.clamp(min=1e-6).log().flatten(1),
            "quats": rotation_to_quat(begun.poses[:, :3, :3]),
            "centers": _shrunk(away),
            "log_focal": FOCAL_BREAK * begun.focals.log(),
            "pair_quats": rotation_to_quat(normalize(similarities[:, :3, :3], dim=-2)),
            "pair_moves": _shrunk(similarities[:, :3, 3]),
            "pair_log_scale": similarities[:, :3, 0].norm(dim=-1).log(),
        }
    )
    weight, other_weight = sure.flatten(1).log(), other_sure.flatten(1).log()
    pixels = pixel_centers(width, height, sure.device).flatten(0, 1) - sure.new_tensor(
        [width / 2, height / 2]
    )
    optimiser = torch.optim.Adam(parameters.values(), RATE, MOMENTA)
    losses = []

    def world() -> Tensor:
        focal = (parameters["log_focal"] / FOCAL_BREAK).exp()
        depth = parameters["log_depth"].exp()
        local = torch.cat([pixels * (depth / focal[:, None])[..., None], depth[..., None]], -1)
        return (
            local @ quat_to_rotation(parameters["quats"]).mT
            + _grown(parameters["centers"])[:, None]
        )

    for step in trange(steps, desc="global alignment", leave=False, disable=None):
        share = step / max(1, steps)
        optimiser.param_groups[0]["lr"] = (
            LAST_RATE
            + (RATE - LAST_RATE) * (1 + torch.cos(torch.tensor(torch.pi * share)).item()) / 2
        )
        points = world()
        log_scale = parameters["pair_log_scale"]
        scale = (log_scale - log_scale.mean()).exp()[:, None, None] * BASE_SCALE
        turn, move = (
            scale * quat_to_rotation(parameters["pair_quats"]).mT,
            _grown(parameters["pair_moves"])[:, None] * scale,
        )
        loss = ((points[first] - (ones @ turn + move)).norm(dim=-1) * weight).mean() + (
            (points[second] - (others @ turn + move)).norm(dim=-1) * other_weight
        ).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    with torch.no_grad():
        poses = rigid(quat_to_rotation(parameters["quats"]), _grown(parameters["centers"]))
        depth = parameters["log_depth"].exp().view(frames, height, width)
        return Global(
            poses,
            (parameters["log_focal"] / FOCAL_BREAK).exp(),
            depth,
            best,
            torch.stack(losses).tolist() if losses else [],
        )


@dataclass(frozen=True)
class _Begun:
    poses: Tensor
    positions: Tensor
    focals: Tensor
    depth: Tensor
    similarities: Tensor


def _begun(pairs: Sequence[PairMap], frames: int) -> _Begun:
    """Frames along the tree of the surest pairs: a pair's points are laid on those of the frame that is there already, then a camera is found for the
    other frame's points.
    """
    import poselib

    height, width = pairs[0].confidence.shape
    worth = sorted(
        pairs, key=lambda pair: -float(pair.confidence.mean() * pair.other_confidence.mean())
    )
    world: dict[int, Tensor] = {}
    left = list(worth)
    while len(world) < frames:
        pair = next(
            (pair for pair in left if (pair.first in world) != (pair.second in world)),
            None if world else left[0],
        )
        if pair is None:
            raise ValueError(
                f"the pairs tie {len(world)} of {frames} frames to one another; choose more pairs"
            )
        left.remove(pair)
        if not world:
            world[pair.first], world[pair.second] = pair.points, pair.other
            continue
        scale, rotation, move = _onto(pair, world)
        for frame, points in ((pair.first, pair.points), (pair.second, pair.other)):
            world.setdefault(frame, scale * points @ rotation.T + move)
    similarities = []
    for pair in pairs:
        scale, rotation, move = _onto(pair, world)
        similarities.append(rigid(scale * rotation, move))
    factor = BASE_SCALE / float(
        torch.stack([s[:3, 0].norm() for s in similarities]).log().mean().exp()
    )
    poses, focals, depths = [], [], []
    pixels = pixel_centers(width, height).flatten(0, 1)
    for frame in range(frames):
        own = [pair for pair in pairs if pair.first == frame]
        focal = (
            _focal(max(own, key=lambda pair: float(pair.confidence.mean())))
            if own
            else float(max(height, width))
        )
        sure = max(
            (
                pair.confidence if pair.first == frame else pair.other_confidence
                for pair in pairs
                if frame in (pair.first, pair.second)
            ),
            key=lambda c: float(c.mean()),
        )
        points = world[frame].flatten(0, 1) * factor
        some = (sure.flatten() >= sure.median()).nonzero()[::7, 0].cpu()
        lens = {
            "model": "SIMPLE_PINHOLE",
            "width": width,
            "height": height,
            "params": [focal, width / 2, height / 2],
        }
        pose, _ = poselib.estimate_absolute_pose(
            pixels[some].double().numpy(),
            points.cpu()[some].double().numpy(),
            lens,
            {"max_reproj_error": 5.0, "seed": 0, "max_iterations": 10},
            {},
        )
        to_camera = rigid(torch.tensor(pose.R).float(), torch.tensor(pose.t).float()).to(points)
        poses.append(torch.linalg.inv(to_camera))
        focals.append(focal)
        depths.append((points @ to_camera[:3, :3].T + to_camera[:3, 3])[:, 2].view(height, width))
    depth = torch.stack(depths)
    found = torch.stack(poses)
    similarities = [torch.cat([s[:3, :3] * factor, s[:3, 3:] * factor], 1) for s in similarities]
    # A pair's translation is learned before its scale is applied.
    similarities = [torch.cat([s[:, :3], s[:, 3:] / s[:, 0].norm()], 1) for s in similarities]
    return _Begun(
        found,
        found[:, :3, 3],
        depth.new_tensor(focals),
        depth.where(depth > 0, depth.median()),
        torch.stack(similarities),
    )


def _onto(pair: PairMap, world: dict[int, Tensor]) -> tuple[float, Tensor, Tensor]:
    """The similarity that lays a pair on what is in the world of it."""
    here, there, sure = [], [], []
    for frame, points, confidence in (
        (pair.first, pair.points, pair.confidence),
        (pair.second, pair.other, pair.other_confidence),
    ):
        if frame in world:
            here.append(points.flatten(0, 1)[::5])
            there.append(world[frame].flatten(0, 1)[::5])
            sure.append(confidence.flatten()[::5])
    return align_similarity(torch.cat(here), torch.cat(there), torch.cat(sure).log())


def _focal(pair: PairMap) -> float:
    """The focal length that puts a map's points on their pixels, by reweighted least squares (Weiszfeld's)."""
    height, width = pair.confidence.shape
    pixels = pixel_centers(width, height, pair.points.device) - pair.points.new_tensor(
        [width / 2, height / 2]
    )
    ray = (pair.points[..., :2] / pair.points[..., 2:]).nan_to_num(0.0, 0.0, 0.0)
    product, square = (ray * pixels).sum(-1), ray.square().sum(-1)
    focal = product.mean() / square.mean()
    for _ in range(10):
        weight = 1 / (pixels - focal * ray).norm(dim=-1).clamp(min=1e-8)
        focal = (weight * product).mean() / (weight * square).mean()
    return float(focal.clamp(0.5 * max(height, width) / 2 / 1.732, 3.5 * max(height, width)))


def _shrunk(values: Tensor) -> Tensor:
    """Positions as they are learned: far ones more slowly."""
    return values.sign() * values.abs().log1p()


def _grown(values: Tensor) -> Tensor:
    return values.sign() * values.abs().expm1()
