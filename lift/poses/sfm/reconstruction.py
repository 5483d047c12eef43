"""From what frames have in common to cameras, depth and points in the plan's world. Whatever finds the common points uses this.

Points are found in pairs of frames (`Matches`), chained into tracks, and cameras placed by them (`registration`) and adjusted (`bundle`);
then the input's camera is laid on the plan's, its depth says how long everything is, and the plan has its say as far as it is trusted.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from lift.depths import DepthEstimator
from lift.geometry import rigid
from lift.multiview.depth_alignment import FEWEST, merged, place, place_all, track_depth
from lift.poses import advice
from lift.poses.sfm.bundle import Prior, Scene, Sightings, adjust
from lift.poses.sfm.mapper import FEWEST as LEAST
from lift.poses.sfm.mapper import (
    Focal,
    InitializationError,
    Registered,
    Tie,
    register,
    triangulate,
)
from lift.poses.sfm.pairs import continued
from lift.runtime.jit import compiled
from lift.types import Cameras, Depth, Frames, Reconstruction, Trajectory

TURN, SHIFT = 2.0, 0.05
"""What a plan that is trusted by 1 may be off: degrees, and a share of the typical depth."""
AGREES = 0.3
"""Share of a pair's matches that must agree with where the frames were found; else the pair is an outlier."""
MOST = 800
"""Sightings a frame that its place rests on."""
VERIFIED = 400
"""Matches, the surest, that a pair's epipolar geometry is found by; it is asked of all."""
FOCAL_GAIN = 25.0
"""Log-likelihood (robust reprojection cost) that an estimated focal length must gain; else the
assumed one is kept. For one parameter and independent errors 5 would do; errors of one frame are
not independent."""
CELL = 16
"""Pixels across a cell in which support is counted."""


@dataclass(frozen=True)
class Matches:
    """Of frames `first` and `second`: indices of keypoints in each that show one point, and how sure that is."""

    first: int
    second: int
    index: Int[Tensor, "match 2"]
    score: Float[Tensor, "match"]


@dataclass(frozen=True)
class Aligned:
    """Cameras in the plan's world, which frames were placed, world points with their sightings, and pairs that agree with nothing."""

    cameras: Cameras
    placed: Bool[Tensor, "frame"]
    points: Float[Tensor, "point 3"]
    sightings: Sightings
    outliers: list[tuple[int, int]]


def tracks(keypoints: Sequence[Float[Tensor, "_ 2"]], matches: Sequence[Matches]) -> Sightings:
    """Chains of matches: one point each, seen once a frame at most. The surest matches are chained first, and what would put two
    keypoints of one frame into a chain is left out.
    """
    counts = np.array([len(points) for points in keypoints])
    start = np.concatenate([[0], np.cumsum(counts)])
    if not matches:
        empty = torch.zeros(0, dtype=torch.long)
        return Sightings(
            empty,
            empty,
            torch.zeros(0, 2, dtype=torch.float64),
            torch.zeros(0, dtype=torch.float64),
        )
    first = np.concatenate([m.index[:, 0].cpu().numpy() + start[m.first] for m in matches])
    second = np.concatenate([m.index[:, 1].cpu().numpy() + start[m.second] for m in matches])
    order = np.argsort(-torch.cat([m.score for m in matches]).cpu().numpy(), kind="stable")
    chain = _chained(first, second, order, np.repeat(np.arange(len(counts)), counts), len(counts))
    used = np.unique(np.concatenate([first, second]))
    used = used[np.bincount(chain[used], minlength=len(chain))[chain[used]] > 1]
    _, point = np.unique(chain[used], return_inverse=True)
    frame = np.searchsorted(start, used, "right") - 1
    pixel = torch.cat([points.cpu() for points in keypoints]).double()[used]
    return Sightings(
        torch.from_numpy(frame),
        torch.from_numpy(point),
        pixel,
        torch.ones(len(used), dtype=torch.float64),
    )


@compiled()
def _chained(first, second, order, frame, frames):
    """Of each keypoint the one that stands for its chain."""
    words = (frames + 63) // 64
    root = np.arange(len(frame))
    seen = np.zeros((len(frame), words), np.uint64)
    for k in range(len(frame)):
        seen[k, frame[k] // 64] = np.uint64(1) << np.uint64(frame[k] % 64)
    for k in order:
        a, b = first[k], second[k]
        while root[a] != a:
            root[a] = root[root[a]]
            a = root[a]
        while root[b] != b:
            root[b] = root[root[b]]
            b = root[b]
        if a == b:
            continue
        clash = False
        for word in range(words):
            clash |= (seen[a, word] & seen[b, word]) != 0
        if not clash:
            root[b] = a
            for word in range(words):
                seen[a, word] |= seen[b, word]
    for k in range(len(frame)):
        a = k
        while root[a] != a:
            a = root[a]
        root[k] = a
    return root


def thinned(sightings: Sightings, most: int) -> Sightings:
    """Fewer points, those that most frames show, so that a frame keeps `most` of its sightings or what it has: more make cameras hardly better, and
    everything slower.
    """
    length = torch.bincount(sightings.point)
    order = length.argsort(descending=True, stable=True)
    by_point = sightings.point.argsort(stable=True)
    kept = _kept(
        order.numpy(),
        (length.cumsum(0) - length).numpy(),
        length.numpy(),
        sightings.frame[by_point].numpy(),
        int(sightings.frame.max()) + 1,
        most,
    )
    new = torch.full((len(length),), -1)
    new[torch.from_numpy(kept)] = torch.arange(int(kept.sum()))
    some = sightings[new[sightings.point] >= 0]
    return replace(some, point=new[some.point])


@compiled()
def _kept(order, start, length, frame, frames, most):
    """Points that some frame still needs."""
    have = np.zeros(frames, np.int64)
    kept = np.zeros(len(order), np.bool_)
    for point in order:
        for k in range(start[point], start[point] + length[point]):
            kept[point] |= have[frame[k]] < most
        if kept[point]:
            for k in range(start[point], start[point] + length[point]):
                have[frame[k]] += 1
    return kept


def align(
    sightings: Sightings,
    trajectory: Trajectory,
    depth: Depth,
    reach: float,
    focal: Focal,
    trust: float,
    pairs: Sequence[Matches] = (),
    keypoints: Sequence[Float[Tensor, "_ 2"]] = (),
    depth_spread: float = 0.1,
    ties: Sequence[Tie] = (),
    device: torch.device | None = None,
) -> Aligned:
    """Cameras of a plan's frames from sightings. reach: pixels of error from which on a sighting is wrong. focal: as for `adjust`.
    trust: in the plan, 0 none, 1 that it is met up to TURN and SHIFT. depth: of the input picture, which says how long everything is.
    Depth that the sightings bring along, up to a factor a frame, is met up to `depth_spread`; `ties` between frames that go with it are where cameras
    begin. All is computed on `device`.

    The input's camera is the plan's. A frame that was not placed stands to the one that it continues as planned. Raises InitializationError if there
    is too little to go by.
    """
    plan = trajectory.cameras.to(torch.float64).to(device)
    trust = trust if trajectory.hint == "planned" else 0.0
    sightings = (thinned(sightings, MOST) if len(sightings) else sightings).to(device)
    near = _measured(sightings, depth)
    start = plan.intrinsics[:, 0, 0].log(), plan.intrinsics[:, :2, 2]
    if trajectory.hint == "known":
        world = plan.world_to_camera
        found = triangulate(sightings, world[:, :3, :3], world[:, :3, 3], *start, reach).to("cpu")
        seen = sightings.to("cpu")[found.good]
        return Aligned(trajectory.cameras, found.scene.placed, found.scene.points, seen, [])
    try:
        found = register(sightings, *start, reach, focal, depth_spread=depth_spread, ties=ties)
    except InitializationError:
        if focal != "fixed":
            focal = "fixed"
            logging.getLogger(__name__).warning(
                "frames move too little to tell focal lengths, which are taken to be as planned"
            )
        first = near
        if sightings.log_depth is not None:
            first = torch.where(
                sightings.frame == 0, sightings.log_depth.exp().nan_to_num(0.0), 0.0
            )
        found = register(sightings, *start, reach, "fixed", depth=first, depth_spread=depth_spread)
    if focal == "shared" and sightings.log_depth is None:
        fixed = _with_focal(found, sightings, start[0])
        if not _is_better(found, fixed, sightings):
            focal, found = "fixed", fixed
            logging.getLogger(__name__).warning(
                "the motion of the frames does not tell the focal length, which is taken to be as assumed"
            )
    scene, good = found.scene, found.good
    if not bool(scene.placed[0]):
        raise InitializationError(
            f"{int(scene.placed.sum())} of {len(plan)} frames were placed, but not the input, which ties the scene to the plan"
        )
    scene = _in_plan(scene, sightings[good], near[good], plan, depth.typical)
    if trust:
        rest = torch.zeros_like(scene.placed)
        rest[0] = True
        prior = Prior(
            plan.world_to_camera[:, :3, :3],
            plan.world_to_camera[:, :3, 3],
            np.radians(TURN) / trust,
            SHIFT * depth.typical / trust,
        )
        brought = depth_spread if sightings.log_depth is not None else 0.0
        scene = adjust(
            scene, sightings[good], rest, focal, 0.2, found.spread, brought, prior, given=start[0]
        )
        scene = _in_plan(
            scene, sightings[good], near[good], plan, depth.typical
        )  # a plan that is wrong has stretched it
    scene, sightings, good = scene.to("cpu"), sightings.to("cpu"), good.cpu()
    if reported := _outliers(scene, pairs, keypoints, reach):
        logging.getLogger(__name__).info("pairs of frames that agree with nothing: %s", reported)
    return Aligned(
        _cameras(scene, trajectory), scene.placed, scene.points, sightings[good], reported
    )


def _with_focal(found: Registered, sightings: Sightings, log_focal: Tensor) -> Registered:
    """The scene adjusted again with focal lengths that are given."""
    rest = torch.zeros_like(found.scene.placed)
    rest[int(found.scene.placed.nonzero()[0])] = True
    scene = replace(found.scene, log_focal=log_focal.clone())
    seen = sightings[found.good]
    return replace(found, scene=adjust(scene, seen, rest, "fixed", spread=found.spread, steps=40))


def _is_better(found: Registered, fixed: Registered, sightings: Sightings) -> bool:
    """Whether the estimated focal length explains the sightings better than the assumed one."""
    costs = []
    for scene in (found.scene, fixed.scene):
        _, error = scene.seen(sightings[found.good])
        costs.append(torch.log1p((error / found.spread).square().sum(-1)).sum())
    return float(costs[1] - costs[0]) > FOCAL_GAIN


def placed(sightings: Sightings, trajectory: Trajectory, least: float, *how: Any) -> Aligned:
    """What `align` finds, told all else it asks for (`how`); a single frame is where it was planned. Raises ValueError if fewer than a share of `least` can be placed."""
    frames = len(trajectory.cameras)
    try:
        aligned = align(sightings, trajectory, *how)
    except InitializationError as error:
        if frames > 1:
            raise ValueError(
                f"the frames have too little in common to be placed ({error}); {advice(trajectory)}"
            ) from None
        aligned = alone(trajectory)
    if (count := int(aligned.placed.sum())) < least * frames:
        raise ValueError(
            f"{count} of {frames} frames were placed, fewer than pose.least={least:g} asks for: they have too little in common; {advice(trajectory)}"
        )
    return aligned


def _measured(sightings: Sightings, depth: Depth) -> Float[Tensor, "sighting"]:
    """The input's depth at its sightings, else 0."""
    out = torch.zeros(len(sightings), dtype=torch.float64, device=sightings.frame.device)
    own = sightings.frame == 0
    column, row = sightings.pixel[own].long().unbind(-1)
    known = torch.where(depth.valid, depth.depth, 0.0).to(out.device)
    out[own] = known[row.clamp(0, known.shape[0] - 1), column.clamp(0, known.shape[1] - 1)].double()
    return out


def _in_plan(scene: Scene, seen: Sightings, near: Tensor, plan: Cameras, typical: float) -> Scene:
    """The scene scaled and moved so that the input's camera is the plan's and its points as far away as its depth says; if that says nothing, the
    cameras as far apart as planned.
    """
    scale = None
    own = (near > 0) & (seen.frame == 0)
    if int(own.sum()) >= FEWEST:
        local, _ = scene.seen(seen[own])
        scale = float((near[own] / local[:, 2]).median())
    else:
        lengths = [
            (centers - centers[0]).norm(dim=-1)[scene.placed]
            for centers in (scene.centers, plan.centers)
        ]
        if float(lengths[1].max()) > 1e-3 * typical and float(lengths[0].max()) > 0:
            scale = float((lengths[0] * lengths[1]).sum() / (lengths[0] ** 2).sum())
    if scale is None:
        raise InitializationError(
            "neither the input's depth nor the plan's motion says how long anything is"
        )
    # x -> start^-1 (scale (R0 x + t0)): the input's camera comes to lie on the start
    first, moved = scene.rotation[0], scene.translation[0]
    start = plan.world_to_camera[0]
    back, away = start[:3, :3].T, -start[:3, :3].T @ start[:3, 3]
    points = (scale * (scene.points @ first.T + moved)) @ back.T + away
    turn = scene.rotation @ first.T
    rotation = turn @ start[:3, :3]
    translation = (
        scale * (scene.translation - (turn @ moved[..., None])[..., 0])
        + (turn @ start[:3, 3:])[..., 0]
    )
    return replace(scene, rotation=rotation, translation=translation, points=points)


def _cameras(scene: Scene, trajectory: Trajectory) -> Cameras:
    plan = trajectory.cameras
    world, intrinsics = plan.world_to_camera.double().clone(), plan.intrinsics.double().clone()
    found = rigid(scene.rotation, scene.translation)
    before = continued(trajectory)
    for view in range(len(plan)):
        if scene.placed[view]:
            world[view] = found[view]
            intrinsics[view, [0, 1], [0, 1]] *= (
                scene.log_focal[view].exp() / plan.intrinsics[view, 0, 0]
            )
        elif view:
            world[view] = (
                world[view]
                @ torch.linalg.inv(plan.world_to_camera[before[view]].double())
                @ world[before[view]]
            )
            intrinsics[view] = intrinsics[before[view]]
    out = Cameras(
        world.to(plan.world_to_camera), intrinsics.to(plan.intrinsics), plan.width, plan.height
    )
    out.world_to_camera[0] = plan.world_to_camera[0]  # to the last bit
    return out


def _outliers(
    scene: Scene, pairs: Sequence[Matches], keypoints: Sequence[Tensor], reach: float
) -> list[tuple[int, int]]:
    """Pairs of placed frames few of whose matches lie where the frames' places would have them."""
    pairs = [
        pair
        for pair in pairs
        if scene.placed[pair.first] and scene.placed[pair.second] and len(pair.index)
    ]
    if not pairs:
        return []
    first, second = (
        torch.tensor([getattr(pair, side) for pair in pairs]) for side in ("first", "second")
    )
    rotation = scene.rotation[second] @ scene.rotation[first].mT
    moved = scene.translation[second] - (rotation @ scene.translation[first][..., None])[..., 0]
    essential = torch.linalg.cross(moved[..., None].expand_as(rotation), rotation, dim=1)
    unlens = torch.eye(3, dtype=torch.float64).repeat(len(scene.placed), 1, 1)
    unlens[:, [0, 1], [0, 1]] = (-scene.log_focal).exp()[:, None]
    unlens[:, :2, 2] = -scene.middle * (-scene.log_focal).exp()[:, None]
    fundamental = unlens[second].mT @ essential @ unlens[first]
    counts = torch.tensor([len(pair.index) for pair in pairs])
    of = torch.arange(len(pairs)).repeat_interleave(counts)
    a, b = (
        torch.cat(
            [keypoints[getattr(pair, side)][pair.index[:, k]].double().cpu() for pair in pairs]
        )
        for k, side in enumerate(("first", "second"))
    )
    met = sampson(a, b, fundamental[of]) < reach
    share = torch.bincount(of[met], minlength=len(pairs)) / counts
    return [
        (pair.first, pair.second)
        for pair, much in zip(pairs, share.tolist(), strict=True)
        if much < AGREES
    ]


def verified(
    pair: Matches, keypoints: Sequence[Float[Tensor, "_ 2"]], error: float
) -> Matches | None:
    """The matches that have an epipolar geometry in common, met up to `error` pixels, if there are enough. What lens they were taken with is not
    asked: it may be guessed wrong.
    """
    import poselib

    if len(pair.index) < LEAST:
        return None
    a, b = (
        keypoints[frame][pair.index[:, side]].double().cpu()
        for side, frame in enumerate((pair.first, pair.second))
    )
    surest = pair.score.cpu().argsort(descending=True)[:VERIFIED]
    ransac = {"max_epipolar_error": error, "seed": 0, "max_iterations": 10_000}
    matrix, _ = poselib.estimate_fundamental(a[surest].numpy(), b[surest].numpy(), ransac, {})
    inlier = sampson(a, b, torch.from_numpy(matrix)) < error
    return (
        Matches(pair.first, pair.second, pair.index[inlier], pair.score[inlier])
        if int(inlier.sum()) >= LEAST
        else None
    )


def sampson(
    first: Float[Tensor, "match 2"],
    second: Float[Tensor, "match 2"],
    matrix: Float[Tensor, "3 3"] | Float[Tensor, "match 3 3"],
) -> Float[Tensor, "match"]:
    """Pixels by which matches miss the epipolar geometry of a fundamental matrix, or one each, to first order (Sampson, 1982)."""
    a, b = (torch.cat([points, torch.ones_like(points[:, :1])], -1) for points in (first, second))
    line, other = (matrix * a[:, None]).sum(-1), (matrix.mT * b[:, None]).sum(-1)
    return (b * line).sum(-1).abs() / (
        line[:, :2].square().sum(-1) + other[:, :2].square().sum(-1)
    ).sqrt().clamp(min=1e-12)


def alone(trajectory: Trajectory) -> Aligned:
    """Of a single frame: as planned."""
    empty = tracks([torch.zeros(0, 2)], [])
    return Aligned(
        trajectory.cameras,
        torch.ones(1, dtype=torch.bool),
        torch.zeros(0, 3, dtype=torch.float64),
        empty,
        [],
    )


def support(
    keypoints: Float[Tensor, "keypoint 2"],
    good: Float[Tensor, "sighting 2"],
    width: int,
    height: int,
) -> Float[Tensor, "height width"]:
    """Which share of what could be recognised around a pixel was found again in other frames where it should be: 1 for the frame's better half."""
    size = (max(1, height // CELL), max(1, width // CELL))
    counts = []
    for points in (keypoints, good):
        column = (points[:, 0] / width * size[1]).long().clamp(0, size[1] - 1)
        row = (points[:, 1] / height * size[0]).long().clamp(0, size[0] - 1)
        count = (
            torch.bincount(row * size[1] + column, minlength=size[0] * size[1])
            .view(1, 1, *size)
            .float()
        )
        counts.append(avg_pool2d(count, 5, 1, 2, count_include_pad=False))
    if not len(good):
        return torch.zeros(height, width)
    overall = len(good) / max(1, len(keypoints))
    share = (counts[1] + 0.1 * overall) / (
        counts[0].clamp(min=counts[1]) + 0.1
    )  # where nothing could be recognised: as elsewhere
    share = share / share.flatten().quantile(0.5)
    return interpolate(share.clamp(max=1), (height, width), mode="bilinear", align_corners=False)[
        0, 0
    ]


def described(
    frames: Frames,
    aligned: Aligned,
    depth: Depth,
    estimator: DepthEstimator | None,
    tolerance: float,
    most_points: int,
    supports: Sequence[Float[Tensor, "height width"]] = (),
) -> Reconstruction:
    """Depth of every frame, the prior's or estimated, brought to the points that were seen in it; confidence falls where they disagree and where
    little was found again (`supports`).
    """
    cameras, seen = aligned.cameras, []
    for view in range(len(frames)):
        own = aligned.sightings.point[(aligned.sightings.frame == view) & aligned.placed[view]]
        seen.append(aligned.points[own].to(cameras.world_to_camera))
    placed = place_all(frames, cameras, seen, depth, estimator, tolerance)
    if len(frames) == 1:  # nothing else shows its points: it is its own measure
        given = (
            frames.depth[0]
            if frames.depth is not None
            else torch.where(depth.valid, depth.depth, 0.0)
        )
        placed = [place(given, given, tolerance, shift=frames.depth is None)]
    confidences = [
        one.confidence * supports[view].to(one.confidence) if supports else one.confidence
        for view, one in enumerate(placed)
    ]
    depth_maps, confidence = torch.stack([one.depth for one in placed]), torch.stack(confidences)
    cloud = merged(frames, cameras, depth_maps, confidence, most_points)
    tracked = torch.stack(
        [track_depth(points, cameras[view]) for view, points in enumerate(seen)]
    ).to(depth_maps)
    return Reconstruction(cameras, cloud, depth_maps, confidence, tracked)
