"""Pairs of frames to match."""

from dataclasses import replace

import torch

from lift.geometry import look_at, pinhole
from lift.planners.articulated import Articulated
from lift.poses.sfm.pairs import matching_pairs, parent_frames, planned_pairs, view_overlap
from lift.types import Cameras, Clip, Depth, Trajectory


def articulated_plan(clips: int = 4) -> tuple[Trajectory, Depth]:
    camera = pinhole(64, 48, 60.0)
    depth = Depth(torch.full((48, 64), 3.0), torch.ones(48, 64, dtype=torch.bool), "metric")
    return Articulated(num_frames=clips)(camera, depth, None), depth


def test_pairs_follow_the_tree_and_grow_with_the_frames():
    counts = []
    for frames in (4, 8, 16):
        trajectory, depth = articulated_plan(frames)
        pairs = planned_pairs(trajectory, depth.typical, exhaustive_limit=20)
        before = parent_frames(trajectory)
        chosen = set(map(tuple, pairs.tolist()))
        assert all(a < b for a, b in chosen)
        assert all(
            (min(before[v], v), max(before[v], v)) in chosen for v in range(1, len(before))
        ), "each with the one it goes on from"
        clip_of = [0, *(1 + k for k, span in enumerate(trajectory.spans) for _ in span)]
        across = [
            1
            for a, b in chosen
            if a
            and trajectory.clips[clip_of[b] - 1].source not in (a, 0)
            and clip_of[a] != clip_of[b]
        ]
        assert len(across) > len(before), "loops are closed between branches"
        counts.append(len(chosen) / len(before))
    assert counts[2] < 1.6 * counts[0], "so many a frame, however many frames"
    trajectory, depth = articulated_plan(2)
    assert (
        len(planned_pairs(trajectory, depth.typical, exhaustive_limit=100)) > 0.9 * 33 * 32 / 2
    ), "few frames that all overlap: all pairs"


def test_what_is_planned_to_look_the_other_way_does_not_overlap():
    start = pinhole(64, 48, 60.0)
    turned = replace(start, world_to_camera=torch.diag(torch.tensor([-1.0, 1, -1, 1]))[None])
    across = turned.map(lambda value: value.clone())
    across.world_to_camera[0, 2, 3] = (
        6.0  # at the other side of what the input sees, looking back at it
    )
    share = view_overlap(Cameras.cat([start, turned, across, start]), 3.0)
    assert share.equal(share.T) and float(share[0, 3]) == 1.0
    assert float(share[0, 1]) == 0 and float(share[0, 2]) == 0


def test_sequences_are_compared_close_in_time_and_with_keyframes():
    camera = pinhole(64, 48, 60.0)
    count = 60
    cameras = Cameras(
        camera.world_to_camera.expand(count, 4, 4),
        camera.intrinsics.expand(count, 3, 3),
        64,
        48,
    )
    trajectory = Trajectory(camera, (Clip("frames", 0, cameras),), "sequence")
    pairs = {tuple(pair) for pair in matching_pairs(trajectory, 1.0, 40, 6, False).tolist()}
    assert all((frame, frame + 1) in pairs for frame in range(count))
    assert all((0, frame) in pairs for frame in range(1, count + 1))
    assert len(pairs) < 0.5 * count * count / 2
    few = matching_pairs(trajectory, 1.0, 100, 6, False)
    assert len(few) == (count + 1) * count // 2


def test_known_cameras_in_any_order_are_paired_by_overlap():
    count = 60
    angle = torch.arange(count) * 2 * torch.pi / count
    eye = 3 * torch.stack([angle.sin(), torch.zeros(count), -angle.cos()], -1)
    down = torch.tensor([0.0, 1.0, 0.0]).expand(count, 3)
    camera = pinhole(128, 96, 120.0)
    intrinsics = camera.intrinsics.expand(count, 3, 3)
    ring = Cameras(look_at(eye, torch.zeros(count, 3), down), intrinsics, 128, 96)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    cameras = ring[order]
    trajectory = Trajectory(cameras[0], (Clip("pictures", 0, cameras[1:]),), "known")
    pairs = order[matching_pairs(trajectory, 3.0, 40, 6, True)]
    apart = (pairs[:, 0] - pairs[:, 1]).abs()
    apart = torch.minimum(apart, count - apart)
    assert int((apart == 1).sum()) == count
    assert int((apart == 2).sum()) == count
    assert len(pairs) < 10 * count
