"""The protocol of an evaluation: the choice of views, known depth and visible regions."""

import json
import math
from dataclasses import replace

import pytest
import torch
from omegaconf import OmegaConf

from lift.config import Protocol
from lift.evaluation.alignment import median_scale
from lift.evaluation.case import crop_to_multiple
from lift.evaluation.datasets import CalibratedCapture
from lift.evaluation.protocol import (
    rescale_depth,
    select_views,
    sparse_depth,
    triangulate_depth,
    visible_pixels,
)
from lift.geometry import pinhole, project, unproject
from lift.io.files import is_inside
from lift.types import Cameras, Depth, Frames, PointCloud
from tests.helpers.room_captures import SIMILARITY, SIZE, room_capture


def protocol_settings(**settings) -> OmegaConf:
    return OmegaConf.merge(OmegaConf.structured(Protocol), settings)


def test_input_and_targets_follow_rule_name_or_file(tmp_path):
    capture = replace(room_capture(), folder=tmp_path)
    middle = (capture.cameras.centers - capture.cameras.centers.mean(0)).norm(dim=-1).argmin()
    first, others = select_views(capture, protocol_settings())
    assert first == int(middle) and others == [view for view in range(9) if view != first]
    assert select_views(capture, protocol_settings(input="first", targets="every_8")) == (0, [8])
    assert (
        select_views(capture, protocol_settings(input="003.png"))[0]
        == select_views(capture, protocol_settings(input="003"))[0]
        == select_views(capture, protocol_settings(input="3"))[0]
        == 3
    )
    assert select_views(capture, protocol_settings(input="first", max_targets=3)) == (0, [1, 5, 8])
    assert select_views(capture, protocol_settings(input="first", targets="every_3")) == (0, [3, 6])
    named = replace(capture, views=tuple(f"images/{view}" for view in capture.views))
    assert (
        select_views(named, protocol_settings(input="003.png"))[0]
        == select_views(named, protocol_settings(input="images/003.png"))[0]
        == 3
    )
    (tmp_path / "split.json").write_text(json.dumps({"train_ids": [2], "test_ids": [5, 7]}))
    assert select_views(capture, protocol_settings(targets="split.json")) == (2, [5, 7])
    (tmp_path / "named.json").write_text(
        json.dumps({"room": {"input": "001.png", "targets": ["008.png", "001.png"]}})
    )
    assert select_views(capture, protocol_settings(targets=str(tmp_path / "named.json"))) == (
        1,
        [8],
    )
    (tmp_path / "bad.json").write_text("[1, 2")
    (tmp_path / "two.json").write_text(json.dumps({"train_ids": [2, 3], "test_ids": [5]}))
    for settings, says in (
        (
            {"input": "009.png"},
            (
                "protocol.input is '009.png', no view of room; choose middle, first, 0 "
                "to 8, or one of 000.png"
            ),
        ),
        (
            {"targets": "none.json"},
            (
                "protocol.targets is 'none.json'; choose all, every_N, or a JSON file; "
                "there is none at .*"
            ),
        ),
        ({"targets": "bad.json"}, "bad.json is no split"),
        ({"targets": "two.json"}, "names 2 input views of room"),
        (
            {"input": "0", "targets": str(tmp_path / "own.json")},
            "leaves no view of room but the input",
        ),
    ):
        (tmp_path / "own.json").write_text(json.dumps({"targets": [0]}))
        with pytest.raises((ValueError, FileNotFoundError), match=says):
            select_views(capture, protocol_settings(**settings))


def test_a_split_outside_of_the_dataset_needs_permission(tmp_path):
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    capture = replace(
        room_capture(), folder=dataset, is_allowed=lambda path: is_inside(path, [dataset])
    )
    outside = tmp_path / "split.json"
    outside.write_text(json.dumps({"targets": [5]}))
    (dataset / "link.json").symlink_to(outside)
    for name in (str(outside), "../split.json", "link.json"):
        with pytest.raises(PermissionError, match="protocol.targets is .*allow_outside=true"):
            select_views(capture, protocol_settings(targets=name))
    (dataset / "own.json").write_text(outside.read_text())
    for name, rule in (("own.json", capture.is_allowed), (str(outside), lambda path: True)):
        scene = replace(capture, is_allowed=rule)
        assert select_views(scene, protocol_settings(targets=name))[1] == [5]


def test_nearest_point_gives_the_depth_with_any_threads():
    camera = pinhole(64, 64, 60.0)
    z = 1 + 9 * torch.rand(100_000)
    places = torch.stack(
        [(torch.rand(len(z)) - 0.5) * 1.2 * z, (torch.rand(len(z)) - 0.5) * 1.2 * z, z], -1
    )
    behind = torch.tensor([[0.0, 0, -1]])
    points = PointCloud(torch.cat([places, behind]), torch.zeros(len(z) + 1, 3))
    capture = CalibratedCapture(
        "x",
        ("a",),
        camera,
        lambda view, side: camera,
        lambda view, target: Frames(torch.zeros(1, 64, 64, 3, dtype=torch.uint8)),
        points,
    )
    pixels, depth = project(points.points, camera)
    truth = torch.full((64, 64), math.inf)
    for (x, y), far in zip(pixels[0].floor().long().tolist(), depth[0].tolist(), strict=True):
        if 0 <= x < 64 and 0 <= y < 64 and far > 0:
            truth[y, x] = min(truth[y, x], far)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            assert torch.equal(sparse_depth(capture, camera), truth.where(truth.isfinite(), 0))
    finally:
        torch.set_num_threads(threads)
    assert not sparse_depth(replace(capture, points=None), camera).any()


@pytest.mark.slow
def test_matches_give_the_input_depth_without_points():
    capture = room_capture(SIMILARITY)
    camera, others = (
        crop_to_multiple(capture.inner_camera(0, SIZE)),
        Cameras.cat([capture.inner_camera(view, SIZE) for view in range(1, 9)]),
    )
    image, truth = (
        capture.load_view(0, camera),
        torch.cat([capture.load_view(view, others[view - 1]).images for view in range(1, 9)]),
    )
    known = triangulate_depth(camera, image.images[0], others, truth)
    there = known > 0
    off = (known[there] / image.depth[0][there] - 1).abs()
    assert there.sum() > 100 and off.median() < 0.03 and off.quantile(0.8) < 0.1
    assert median_scale(0.4 / 2.5 * image.depth[0], known) == pytest.approx(0.16, rel=0.01)
    assert torch.equal(known, triangulate_depth(camera, image.images[0], others, truth))
    assert not triangulate_depth(
        camera, image.images[0], Cameras.cat([camera, camera]), image.images.expand(2, -1, -1, -1)
    ).any(), "no parallax, no depth"


@pytest.mark.slow
def test_visible_region_is_what_the_input_surface_covers():
    capture = room_capture(SIMILARITY)
    camera, targets = crop_to_multiple(capture.inner_camera(0, SIZE)), capture.cameras
    targets = Cameras.cat([capture.inner_camera(view, SIZE) for view in range(9)])
    image = capture.load_view(0, camera).images[0]
    from_first = capture.load_view(0, camera).depth[0]
    seen = visible_pixels(camera, image, Depth(from_first, from_first > 0, "scale"), targets)
    assert seen[0].all()
    agree = []
    for view in range(
        1, 9
    ):  # truly: the point of a pixel lies in the input, as near as what the input shows there
        depth = capture.load_view(view, targets[view]).depth
        pixels, z = project(unproject(depth, targets[view])[0].reshape(-1, 3), camera)
        column, row = pixels[0].floor().long().unbind(-1)
        inside = (
            (column >= 0)
            & (column < camera.width)
            & (row >= 0)
            & (row < camera.height)
            & (z[0] > 0)
        )
        near = from_first[row.clamp(0, camera.height - 1), column.clamp(0, camera.width - 1)]
        truly = (inside & ((z[0] / near - 1).abs() < 0.03)).view(seen[view].shape)
        agree.append(float((truly == seen[view]).float().mean()))
        assert 0.3 < truly.float().mean() < 0.999
    assert min(agree) > 0.93, agree


def test_reference_depth_is_scaled_to_dataset_or_scene():
    guess = Depth(torch.rand(20, 20) + 1, torch.ones(20, 20, dtype=torch.bool), "scale")
    known = (3 * guess.depth) * (torch.rand(20, 20) > 0.9)
    assert torch.allclose(
        rescale_depth(guess, known, torch.zeros(20, 20), 1.0).depth, 3 * guess.depth
    )
    lifted = 0.5 * guess.depth  # by a lifted scene whose lengths are a quarter of the dataset's
    assert torch.allclose(
        rescale_depth(guess, torch.zeros(20, 20), lifted, 0.25).depth, 2 * guess.depth
    )
    assert torch.equal(
        rescale_depth(guess, torch.zeros(20, 20), torch.zeros(20, 20), 0.25).depth, guess.depth
    )
