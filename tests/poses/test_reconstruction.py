"""The confidence of reconstructed depth."""

import torch

from lift.poses.sfm.reconstruction import match_support


def test_support_is_low_where_nothing_was_found_again():
    g = torch.Generator().manual_seed(0)
    points = torch.rand(3000, 2, generator=g) * torch.tensor([320.0, 240.0])
    again = points[(points[:, 0] < 200) & (torch.rand(3000, generator=g) < 0.5)]
    share = match_support(points, again, 320, 240)
    assert share.shape == (240, 320) and float(share.min()) >= 0 and float(share.max()) <= 1
    assert float(share[:, :150].mean()) > 0.9 and float(share[:, 270:].mean()) < 0.3
    assert float(match_support(points, points[:0], 320, 240).max()) == 0
