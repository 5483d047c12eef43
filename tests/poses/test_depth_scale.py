"""Depth of the input in the unit of known cameras."""

import torch

from lift.geometry import pinhole
from lift.poses.sfm.depth_scale import scale_depth_to_cameras, triangulate_depth
from lift.synthetic.scenes import render
from lift.types import Cameras, Depth, Frames


def test_depth_is_brought_into_the_unit_of_known_cameras():
    lens = pinhole(160, 120, 150.0)
    matrices = torch.eye(4).repeat(4, 1, 1)
    matrices[:, 0, 3] = -0.15 * torch.arange(4)
    cameras = Cameras(matrices, lens.intrinsics.repeat(4, 1, 1), 160, 120)
    frames = render("room", cameras)
    true = frames.depth[0]
    known = triangulate_depth(frames, cameras, torch.device("cpu"))
    assert (known > 0).sum() > 50 and (known / true)[known > 0].log().median().abs() < 0.02
    estimate = Depth(1 / (0.3 / true + 0.05), true > 0, "affine-invariant")
    aligned = scale_depth_to_cameras(estimate, frames, cameras, torch.device("cpu"))
    assert aligned.kind == "scale" and (aligned.depth / true).log().abs().median() < 0.05
    plain = Frames(torch.full_like(frames.images, 90))
    assert scale_depth_to_cameras(estimate, plain, cameras, torch.device("cpu")) is None
