"""Errors of matches, and pairs that contradict the scene."""

import torch

from lift.poses.sfm.tracks import Matches
from lift.poses.sfm.verification import inconsistent_pairs, sampson_error
from tests.helpers.observations import FOCAL, observed_scene


def test_sampson_measures_pixels():
    truth, seen, _ = observed_scene(frames=2, shown=1.1, noise=0.0, wrong=0.0)
    lens = torch.tensor([[FOCAL, 0, 300.0], [0, FOCAL, 300], [0, 0, 1]], dtype=torch.float64)
    a, b = seen.pixel[seen.frame == 0], seen.pixel[seen.frame == 1]
    moved = truth.translation[1] - truth.rotation[1] @ truth.rotation[0].T @ truth.translation[0]
    essential = torch.linalg.cross(
        moved[:, None].expand(3, 3), truth.rotation[1] @ truth.rotation[0].T, dim=0
    )
    matrix = torch.linalg.inv(lens).T @ essential @ torch.linalg.inv(lens)
    assert float(sampson_error(a, b, matrix).max()) < 1e-6
    line = torch.nn.functional.normalize(
        (torch.cat([a, torch.ones_like(a[:, :1])], -1) @ matrix.T)[:, :2], dim=-1
    )
    off = sampson_error(a, b + 3 * line, matrix)
    assert 1.5 < float(off.median()) < 3.01, (
        "3 pixels off its line in one picture, shared between both"
    )


def test_pairs_that_agree_with_nothing_are_reported():
    truth, seen, _ = observed_scene(frames=3, shown=1.1, noise=0.2, wrong=0.0)
    keypoints = [seen.pixel[seen.frame == frame] for frame in range(3)]
    every = torch.arange(400)
    right = Matches(0, 1, torch.stack([every, every], -1), torch.ones(400))
    wrong = Matches(1, 2, torch.stack([every, every.roll(7)], -1), torch.ones(400))
    assert inconsistent_pairs(truth, [right, wrong], keypoints, 4.0) == [(1, 2)]
