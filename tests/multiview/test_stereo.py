"""Multi-view stereo on a ray-cast scene, whose depth is known."""

import importlib
import math
from dataclasses import replace

import pytest
import torch

from lift.geometry import look_at, pinhole, rigid
from lift.multiview.depth_alignment import track_depth
from lift.multiview.stereo import (
    MARGIN,
    MIN_POINT_CONFIDENCE,
    _ranges,
    plane_depths,
    refine_depth,
    select_neighbours,
)
from lift.multiview.stereo.fusion import count_confirmations, diffuse_values, find_contradictions
from lift.multiview.stereo.sweep import sweep
from lift.synthetic import scenes
from lift.types import Cameras, Frames, PointCloud, Reconstruction

SIZE = 128

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]

sweep_module = importlib.import_module("lift.multiview.stereo.sweep")  # a function has its name


@pytest.fixture(scope="module")
def captured():
    """Seven views of a room along an arc, with their true depth."""
    camera = pinhole(SIZE, SIZE, SIZE / 2 / math.tan(math.radians(55) / 2))
    moves = torch.linspace(-0.3, 0.3, 7)
    translations = torch.stack([moves, 0.1 * moves.abs(), torch.zeros(7)], -1)
    world = rigid(torch.eye(3).expand(7, 3, 3), -translations)
    cameras = replace(camera, world_to_camera=world, intrinsics=camera.intrinsics.expand(7, 3, 3))
    order = [3, 0, 1, 2, 4, 5, 6]
    cameras = cameras[order]
    views = [scenes.render("room", cameras[view]) for view in range(7)]
    return cameras, Frames.cat(views)


def guess(cameras: Cameras, frames: Frames, ratio: torch.Tensor | float = 1.5) -> Reconstruction:
    """What single pictures tell: the true depth times a ratio, and a few triangulated points."""
    depth = frames.depth * ratio
    tracks = torch.zeros_like(depth)
    tracks[:, 4::9, 4::9] = frames.depth[:, 4::9, 4::9]
    cloud = PointCloud(torch.zeros(1, 3), torch.zeros(1, 3))
    return Reconstruction(cameras, cloud, depth, torch.full_like(depth, 0.2), tracks)


def test_refined_depth_is_within_two_percent_of_the_truth(captured):
    cameras, frames = captured
    found = refine_depth(Frames(frames.images), guess(cameras, frames), long_side=SIZE)
    error = (found.depth / frames.depth).log().abs()
    sure = found.confidence > 0.5
    assert float(sure.float().mean()) > 0.5
    assert float(error[sure].median()) < 0.02
    assert float((error[sure] > 0.1).float().mean()) < 0.1


@pytest.mark.slow
def test_depth_of_single_pictures_follows_the_stereo_locally(captured):
    cameras, frames = captured
    ramp = torch.linspace(0.7, 1.8, SIZE).expand(SIZE, SIZE)
    found = refine_depth(Frames(frames.images), guess(cameras, frames, ramp), long_side=SIZE)
    unsure = found.confidence < 0.5
    error = (found.depth / frames.depth).log().abs()
    before = ramp.log().abs().expand_as(error)
    assert float(error[unsure].median()) < 0.5 * float(before[unsure].median())


def test_every_pixel_of_a_registered_frame_keeps_depth(captured):
    cameras, frames = captured
    found = refine_depth(Frames(frames.images), guess(cameras, frames), long_side=SIZE // 2)
    assert bool((found.depth > 0).all())
    assert len(found.points) > 0.5 * found.depth.numel()


def test_two_views_prove_depth_together(captured):
    cameras, frames = captured
    pair = [1, 6]
    own = Frames(frames.images[pair], frames.depth[pair])
    found = refine_depth(Frames(own.images), guess(cameras[pair], own), long_side=SIZE)
    sure = found.confidence > 0.5
    error = (found.depth / own.depth).log().abs()
    assert float(sure.float().mean()) > 0.5
    assert float(error[sure].median()) < 0.03
    assert len(found.points) > 0.5 * found.depth.numel()


def test_frames_without_parallax_keep_their_depth(captured):
    cameras, frames = captured
    still = Frames(frames.images[:1].repeat(7, 1, 1, 1), frames.depth[:1].repeat(7, 1, 1))
    given = guess(cameras[[0] * 7], still)
    found = refine_depth(Frames(still.images), given, long_side=SIZE // 2)
    assert torch.equal(found.depth, given.depth)
    assert len(found.points) == found.depth.numel()


def test_frames_without_triangulated_points_keep_their_depth(captured):
    cameras, frames = captured
    given = guess(cameras, frames)
    given = replace(given, tracks=torch.zeros_like(given.tracks))
    found = refine_depth(Frames(frames.images), given, long_side=SIZE // 2)
    assert torch.equal(found.depth, given.depth)
    assert len(found.points) == found.depth.numel()


def test_a_view_of_unknown_unit_adds_no_points(captured):
    cameras, frames = captured
    images = frames.images.clone()
    images[6] = 128
    given = guess(cameras, frames)
    depth, tracks = given.depth.clone(), given.tracks.clone()
    depth[6] *= 10
    tracks[6] = 0
    given = replace(given, depth=depth, tracks=tracks)
    found = refine_depth(Frames(images), given, long_side=SIZE // 2)
    assert bool((found.confidence[6] > 0).all())
    assert float((found.confidence[6] < MIN_POINT_CONFIDENCE).float().mean()) > 0.9


@pytest.mark.slow
def test_compiled_and_torch_sweeps_agree(captured):
    from lift.multiview.stereo import sweep as package  # noqa: F401
    from lift.multiview.stereo.sweep import _aggregate, _choose, _volume, plane_geometry

    cameras, frames = captured
    small = cameras.resized(64, 64)
    grey = torch.nn.functional.interpolate(
        frames.images.float().mean(-1)[:, None] / 255, (64, 64), mode="area"
    )[:, 0]
    typical = frames.depth.flatten(1).median(1).values
    neighbours = select_neighbours(small, typical)
    near = frames.depth.flatten(1).amin(1) / 1.2
    far = frames.depth.flatten(1).amax(1) * 1.2
    planes = plane_depths(small, neighbours, near, far)
    inverse, cost = sweep(grey, small, neighbours, planes)
    homographies, offsets = plane_geometry(small, neighbours)
    for view in (0, 3):
        volume = _volume(
            grey, homographies[view], offsets[view], neighbours[view], planes[view], view
        )
        theirs, costs = _choose(_aggregate(volume[None], grey[view][None])[0], volume, planes[view])
        same = (inverse[view] - theirs).abs() < 0.02 * theirs
        assert float(same.float().mean()) > 0.98
        assert float((cost[view] - costs)[same].abs().median()) < 1e-3


def test_neighbours_confirm_true_depth_and_not_a_wrong_one(captured):
    cameras, frames = captured
    neighbours = torch.tensor([[k for k in range(7) if k != view][:4] for view in range(7)])
    right = count_confirmations(frames.depth, cameras, neighbours)
    wrong = frames.depth.clone()
    wrong[0] *= 1.15
    assert float(right[0].median()) > 2
    assert float(count_confirmations(wrong, cameras, neighbours)[0].median()) < 0.5
    assert (
        float(
            find_contradictions(frames.depth, torch.ones_like(frames.depth), cameras, neighbours)[
                0
            ].mean()
        )
        < 0.1
    )
    near = frames.depth.clone()
    near[0] *= 0.7
    assert (
        float(find_contradictions(near, torch.ones_like(near), cameras, neighbours)[0].mean()) > 0.8
    )


def test_spread_continues_known_values_smoothly():
    values = torch.zeros(1, 32, 48)
    weight = torch.zeros(1, 32, 48)
    values[:, :, :4] = 1.0
    values[:, :, -4:] = 3.0
    weight[:, :, :4] = 1.0
    weight[:, :, -4:] = 1.0
    out = diffuse_values(values, weight)
    assert torch.allclose(out[:, :, 0], torch.ones(1, 32), atol=0.1)
    assert torch.allclose(out[:, :, -1], torch.full((1, 32), 3.0), atol=0.2)
    assert 1.3 < float(out[:, :, 22:26].mean()) < 2.7
    assert not diffuse_values(values, torch.zeros_like(weight)).any()


def test_neighbours_are_wide_enough_and_not_the_view_itself():
    camera = pinhole(64, 64, 60.0)
    eyes = torch.stack([torch.linspace(0, 1, 11), torch.zeros(11), torch.zeros(11)], -1)
    target = torch.tensor([0.5, 0.0, 4.0]).expand(11, 3)
    world = look_at(eyes, target, torch.tensor([0.0, 1.0, 0.0]).expand(11, 3))
    cameras = replace(camera, world_to_camera=world, intrinsics=camera.intrinsics.expand(11, 3, 3))
    found = select_neighbours(cameras, torch.full((11,), 4.0), count=3)
    assert not (found == torch.arange(11)[:, None]).any()
    assert (found[0] >= 2).all()


def test_tracks_become_sparse_depth():
    camera = pinhole(16, 16, 16.0)
    depth = track_depth(torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, -1.0]]), camera)
    assert float(depth[8, 8]) == 2.0
    assert int((depth > 0).sum()) == 1


@pytest.mark.gpu
def test_the_sweep_on_a_gpu_finds_what_it_finds_on_the_cpu(captured, cuda):
    cameras, frames = captured
    given = guess(cameras, frames)
    own = refine_depth(Frames(frames.images), given, long_side=SIZE)
    theirs = refine_depth(Frames(frames.images), given, long_side=SIZE, device=cuda)
    both = (own.confidence > 0.5) & (theirs.confidence > 0.5)
    same = ((own.depth / theirs.depth).log().abs() < 0.01)[both]
    assert float(both.float().mean()) > 0.5
    assert float(same.float().mean()) > 0.97


def small_sweep(cameras):
    """Neighbours and planes of the captured views."""
    count = len(cameras)
    neighbours = select_neighbours(cameras, torch.full((count,), 4.0))
    planes = plane_depths(cameras, neighbours, torch.full((count,), 2.0), torch.full((count,), 8.0))
    return neighbours, planes


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_the_sweep_of_torch_finds_what_compiled_loops_find(
    captured, device, batch_size, monkeypatch
):
    cameras, frames = captured
    neighbours, planes = small_sweep(cameras)
    grey = frames.images.float().mean(-1) / 255
    costs = batch_size * planes.shape[1] * grey[0].numel()
    monkeypatch.setattr(sweep_module, "_max_batch_costs", lambda device: costs)
    expected = sweep_module.sweep(grey, cameras, neighbours, planes)
    geometry = sweep_module.plane_geometry(cameras, neighbours)
    arguments = (value.to(device) for value in (grey, *geometry, neighbours, planes))
    found = sweep_module.sweep_torch(*arguments)
    inverse, cost = (own.cpu() for own in found)
    assert found[0].device.type == device
    assert float((cost - expected[1]).abs().median()) < 1e-4
    # In uniform regions all planes match, and rounding decides.
    sure = (cost < 0.3) & (expected[1] < 0.3)
    same = (inverse - expected[0]).abs() < 1e-3
    assert float(sure.float().mean()) > 0.5
    assert float(same[sure].float().mean()) > 0.97


@pytest.mark.parametrize("device", DEVICES)
def test_fusion_is_alike_on_all_devices(captured, device):
    cameras, frames = captured
    neighbours, _ = small_sweep(cameras)
    depth = frames.depth
    weight = torch.rand(depth.shape, generator=torch.Generator().manual_seed(0))
    other = cameras.to(device), neighbours.to(device)
    counts = count_confirmations(depth.to(device), *other).cpu()
    contradictions = find_contradictions(depth.to(device), weight.to(device), *other).cpu()
    for view in range(len(cameras)):  # compared with one neighbour at a time
        single = [
            (
                count_confirmations(depth, cameras, neighbours[:, k : k + 1])[view],
                find_contradictions(depth, weight, cameras, neighbours[:, k : k + 1])[view],
            )
            for k in range(neighbours.shape[1])
        ]
        agreements, largest = (torch.stack(maps) for maps in zip(*single, strict=True))
        # A point at the border of a pixel may change sides on a GPU.
        for found, expected in (
            (counts[view], agreements.sum(0)),
            (contradictions[view], largest.amax(0)),
        ):
            same = (found - expected).abs() < 1e-3
            assert float(same.float().mean()) > (0.99 if device == "cuda" else 0.9999)


def test_ranges_are_quantiles_of_the_pixels_with_points():
    generator = torch.Generator().manual_seed(0)
    tracks = torch.rand(3, 40, 50, generator=generator) + 1
    tracks[torch.rand(3, 40, 50, generator=generator) < 0.9] = 0
    tracks[1] = 0
    known = torch.where(tracks > 0, tracks, torch.nan).flatten(1)
    nearest, farthest, typical = _ranges(tracks)
    for k in (0, 2):
        assert float(nearest[k]) == float(known[k].nanquantile(0.01) / MARGIN)
        assert float(farthest[k]) == float(known[k].nanquantile(0.99) * MARGIN)
        assert float(typical[k]) == float(known[k].nanmedian())
    assert float(typical[1]) == float(typical[[0, 2]].min()), "a view without points takes others'"
