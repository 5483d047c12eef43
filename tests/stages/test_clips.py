"""Seeds of the clips of a tree."""

import torch

from lift.geometry import pinhole
from lift.planners.articulated import Articulated
from lift.priors.warp import Warp
from lift.stages.clips import FrameHistory, clip_seeds
from lift.types import Depth, Frames

CAMERA = pinhole(64, 48, 60.0)
DEPTH = Depth(torch.full((48, 64), 5.0), torch.ones(48, 64, dtype=torch.bool), "scale")
PLAN = Articulated(2, ("right", "up"), num_frames=2)(CAMERA, DEPTH, None)
PRIOR = object.__new__(Warp)


def test_each_clip_has_its_own_seed() -> None:
    assert clip_seeds(PRIOR, PLAN, 42) == [42, 43, 44, 45, 46, 47]


def test_clips_of_one_frame_count_from_the_seed() -> None:
    prior = object.__new__(Warp)
    prior.seed_scope = "source"
    # right, up; right/right, right/up; up/right, up/up
    assert clip_seeds(prior, PLAN, 42) == [42, 43, 42, 43, 42, 43]


def frames(first: int, count: int, has_depth: bool = True) -> Frames:
    numbers = torch.arange(first, first + count)
    images = numbers.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 2, 2, 3).contiguous()
    return Frames(images, numbers.float().view(-1, 1, 1).expand(-1, 2, 2) if has_depth else None)


def shown(joined: Frames) -> list[int]:
    if joined.depth is not None:
        assert torch.equal(joined.depth[:, 0, 0], joined.images[:, 0, 0, 0].float())
    return joined.images[:, 0, 0, 0].tolist()


def test_frames_of_a_chain_are_joined_without_copies() -> None:
    clips = {0: frames(1, 2), 1: frames(3, 1), 2: frames(4, 2)}
    history = FrameHistory(frames(0, 1), 6)
    first = history.join([0], clips)
    second = history.join([0, 1], clips)
    assert shown(first) == [0, 1, 2] and shown(second) == [0, 1, 2, 3]
    assert second.images.data_ptr() == first.images.data_ptr()
    assert shown(history.join(range(3), clips)) == [0, 1, 2, 3, 4, 5]
    assert shown(first) == [0, 1, 2]


def test_another_branch_leaves_joined_frames_as_they_are() -> None:
    clips = {0: frames(1, 2), 1: frames(3, 1), 2: frames(4, 2)}
    history = FrameHistory(frames(0, 1), 6)
    first = history.join([0, 1], clips)
    assert shown(history.join([2], clips)) == [0, 4, 5]
    assert shown(history.join([0, 2], clips)) == [0, 1, 2, 4, 5]
    assert shown(first) == [0, 1, 2, 3]
    assert shown(history.join([0, 1, 2], clips)) == [0, 1, 2, 3, 4, 5]


def test_frames_without_depth_leave_the_others_without() -> None:
    clips = {0: frames(1, 2), 1: frames(3, 1, has_depth=False)}
    history = FrameHistory(frames(0, 1), 4)
    assert history.join([0], clips).depth is not None
    joined = history.join([0, 1], clips)
    assert joined.depth is None and shown(joined) == [0, 1, 2, 3]
