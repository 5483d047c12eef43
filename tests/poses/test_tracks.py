"""Tracks of matches across frames."""

import torch

from lift.poses.sfm.tracks import Matches, build_tracks, thin_observations
from tests.helpers.observations import observed_scene


def test_chains_show_a_frame_once_and_the_surest_first():
    keypoints = [torch.rand(3, 2) * 100 for _ in range(3)]
    pairs = [
        Matches(0, 1, torch.tensor([[0, 0], [1, 1]]), torch.tensor([0.9, 0.8])),
        Matches(1, 2, torch.tensor([[0, 0], [1, 1]]), torch.tensor([0.9, 0.8])),
        Matches(
            0, 2, torch.tensor([[0, 1], [2, 2]]), torch.tensor([0.5, 0.7])
        ),  # the first would bring two points of a frame together
    ]
    seen = build_tracks(keypoints, pairs)
    chains = sorted(
        tuple(sorted(seen.frame[seen.point == p].tolist())) for p in seen.point.unique()
    )
    assert chains == [(0, 1, 2), (0, 1, 2), (0, 2)]
    for point in seen.point.unique():
        own = seen.frame[seen.point == point]
        assert len(own) == len(own.unique())
    assert len(build_tracks(keypoints, [])) == 0


def test_thinning_leaves_each_frame_what_it_needs():
    _, seen, _ = observed_scene(points=2000)
    few = thin_observations(seen, 50)
    assert len(few) < 0.4 * len(seen)
    assert int(torch.bincount(few.frame, minlength=12).min()) >= 50
    before = torch.bincount(seen.point).double().mean()
    assert float(torch.bincount(few.point).double().mean()) > float(before), "the longest stay"
