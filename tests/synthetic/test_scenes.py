"""The ray-cast scenes: exact depth, one world for all views, antialiased."""

import math

import pytest
import torch
from torch.nn.functional import grid_sample

from lift.geometry import inside, pinhole, project, unproject
from lift.planners.articulated import Articulated
from lift.synthetic import scenes
from lift.synthetic.raycast import RayCastScene, render, render_picture
from lift.synthetic.shapes import Ball, Box, Column
from lift.types import Cameras, Depth


def grey(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.full((len(u), 3), 0.5)


def hall(*shapes: Ball | Box | Column) -> RayCastScene:
    return RayCastScene(
        (Box((0, 0, 0), (40, 40, 40), grey, hollow=True), *shapes), lamp=(0.0, -15.0, -5.0)
    )


def two_views(size: int = 96) -> Cameras:
    camera = pinhole(size, size, 0.9 * size)
    depth = Depth(torch.full((size, size), 4.0), torch.ones(size, size, dtype=torch.bool), "metric")
    return Articulated(2, ("right", "up"), num_frames=1, angle=4.0)(camera, depth, None).cameras[
        [0, 4]
    ]


def test_depth_is_that_of_the_surface_along_the_axis() -> None:
    camera = pinhole(65, 65, 65.0)  # an odd size: a pixel's centre lies on the axis
    middle = (32, 32)
    _, depth = render_picture(hall(Ball((0, 0, 6), 1.0, grey)), camera)
    assert float(depth[middle]) == pytest.approx(5.0, abs=1e-5)
    assert float(depth[0, 0]) == pytest.approx(
        20.0, abs=1e-4
    )  # the wall is flat: z-depth, not distance
    _, depth = render_picture(hall(Box((0, 0, 6), (2, 2, 2), grey, yaw=45.0)), camera)
    assert float(depth[middle]) == pytest.approx(6 - math.sqrt(2), abs=1e-4)
    _, depth = render_picture(hall(Column((0, 0, 6), 0.5, 2.0, grey)), camera)
    assert float(depth[middle]) == pytest.approx(5.5, abs=1e-5)
    assert float(depth[0, 32]) == pytest.approx(20.0, abs=1e-4)  # it ends


def test_turned_box_stands_where_it_is_and_faces_where_it_turns() -> None:
    camera = pinhole(129, 129, 129.0)
    _, depth = render_picture(hall(Box((1, 0, 8), (2, 2, 0.01), grey, yaw=30.0)), camera)
    face = depth < 15
    points = unproject(depth[None], camera)[0][face]
    assert torch.allclose(points.mean(0), torch.tensor([1.0, 0.0, 8.0]), atol=0.1)
    line = points - points.mean(0)
    _, _, directions = torch.linalg.svd(line, full_matrices=False)
    normal = directions[2] * directions[2, 2].sign()
    assert abs(float(torch.rad2deg(torch.atan2(normal[0], normal[2])).abs()) - 30) < 2


@pytest.mark.parametrize("name", scenes.SCENES)
def test_views_agree_where_both_see(name: str) -> None:
    cameras = two_views()
    frames = scenes.render(name, cameras)
    assert bool(torch.isfinite(frames.depth).all()) and float(frames.depth.min()) > 0.5
    points = unproject(frames.depth[:1], cameras[0])[0].reshape(-1, 3)
    pixels, depth = project(points, cameras[1])
    grid = (2 * pixels / torch.tensor([cameras.width, cameras.height]) - 1)[:, None]
    there = torch.cat([frames.rgb[1], frames.depth[1, ..., None]], dim=-1).permute(2, 0, 1)[None]
    sampled = grid_sample(there, grid, "bilinear", "border", align_corners=False)[0, :, 0].T
    seen = inside(pixels, cameras)[0] & ((sampled[:, 3] / depth[0] - 1).abs() < 0.005)
    assert float(seen.float().mean()) > (0.55 if name == "thin" else 0.65)
    error = (sampled[seen, :3] - frames.rgb[0].reshape(-1, 3)[seen]).abs()
    assert float(error.mean()) < 0.025
    shifted = (sampled[seen, :3].roll(3, 0) - frames.rgb[0].reshape(-1, 3)[seen]).abs()
    assert float(error.mean()) < 0.6 * float(shifted.mean())  # three pixels off would show


def test_edges_are_antialiased() -> None:
    scene = RayCastScene(
        (
            Ball((0, 0, 0), 30.0, lambda u, v: torch.ones(len(u), 3), hollow=True, glow=1.0),
            Box((0, 0, 5), (4, 4, 0.1), lambda u, v: torch.zeros(len(u), 3)),
        ),
        lamp=(0, -9, 0),
    )
    camera = pinhole(48, 48, 30.7)
    colors, _ = render_picture(scene, camera)
    covered = 1 - float(colors.mean())
    assert covered == pytest.approx((4 / 4.95 * 30.7 / 48) ** 2, abs=0.004)
    assert len(colors.unique()) > 2
    fine, _ = render_picture(scene, camera.resized(480, 480))
    exact = fine.view(48, 10, 48, 10, 3).mean((1, 3))
    assert float((colors - exact).abs().max()) < 0.3  # five samples of a straight edge


@pytest.mark.parametrize("name", scenes.SCENES)
def test_textures_are_smooth_at_256_pixels(name: str) -> None:
    """The middle of a picture of twice the size, averaged, is nearly the same picture."""
    camera = pinhole(256, 256, 230.0)
    intrinsics = camera.intrinsics.clone()
    intrinsics[0, :2, 2] = torch.tensor([40.0, 20.0])
    camera = Cameras(camera.world_to_camera, intrinsics, 96, 96)
    one = scenes.render(name, camera).rgb[0]
    two = scenes.render(name, camera.resized(192, 192)).rgb[0]
    mean = two.view(96, 2, 96, 2, 3).mean((1, 3))
    assert float(((one - mean) ** 2).mean()) < 10**-3.4, name  # 34 dB


def test_render_is_bitwise_repeatable() -> None:
    cameras = two_views(64)
    both = scenes.render("room", cameras)
    assert torch.equal(both.images[1], scenes.render("room", cameras[1]).images[0])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert torch.equal(both.depth, scenes.render("room", cameras).depth)
    torch.set_num_threads(threads)


def test_shadow_and_glow() -> None:
    ball = Ball((0, 0, 8), 1.0, grey)
    floor = Box((0, 3, 8), (20, 0.2, 20), grey)
    scene = RayCastScene(
        (Box((0, 0, 0), (60, 60, 60), grey, hollow=True), ball, floor),
        lamp=(0.0, -20.0, 8.0),
        ambient=0.3,
    )
    camera = pinhole(64, 64, 50.0)
    colors, _ = render_picture(scene, camera)
    under, beside = (
        project(torch.tensor([[x, 2.9, 8.0]]), camera)[0][0, 0].long() for x in (0.0, 3.0)
    )
    assert float(colors[under[1], under[0], 0]) < 0.7 * float(colors[beside[1], beside[0], 0])
    glowing = RayCastScene(
        (scene.shapes[0], Ball((0, 0, 8), 1.0, grey, glow=1.0)), lamp=(0.0, -20.0, 8.0)
    )
    assert float(render_picture(glowing, camera)[0][32, 32, 0]) == pytest.approx(
        0.5 ** (1 / 2.2), abs=1e-5
    )


def test_unknown_scene_is_named() -> None:
    with pytest.raises(
        ValueError, match="scene is 'moon'; choose one of room, terrace, thin, plain"
    ):
        scenes.render("moon", pinhole(8, 8, 8.0))


def test_frames_are_what_types_promise() -> None:
    frames = render(hall(), pinhole(20, 10, 15.0))
    assert frames.images.shape == (1, 10, 20, 3) and frames.images.dtype == torch.uint8
    assert frames.depth.shape == (1, 10, 20)
