"""Cameras that an evaluation crops."""

import pytest
import torch

from lift.config.evaluation_schema import Protocol
from lift.evaluation.case import Case, crop_to_multiple
from lift.evaluation.datasets import datasets
from lift.evaluation.truth import truth_of
from lift.geometry import pinhole
from lift.io.image import load_picture


def test_view_of_another_aspect_covers_the_input_shape():
    wide, tall = pinhole(100, 75, 90.0), pinhole(75, 100, 90.0)
    like = crop_to_multiple(wide)
    assert (
        (like.width, like.height) == (96, 72)
        and like.intrinsics[0, 0, 0] == 90
        and like.intrinsics[0, 0, 2] == 48
    )
    made = crop_to_multiple(tall, like)
    assert (made.width, made.height) == (96, 72) and made.intrinsics[0, 0, 0] == pytest.approx(
        90 * 96 / 75
    )


def test_input_and_targets_are_cropped_to_the_shape_of_a_prior():
    dataset = datasets.build({"name": "ray_cast", "size": (64, 64), "angles": (4.0,)})
    capture = dataset.capture("plain")
    protocol = Protocol(input="first", max_targets=1)
    whole = Case.load(capture, protocol, 64)
    cropped = Case.load(capture, protocol, 64, lambda *_: ((16, 9), "because"))
    assert cropped.image.equal(whole.image[16:48]) and cropped.image.shape == (32, 64, 3)
    difference = cropped.truth.images.int() - whole.truth.images[:, 16:48].int()
    assert cropped.truth.images.shape == (1, 32, 64, 3)
    assert float(difference.float().abs().mean()) < 0.1
    assert cropped.true_depth.allclose(whole.true_depth[16:48], atol=1e-3)
    assert cropped.target_cameras.intrinsics[0, 1, 2] == 16
    assert cropped.notes["cropped input and targets"] == "because"


def test_the_right_photograph_is_cropped_like_the_left_one():
    left = load_picture("motorcycle_left", 184, 55.0, lambda *_: ((16, 9), ""))
    truth = truth_of("motorcycle_left", left, left.cameras)
    assert truth is not None
    assert truth.frames.images.shape == left.frames.images.shape
    # Rectified: rows agree, so the principal points have the same height.
    torch.testing.assert_close(
        truth.cameras.intrinsics[0, 1, 2], left.cameras.intrinsics[0, 1, 2], atol=0.05, rtol=0
    )
