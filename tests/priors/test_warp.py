"""The warp prior compared with the views that geometry predicts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lift.depths import depths
from lift.depths.edges import SharpenedDepth, sharpen_depth
from lift.geometry import look_at, pinhole, rigid
from lift.io.image import load_picture
from lift.priors import priors
from lift.types import Cameras, Clip, Depth, Frames
from lift.warping import fill_network
from lift.warping.fill import fill_behind, fill_with_network, push_pull

WIDTH, HEIGHT, FOCAL = 128, 96, 110.0
NEAR, FAR = 2.0, 4.0


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * ((a.float() - b.float()) / 255).square().mean().log10())


def texture(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Smooth green and blue over a plane, never red."""
    green = 128 + 60 * torch.sin(9 * x) * torch.cos(7 * y) + 30 * torch.sin(23 * x + 5 * y)
    blue = 128 + 80 * torch.cos(6 * x + 8 * y)
    return torch.stack([torch.zeros_like(x), green, blue], dim=-1)


def moved(*shifts: tuple[float, float, float]) -> Cameras:
    """Cameras that look along z from the given places."""
    start = pinhole(WIDTH, HEIGHT, FOCAL)
    matrices = torch.stack([rigid(torch.eye(3), -torch.tensor(shift)) for shift in shifts])
    return replace(
        start, world_to_camera=matrices, intrinsics=start.intrinsics.expand(len(shifts), 3, 3)
    )


def stage(
    shift: tuple[float, float, float], square: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Truth: a textured wall at FAR behind a red square at NEAR, from a shifted camera."""
    x = (torch.arange(WIDTH) + 0.5 - WIDTH / 2).repeat(HEIGHT, 1) / FOCAL
    y = (torch.arange(HEIGHT) + 0.5 - HEIGHT / 2)[:, None].expand(-1, WIDTH) / FOCAL
    far, near = FAR - shift[2], NEAR - shift[2]
    image = texture(x * far + shift[0], y * far + shift[1])
    depth = torch.full((HEIGHT, WIDTH), far)
    if square:
        inside = ((x * near + shift[0]).abs() < 0.4) & ((y * near + shift[1]).abs() < 0.3)
        image[inside] = torch.tensor([220.0, 20.0, 20.0])
        depth[inside] = near
    return image.round().to(torch.uint8), depth


def away_from_square(depth: torch.Tensor) -> torch.Tensor:
    """Without its outline, which is antialiased and a pixel wide."""
    near = (depth < depth.max() - 0.1).float()
    return torch.nn.functional.max_pool2d(near[None], 5, 1, 2)[0] == 0


def start(square: bool = True) -> tuple[Frames, Cameras, Depth]:
    image, depth = stage((0.0, 0.0, 0.0), square)
    known = sharpen_depth(image, Depth(depth, depth > 0, "metric"), 0.0)
    return Frames(image[None], depth[None]), moved((0.0, 0.0, 0.0)), known


def warp(depth: Depth, **settings):
    return priors.build(
        {"name": "warp", **settings}, depth=depth, device=torch.device("cpu"), image="x"
    )


def grown(frames: Frames, cameras: Cameras, clip: Clip, made: Frames) -> tuple[Frames, Cameras]:
    return Frames.cat([frames, made]), Cameras.cat([cameras, clip.cameras])


def photo(name: str) -> tuple[Frames, Cameras, Depth]:
    picture = load_picture(name, 256, 55.0)
    kind = "known" if name.startswith("motorcycle") else "ramp"
    estimator = depths.build(
        {"name": kind}, device=torch.device("cpu"), image=name, camera=picture.cameras
    )
    depth = SharpenedDepth(estimator)(picture.frames.images[0])
    return Frames(picture.frames.images, depth.depth[None]), picture.cameras, depth


def around(cameras: Cameras, unit: float, *degrees: float) -> Cameras:
    """Cameras on a horizontal circle around the picture's centre at the typical depth."""
    target = torch.tensor([0.0, 0.0, unit])
    angle = torch.deg2rad(torch.tensor(degrees))
    eyes = target + unit * torch.stack([angle.sin(), torch.zeros_like(angle), -angle.cos()], dim=-1)
    matrices = look_at(eyes, target.expand_as(eyes), torch.tensor([0.0, 1.0, 0.0]).expand_as(eyes))
    return replace(
        cameras, world_to_camera=matrices, intrinsics=cameras.intrinsics.expand(len(degrees), 3, 3)
    )


@pytest.mark.parametrize("name", ["coffee", "motorcycle_left"])
def test_static_camera_shows_the_picture_again(name):
    frames, cameras, depth = photo(name)
    made = warp(depth)(frames, cameras, Clip("stay", 0, cameras), 0)
    assert psnr(made.images, frames.images) > 45
    # Outlines are one pixel wider, soft steps harder; else the depth is what was given.
    unlike = ((made.depth[0] / depth.depth - 1).abs() > 0.01) & depth.valid
    assert unlike.float().mean() < (0.2 if name == "motorcycle_left" else 0.1)


@pytest.mark.parametrize(
    "shift", [(0.3, 0.0, 0.0), (-0.3, 0.2, 0.0), (0.0, 0.0, 0.5), (0.0, 0.0, -0.3)]
)
def test_visible_content_moves_as_geometry_predicts(shift):
    frames, cameras, depth = start()
    clip = Clip("away", 0, moved(shift))
    made = warp(depth)(frames, cameras, clip, 0)
    image, truth = stage(shift)
    right = (made.depth[0] / truth - 1).abs() < 0.01
    assert (
        right.float().mean() > 0.97
    )  # the square's outline is a pixel wider, and turns up in the wall's place
    x, y = torch.meshgrid(torch.arange(WIDTH), torch.arange(HEIGHT), indexing="xy")
    seen_x = (x + 0.5 - WIDTH / 2) * truth[y, x] / FOCAL + shift[0]
    seen_y = (y + 0.5 - HEIGHT / 2) * truth[y, x] / FOCAL + shift[1]
    wall = (
        (truth > NEAR + 0.5)
        & (seen_x.abs() < WIDTH / 2 / FOCAL * FAR - 0.05)
        & (seen_y.abs() < HEIGHT / 2 / FOCAL * FAR - 0.05)
    )
    wall &= (seen_x.abs() > 0.9) | (
        seen_y.abs() > 0.7
    )  # not what the square hid from the first camera
    wall &= away_from_square(truth)
    assert psnr(made.images[0][wall], image[wall]) > 38
    square = (truth < NEAR + 0.6) & (image[..., 0] > 200)
    assert (made.images[0][square][:, 0] > 180).float().mean() > 0.93


@pytest.mark.parametrize("fill", ["network", "patches", "telea", "smooth"])
def test_holes_are_filled_from_behind(fill):
    frames, cameras, depth = start()
    shift = (0.5, 0.0, 0.0)
    made = warp(depth, fill=fill)(frames, cameras, Clip("right", 0, moved(shift)), 0)
    image, truth = stage(shift)
    revealed = away_from_square(truth)
    x = (torch.arange(WIDTH) + 0.5 - WIDTH / 2) * FAR / FOCAL + shift[0]
    y = (torch.arange(HEIGHT) + 0.5 - HEIGHT / 2) * FAR / FOCAL + shift[1]
    revealed &= (x[None].abs() < 0.75) & (y[:, None].abs() < 0.55)  # hidden by the square at first
    assert revealed.sum() > 30
    red = made.images[0][revealed][:, 0]
    assert (red > 60).float().mean() < 0.05, "the foreground bleeds into what lies behind it"
    assert ((made.depth[0][revealed] / FAR - 1).abs() < 0.02).float().mean() > 0.95
    assert psnr(made.images[0][revealed], image[revealed]) > 12


def test_network_runs_once_a_clip_on_enclosed_holes(monkeypatch):
    frames, cameras, depth = start()
    holes = []
    real = fill_network.fill_holes
    monkeypatch.setattr(
        fill_network,
        "fill_holes",
        lambda network, rgb, inverse, hole: (
            holes.append(hole.clone()),
            real(network, rgb, inverse, hole),
        )[1],
    )
    shifts = tuple((0.1 * k, 0.0, 0.0) for k in range(1, 7))
    made = warp(depth, fill="network")(frames, cameras, Clip("right", 0, moved(*shifts)), 0)
    assert len(holes) == 1, "what the last frame shows whole is there in all"
    hole = holes[0][0]
    assert hole.any() and not (hole[0] | hole[-1]).any() and not (hole[:, 0] | hole[:, -1]).any()
    for image, shift in zip(made.images, shifts, strict=True):
        assert psnr(image, stage(shift)[0]) > 19
    warp(depth, fill="patches")(frames, cameras, Clip("right", 0, moved(*shifts)), 0)
    assert len(holes) == 1
    with pytest.raises(ValueError, match="shows nothing known in frame 1"):
        warp(depth, fill="network")(frames, cameras, Clip("off", 0, moved((100.0, 0.0, 0.0))), 0)


def test_network_does_not_run_for_thin_gaps_alone():
    smooth, inverse = np.full((64, 96, 3), 128, np.float32), np.ones((64, 96), np.float32)
    smooth[:, ::7] = 30
    thin, wide = np.zeros((64, 96), bool), np.zeros((64, 96), bool)
    thin[10:50, 20:22], wide[20:44, 50:74] = True, True
    made = fill_with_network(smooth, inverse, thin | wide)
    assert (made[wide] != smooth[wide]).any() and (
        made[~(thin | wide)] == smooth[~(thin | wide)]
    ).all()
    assert fill_with_network(smooth, inverse, thin) is smooth


def test_approaching_leaves_no_cracks():
    frames, cameras, depth = start(square=False)
    made = warp(depth)(frames, cameras, Clip("near", 0, moved((0.0, 0.0, 1.0), (0.0, 0.0, 2.5))), 0)
    for image, shift in zip(made.images, ((0.0, 0.0, 1.0), (0.0, 0.0, 2.5)), strict=True):
        difference = (image.float() - stage(shift, square=False)[0].float()).abs()
        assert difference.max() < 25 and psnr(image, stage(shift, square=False)[0]) > 40


def test_every_pixel_is_known_and_the_seed_changes_nothing():
    frames, cameras, depth = photo("motorcycle_left")
    assert not depth.valid.all()
    clip = Clip("right", 0, around(cameras, depth.typical, 6.0, 12.0))
    a, b = (warp(depth)(frames, cameras, clip, seed) for seed in (0, 7))
    assert torch.equal(a.images, b.images) and torch.equal(a.depth, b.depth)
    assert (
        a.images.shape == (2, *frames.images.shape[1:])
        and (a.depth > 0).all()
        and a.depth.isfinite().all()
    )
    assert a.depth.max() < 3 * depth.depth.max()


def test_branches_agree():
    """Two paths to one camera give the same view: generated content is reused."""
    frames, cameras, depth = photo("motorcycle_left")
    prior, unit = warp(depth), depth.typical
    for clip in (
        Clip("right", 0, around(cameras, unit, 5.0, 10.0)),
        Clip("left", 0, around(cameras, unit, -8.0)),
        Clip("back", 3, around(cameras, unit, 0.0, 10.0)),
    ):
        frames, cameras = grown(frames, cameras, clip, prior(frames, cameras, clip, 0))
    assert psnr(frames.images[5], frames.images[2]) > 33
    assert psnr(frames.images[4], frames.images[0]) > 40
    assert ((frames.depth[5] / frames.depth[2] - 1).abs() < 0.02).float().mean() > 0.98


@pytest.mark.parametrize("fill", ["network", "patches"])
def test_a_call_depends_on_its_arguments_alone(fill):
    frames, cameras, depth = photo("coffee")
    clips = (
        Clip("right", 0, around(cameras, depth.typical, 6.0, 12.0)),
        Clip("left", 1, around(cameras, depth.typical, -8.0)),
    )
    prior = warp(depth, fill=fill)
    first = prior(frames, cameras, clips[0], 0)
    longer = grown(frames, cameras, clips[0], first)
    second = prior(*longer, clips[1], 0)
    # Killed after the first clip, and started again.
    resumed = warp(depth, fill=fill)(*longer, clips[1], 0)
    assert torch.equal(resumed.images, second.images) and torch.equal(resumed.depth, second.depth)
    # The same component renders another request and then the first one again.
    assert not torch.equal(prior(frames, cameras, clips[1], 0).images, second.images)
    assert torch.equal(prior(*longer, clips[1], 0).images, second.images)
    # Other frames: what they show is what goes on.
    darker = replace(longer[0], images=torch.cat([frames.images, longer[0].images[1:] // 2]))
    assert not torch.equal(prior(darker, longer[1], clips[1], 0).images, second.images)


def test_it_says_what_is_wrong():
    frames, cameras, depth = start()
    clip = Clip("right", 0, moved((0.1, 0.0, 0.0)))
    with pytest.raises(ValueError, match=r"prior\.edge_threshold is -1"):
        warp(depth, edge_threshold=-1.0)
    with pytest.raises(ValueError, match=r"prior\.fill is 'magic'; choose"):
        warp(depth, fill="magic")
    small = Depth(depth.depth[:50], depth.valid[:50], "metric")
    with pytest.raises(ValueError, match="depth is .*50.*pixels"):
        warp(small)(frames, cameras, clip, 0)
    with pytest.raises(ValueError, match="frames with depth"):
        warp(depth)(Frames(frames.images.repeat(2, 1, 1, 1)), cameras[[0, 0]], clip, 0)
    with pytest.raises(ValueError, match="clip 'behind' shows nothing"):
        warp(depth)(frames, cameras, Clip("behind", 0, moved((0.0, 0.0, 9.0))), 0)


def test_push_pull_keeps_what_is_known_and_constants():
    random = np.random.default_rng(0)
    known = random.random((37, 50)) < 0.05
    values = random.random((37, 50, 2)).astype(np.float32)
    out = push_pull(values, known)
    np.testing.assert_allclose(out[known], values[known], atol=1e-5)
    assert out.min() >= values[known].min() - 1e-5 and out.max() <= values[known].max() + 1e-5
    np.testing.assert_allclose(
        push_pull(np.full((37, 50, 1), 3.0, np.float32), known), 3, atol=1e-5
    )


def test_patches_continue_a_pattern():
    """Stripes go on through a hole, where a smooth fill is grey."""
    x = np.arange(120)
    rgb = (
        np.repeat((127 + 120 * np.sign(np.sin(x / 2.2)))[None, :, None], 90, axis=0)
        .repeat(3, axis=2)
        .astype(np.float32)
    )
    hole = np.zeros((90, 120), bool)
    hole[30:55, 40:75] = True
    flat, nothing = np.ones((90, 120), np.float32), np.zeros((90, 120), bool)
    given = np.where(hole[..., None], 0, rgb).astype(np.float32)
    error = {
        texture: np.abs(fill_behind(given, flat, hole, nothing, texture)[0] - rgb)[hole].mean()
        for texture in ("patches", "smooth")
    }
    assert error["patches"] < 0.3 * error["smooth"]


def beyond_the_border(margin: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Show the same part right of the picture in two clips, each of a new prior."""
    pixel = FAR / FOCAL
    frames, cameras, depth = start(square=False)
    pictures = []
    for down in (0, 3):
        clip = Clip("right", 0, moved((14 * pixel, down * pixel, 0.0)))
        pictures.append(warp(depth, margin=margin)(frames, cameras, clip, 0).images[0])
    return pictures[0][10:-10, -12:], pictures[1][7:-13, -12:]


def test_all_clips_show_one_continuation_of_the_picture():
    assert psnr(*beyond_the_border(0.25)) > 40 > psnr(*beyond_the_border(0.0))


def test_the_margin_may_be_wider_than_a_small_picture_allows():
    frames, cameras, depth = start()
    made = warp(depth, margin=0.45)(frames, cameras, Clip("right", 0, moved((0.3, 0.0, 0.0))), 0)
    assert made.images.shape == frames.images.shape
