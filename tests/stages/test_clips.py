"""Seeds of the clips of a tree."""

import torch

from lift.geometry import pinhole
from lift.planners.articulated import Articulated
from lift.priors.warp import Warp
from lift.stages.clips import clip_seeds
from lift.types import Depth

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
