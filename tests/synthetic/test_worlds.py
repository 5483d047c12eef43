"""Corrupted scenes: the recorded corruptions are the real ones and the input is correct."""

import numpy as np
import pytest
import torch

from lift.evaluation.lpips import LPIPS
from lift.geometry import look_at, pinhole, pixel_centers, project, rotation_angle
from lift.io.image import save_image
from lift.synthetic.photographs import load_photographs
from lift.synthetic.scenes import render
from lift.synthetic.worlds import CORRUPTION_KINDS, World, corrupt_world, ray_cast_world
from lift.types import Cameras

SIZE = (64, 48)


@pytest.fixture(scope="module")
def world() -> World:
    return ray_cast_world("plain", SIZE, frames=2)


def test_ray_cast_world_frames_and_true_views_share_a_scene(world):
    assert (
        len(world.frames) == len(world.trajectory.cameras) == 33
        and len(world.test_frames) == len(world.test_cameras) == 16
    )
    assert torch.equal(world.test_frames.images, render("plain", world.test_cameras).images)
    pixels, depth = project(world.objects, world.trajectory.start)
    assert (
        len(world.objects) == 6
        and bool((depth > 0).all())
        and bool(((pixels > 0) & (pixels < torch.tensor(SIZE))).all())
    )


def test_no_corruptions_leave_the_world_unchanged(world):
    corrupted = corrupt_world(world, {}, seed=0)
    assert torch.equal(corrupted.frames.images, world.frames.images) and torch.equal(
        corrupted.frames.depth, world.frames.depth
    )
    assert torch.equal(
        corrupted.reconstruction.cameras.world_to_camera, world.trajectory.cameras.world_to_camera
    )
    assert (
        not corrupted.flow.any()
        and not corrupted.log_gain.any()
        and not corrupted.blur_variance.any()
        and not corrupted.bad.any()
    )


@pytest.mark.parametrize("kind", CORRUPTION_KINDS)
def test_each_corruption_kind_is_applied_alone_and_recorded(world, kind):
    size = 4.0 if kind == "bad" else 1.0
    corrupted = corrupt_world(world, {kind: size}, 0)
    again = corrupt_world(world, {kind: size}, 0)
    other = corrupt_world(world, {kind: size}, 1)
    wrong = (corrupted.frames.images.float() - world.frames.images).abs().mean((1, 2, 3))
    cameras = corrupted.reconstruction.cameras
    turned = rotation_angle(
        cameras.world_to_camera[:, :3, :3], world.trajectory.cameras.world_to_camera[:, :3, :3]
    )
    said = {
        "warp": corrupted.flow.abs().sum(),
        "objects": corrupted.flow.abs().sum(),
        "texture": corrupted.flow.abs().sum(),
        "camera": turned.sum(),
        "color": corrupted.log_gain.abs().sum(),
        "blur": corrupted.blur_variance.sum(),
        "bad": corrupted.bad.sum(),
    }
    assert said[kind] > 0
    assert bool(wrong[1:].any()) == (kind != "camera") and bool(turned.any()) == (kind == "camera")
    assert bool(corrupted.log_gain.any()) == (kind == "color") and bool(
        corrupted.blur_variance.any()
    ) == (kind == "blur")
    assert wrong[0] == 0 and turned[0] == 0 and not corrupted.bad[0]
    assert torch.equal(corrupted.frames.images, again.frames.images) and torch.equal(
        cameras.intrinsics, again.reconstruction.cameras.intrinsics
    )
    different = (corrupted.frames.images != other.frames.images).any() or not torch.equal(
        cameras.intrinsics, other.reconstruction.cameras.intrinsics
    )
    assert different or kind == "blur"  # blur has an amount but no direction


def test_recorded_color_blur_and_bad_frames_match_pictures(world):
    def corrupted_from(images, **sizes):
        pictures = type(world.frames)(images.to(torch.uint8), world.frames.depth)
        return corrupt_world(World(**{**vars(world), "frames": pictures}), sizes, seed=0)

    grey = corrupted_from(torch.full((33, *SIZE[::-1], 3), 90.0), color=1.0)
    torch.testing.assert_close(
        grey.frames.images[:, 20, 20] / 90, grey.log_gain.exp(), atol=0.01, rtol=0
    )
    vivid = corrupted_from(torch.tensor([120.0, 90, 60]).expand(33, *SIZE[::-1], 3), color=1.0)
    shown = vivid.frames.images[:, 20, 20] / vivid.log_gain.exp()
    torch.testing.assert_close(
        (shown[:, 0] - shown[:, 2]) / 60, 1 + vivid.saturation, atol=0.02, rtol=0
    )
    dot = torch.zeros(33, *SIZE[::-1], 3)
    dot[:, 24, 31:33] = 255  # an edge would be hidden by rounding, a dot's middle is not
    blurred = corrupted_from(dot, blur=29.0)
    row = blurred.frames.images[:, 18:31, 20:44, 0].float().sum(1)
    at = torch.arange(24) - 11.5
    spread = (row * at**2).sum(1) / row.sum(1) - 0.25
    assert float(blurred.blur_variance.max()) > 2
    torch.testing.assert_close(spread, blurred.blur_variance, atol=0.15, rtol=0.15)
    columns = torch.arange(SIZE[0]).float()[None, None, :, None].expand(33, SIZE[1], -1, 3) * 2 + 60
    bad = corrupted_from(columns, bad=4.0)
    rising = bad.frames.images.float()[:, 24].mean(-1).diff(dim=1).mean(1) > 0
    assert torch.equal(~rising, bad.bad) and 0 < bad.bad.sum() < 33, (
        "bad ones are the wrong way round"
    )


def test_flow_points_to_the_source_of_a_pixel(world):
    """A picture of its own columns and rows, bent, shows where each pixel was."""
    ramp = torch.stack(
        torch.meshgrid(torch.arange(SIZE[1]), torch.arange(SIZE[0]), indexing="ij")[::-1], dim=-1
    )
    images = (
        torch.cat([ramp * 4 % 256, ramp[..., :1] * 0], dim=-1)
        .to(torch.uint8)[None]
        .expand(33, -1, -1, -1)
        .clone()
    )
    marked = World(**{**vars(world), "frames": type(world.frames)(images, world.frames.depth)})
    corrupted = corrupt_world(marked, {"warp": 1.0, "objects": 1.0}, 0)
    inner = (slice(6, -6), slice(6, -6))
    for view in (8, 20, 32):
        came = corrupted.frames.images[view, ..., :2].float() / 4 - ramp
        assert corrupted.flow[view].abs().max() > 0.3
        torch.testing.assert_close(
            came[inner], corrupted.flow[view].permute(1, 2, 0)[inner], atol=0.2, rtol=0
        )


def test_corruptions_grow_along_a_clip_and_jump_between(world):
    flow = corrupt_world(world, {"warp": 1.0}, 0).flow
    size = flow.square().mean((1, 2, 3)).sqrt()
    level = [
        size[list(span)]
        for clip, span in zip(world.trajectory.clips, world.trajectory.spans, strict=False)
        if clip.source
    ]
    assert sum(float(part[-1]) for part in level) > 1.1 * sum(
        float(size[clip.source]) for clip in world.trajectory.clips if clip.source
    )
    # As in generated video, corruptions change most from a clip's source to its first frame.
    spans = [
        (clip.source, span[0], span[1])
        for clip, span in zip(world.trajectory.clips, world.trajectory.spans, strict=False)
        if clip.source
    ]
    relative = flow / size.clamp(min=1e-9)[:, None, None, None]
    jump, step = (
        sum(float((relative[b] - relative[a]).square().mean()) for a, b in pairs)
        for pairs in ([s[:2] for s in spans], [s[1:] for s in spans])
    )
    assert jump > step, "without jumps it is less than two thirds of it"


def test_an_unknown_kind_names_the_choices(world):
    with pytest.raises(ValueError, match="'fog'.*warp, objects"):
        corrupt_world(world, {"fog": 1.0}, 0)


@pytest.mark.slow
def test_photographs_with_cameras_become_a_world(tmp_path):
    """Photographs in the layout of the real ones.

    They are undistorted, the middle view is first, and every fifth is held out.
    """
    k1 = 0.05
    width = 96
    height = 72
    count = 11
    eyes = torch.stack(
        [torch.linspace(-1, 1, count), torch.zeros(count), torch.zeros(count)], dim=-1
    )
    down = torch.tensor([0.0, 1, 0]).expand(count, 3)
    middle = torch.tensor([0.0, 0, 4]).expand(count, 3)
    cameras = Cameras(
        look_at(eyes, middle, down),
        pinhole(width, height, 90.0).intrinsics.repeat(count, 1, 1),
        width,
        height,
    )
    (tmp_path / "images").mkdir()
    wide = render("room", cameras)
    points = torch.tensor([[0.0, 0, 4], [1, 0, 5], [-1, 0.5, 4.5]])
    for view in range(count):
        save_image(tmp_path / "images" / f"{view:02d}.png", wide.images[view])
    common = {
        "w2c": cameras.world_to_camera.double().numpy(),
        "width": width,
        "height": height,
        "names": np.array([f"{v:02d}.png" for v in range(count)]),
    }
    np.savez(
        tmp_path / "cameras.npz",
        K=cameras.intrinsics.double().numpy(),
        k1_simple_radial=0.0,
        **common,
    )
    np.savez(tmp_path / "sparse_points.npz", xyz=points.double().numpy(), rgb=np.full((3, 3), 128))
    straight = load_photographs(tmp_path, (48, 36))
    assert (
        len(straight.frames) + len(straight.test_frames) == count and len(straight.test_frames) == 2
    )
    assert torch.allclose(straight.trajectory.start.centers, eyes[5:6], atol=1e-5)
    shown = render("room", straight.trajectory.cameras)
    assert (straight.frames.rgb - shown.rgb).abs().mean() < 0.02
    given = {
        tuple(center.tolist()) for center in straight.trajectory.cameras.centers.round(decimals=3)
    }
    assert not given & {
        tuple(center.tolist()) for center in straight.test_cameras.centers.round(decimals=3)
    }
    np.savez(
        tmp_path / "cameras.npz",
        K=cameras.intrinsics.double().numpy(),
        k1_simple_radial=k1,
        **common,
    )
    bent = load_photographs(tmp_path, (48, 36))
    assert (bent.frames.rgb - straight.frames.rgb)[:, 14:22, 20:28].abs().mean() < 0.3 * (
        bent.frames.rgb - straight.frames.rgb
    ).abs().mean()
    # What is seen at r comes from k1 r^3 farther out.
    ray = (pixel_centers(48, 36) - torch.tensor([24.0, 18.0])) / 45
    wrong = {}
    for sign in (1, -1):
        at = (
            ray
            * (1 + sign * k1 * ray.square().sum(-1, keepdim=True))
            * 45
            / torch.tensor([24.0, 18.0])
        )
        found = torch.nn.functional.grid_sample(
            straight.frames.rgb.movedim(-1, 1),
            at.expand(len(straight.frames), -1, -1, -1),
            align_corners=False,
        )
        wrong[sign] = float((found.movedim(1, -1) - bent.frames.rgb)[:, 2:-2, 2:-2].abs().mean())
    assert wrong[1] < 0.6 * wrong[-1]
    (tmp_path / "sparse_points.npz").unlink()
    with pytest.raises(FileNotFoundError, match="sparse_points.npz"):
        load_photographs(tmp_path, (48, 36))


def test_lpips_is_the_published_one(shared):
    """Against what the package lpips 0.1.4 gives with the same weights."""
    net = LPIPS.load(shared / "weights" / "lpips_backbones")
    x, y = torch.meshgrid(torch.arange(96.0), torch.arange(64.0), indexing="xy")
    picture = (
        torch.stack([(x * k / 17).sin() * 0.5 + 0.5 for k in (1, 2, 3)], -1)
        * ((y / 9).cos() * 0.3 + 0.7)[..., None]
    )
    assert net(picture, picture) == 0
    assert net(picture, picture.roll(5, 1)) == pytest.approx(0.0951281, abs=1e-6)
    with pytest.raises(ValueError, match=r"\[20, 96, 3\]; choose .* at least 31"):
        net(picture[:20], picture[:20])


def test_missing_lpips_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="alexnet_features.pth"):
        LPIPS.load(tmp_path)
