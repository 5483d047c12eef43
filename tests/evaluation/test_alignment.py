"""Alignment of a lifted scene with the true cameras."""

from dataclasses import replace

import pytest
import torch

from lift.evaluation.alignment import (
    SCALE_FACTORS,
    align_to_input,
    align_views,
    check_alignment,
    median_scale,
    sweep_scale,
)
from lift.evaluation.case import crop_to_multiple
from lift.evaluation.protocol import sparse_depth
from lift.geometry import pinhole, rotation_from_vector, transform_cameras
from lift.synthetic.scenes import render
from tests.helpers.room_captures import SIMILARITY, SIZE, room_capture


@pytest.mark.parametrize("measured", [True, False])
def test_one_scale_brings_a_lifted_scene_to_the_true_cameras(measured):
    capture = room_capture(SIMILARITY, measured)
    camera = crop_to_multiple(capture.inner_camera(0, SIZE))
    lifted = (
        0.4 * render("room", pinhole(SIZE, SIZE * 3 // 4, 0.9 * SIZE)).depth[0]
    )  # the same scene in a unit of its own
    known = capture.load_view(0, camera).depth[0] if measured else sparse_depth(capture, camera)
    assert (known > 0).float().mean() > (0.99 if measured else 0.005)
    scale = median_scale(lifted, known)
    assert scale == pytest.approx(0.4 / 2.5, rel=1e-3 if measured else 0.02)
    aligned = align_to_input(camera, scale)(capture.cameras)
    truth = room_capture().cameras
    assert torch.allclose(
        aligned.world_to_camera[:, :3, :3], truth.world_to_camera[:, :3, :3], atol=1e-5
    )
    assert torch.allclose(
        aligned.centers,
        0.4 * truth.centers,
        atol=0.02 * 0.4 * float(truth.centers.norm(dim=-1).max()),
    )
    assert median_scale(lifted, torch.zeros_like(known)) is None
    check_alignment("sweep", torch.zeros_like(known), "room")
    with pytest.raises(
        ValueError,
        match=(
            "protocol.align is median_depth, but nothing is known of the depth of room: "
            ".*; choose sweep, similarity or none"
        ),
    ):
        check_alignment("median_depth", torch.zeros_like(known), "room")


@pytest.mark.slow
def test_similarity_is_estimated_from_matched_views():
    capture = room_capture(SIMILARITY)
    camera = crop_to_multiple(capture.inner_camera(0, SIZE))
    start = replace(camera, world_to_camera=torch.eye(4)[None])
    true = render("room", start)
    images = [
        capture.load_view(view, capture.inner_camera(view, SIZE)).images[0] for view in range(1, 9)
    ]
    # The input's camera of the dataset is wrong: only a similarity can tell.
    turned = transform_cameras(
        camera, 1.0, rotation_from_vector(torch.tensor([0.0, 0.05, 0.0])), torch.zeros(3)
    )
    found = align_views(
        capture.cameras[list(range(1, 9))],
        images,
        true.images[0],
        start,
        0.4 * true.depth[0],
        turned,
    )
    aligned, truth = found(capture.cameras), room_capture().cameras
    assert found.scale == pytest.approx(0.4 / 2.5, rel=0.02) and found.details["registered"] >= 7
    off = (aligned.centers - 0.4 * truth.centers).norm(dim=-1) / (0.4 * float(true.depth.median()))
    assert off.max() < 0.02 and found.details["position"] < 0.01 and found.details["rotation"] < 0.5
    with pytest.raises(
        ValueError,
        match="only 0 of 2 views share enough with the input to be registered; choose median_depth",
    ):
        align_views(
            capture.cameras[[1, 2]],
            [torch.zeros(144, 192, 3, dtype=torch.uint8)] * 2,
            true.images[0],
            start,
            true.depth[0],
            camera,
        )


def test_a_sweep_takes_the_best_factor():
    camera = pinhole(64, 64, 60.0)
    best = sweep_scale(camera, 3.0, lambda alignment: -abs(alignment.scale - 3.0 * 1.4))
    assert (
        best.details["factor"] == 1.4
        and best.scale == pytest.approx(4.2)
        and 1.0 in SCALE_FACTORS
        and len(SCALE_FACTORS) == 20
        and (SCALE_FACTORS[0], SCALE_FACTORS[-1]) == (0.1, 2.0)
    )
