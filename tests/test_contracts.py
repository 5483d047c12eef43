"""Contracts of every registered component, built-in or plugin.

A component whose package is not installed is skipped by name.
"""

import math

import pytest
import torch

from lift.depths import depths
from lift.distortions import distortions
from lift.geometry import pinhole
from lift.io.image import load_picture
from lift.io.nerfstudio import write_transforms
from lift.io.video import write_video
from lift.planners import planners
from lift.poses import poses
from lift.priors import priors
from lift.registry import catalogue
from lift.renderers import renderers
from lift.types import Cameras, Clip, Depth, Frames, Gaussians, PointCloud, Render, Trajectory

WIDTH, HEIGHT, VIEWS = 64, 48, 4

NEEDS = {
    # What has no default: a file that the test makes, or the real thing.
    ("planner", "path"): lambda folder: {"path": path_file(folder)},
    ("prior", "frames"): lambda folder: {"path": video_file(folder)},
    ("prior", "diffusers"): None,
    ("prior", "ltx"): None,
    ("prior", "easyanimate"): None,
    ("depth", "onnx"): None,
    ("depth", "depth_anything"): None,
    ("depth", "known"): None,
    ("pose", "colmap"): None,
    ("pose", "mast3r"): None,
    ("pose", "vggt"): None,
    ("pose", "depth_anything_3"): None,
    ("prior", "svd"): None,
    ("prior", "vace"): None,
    ("prior", "sana_wm"): None,
    ("prior", "cosmos"): None,
    ("prior", "viewcrafter"): None,
    ("prior", "motionctrl"): None,
}
"""None: needs a network's weights or a real scene, and has a test of its own."""


def every(slot: str) -> list:
    out = []
    for name, entry in catalogue().entries[slot].items():
        why = f"needs {', '.join(entry.missing)}" if entry.missing else None
        if (slot, name) in NEEDS and NEEDS[slot, name] is None:
            why = "has a test of its own"
        if name == "gsplat" and not torch.cuda.is_available():
            why = "needs a CUDA device"
        out.append(
            pytest.param(name, marks=pytest.mark.skip(reason=f"{slot} {name} {why}") if why else ())
        )
    return out


def build(registry, name: str, folder=None, **supplied):
    make = NEEDS.get((registry.slot, name))
    return registry.build({"name": name, **(make(folder) if make else {})}, **supplied)


def path_file(folder):
    cameras = Trajectory(pinhole(WIDTH, HEIGHT, 60.0), ()).cameras
    many = cameras.map(lambda value: value.expand(9, *value.shape[1:]).clone())
    many.world_to_camera[:, 0, 3] = -torch.linspace(0, 0.4, 9)
    write_transforms(folder / "transforms.json", many, [f"{i}.png" for i in range(9)])
    return str(folder / "transforms.json")


def video_file(folder):
    images = torch.randint(
        0,
        256,
        (9, HEIGHT // 8, WIDTH // 8, 3),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(0),
    )
    write_video(folder / "clip.mp4", images.repeat_interleave(8, 1).repeat_interleave(8, 2), 8)
    return str(folder / "clip.mp4")


def picture() -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 1, HEIGHT), torch.linspace(0, 1, WIDTH), indexing="ij")
    waves = torch.stack([x, y, 0.5 + 0.5 * (20 * x).sin() * (15 * y).cos()], dim=-1)
    return (waves * 255).to(torch.uint8)


def tilted_depth() -> Depth:
    depth = torch.linspace(4, 1.5, HEIGHT)[:, None].repeat(1, WIDTH)
    return Depth(depth, torch.ones_like(depth, dtype=torch.bool), "scale")


CAMERA = pinhole(WIDTH, HEIGHT, 60.0)


@pytest.mark.parametrize("name", every("planner"))
def test_planner_starts_at_the_input_and_obeys_clip_length(name, tmp_path):
    planner = build(planners, name, tmp_path)
    trajectory = planner(CAMERA, tilted_depth(), 4)
    assert trajectory.start == CAMERA or trajectory.start.world_to_camera.equal(
        CAMERA.world_to_camera
    )
    assert trajectory.clips and all(len(clip.cameras) == 4 for clip in trajectory.clips)
    cameras = trajectory.cameras
    assert cameras.width == WIDTH and cameras.height == HEIGHT
    rotation = cameras.world_to_camera[:, :3, :3]
    torch.testing.assert_close(
        rotation @ rotation.mT, torch.eye(3).expand_as(rotation), atol=1e-5, rtol=0
    )
    repeat = build(planners, name, tmp_path)(CAMERA, tilted_depth(), 4)
    assert repeat.cameras.world_to_camera.equal(cameras.world_to_camera)
    if planner.supports_magnitude:
        small = (
            planner(CAMERA, tilted_depth(), 4, magnitude=0.25).cameras.centers.norm(dim=-1).max()
        )
        assert small < cameras.centers.norm(dim=-1).max() or name == "dolly"


@pytest.mark.parametrize("name", every("prior"))
def test_a_prior_makes_one_frame_a_camera_and_repeats_itself(name, tmp_path):
    source = "room" if name == "synthetic" else None
    loaded = load_picture("room", 64, 55.0) if source else None
    camera = loaded.cameras if loaded else CAMERA
    image = loaded.frames.images if loaded else picture()[None]
    depth = Depth(
        torch.full(image.shape[1:3], 3.0), torch.ones(image.shape[1:3], dtype=torch.bool), "scale"
    )
    trajectory = planners.build({"name": "single"})(camera, depth, 4)
    known = Frames(image, depth.depth[None])

    def run(seed: int) -> Frames:
        prior = build(
            priors,
            name,
            tmp_path,
            image=source or "x",
            depth=depth,
            camera=camera,
            estimator=None,
            device=torch.device("cpu"),
        )
        clip = trajectory.clips[0]
        if prior.clip_length:
            clip = Clip(clip.name, 0, clip.cameras[[min(i, 3) for i in range(prior.clip_length)]])
        frames = prior(known, trajectory.start, clip, seed)
        assert len(frames) == len(clip.cameras) and frames.images.shape[1:] == image.shape[1:]
        assert (frames.depth is not None) == prior.exact_depth
        assert frames.depth is None or bool(((frames.depth >= 0) & frames.depth.isfinite()).all())
        return frames

    first, again = run(3), run(3)
    assert first.images.equal(again.images)
    assert first.depth is None or first.depth.equal(again.depth)


@pytest.mark.parametrize("name", every("depth"))
def test_a_depth_is_positive_and_of_the_pictures_size(name, tmp_path):
    estimator = build(depths, name, tmp_path, image="x", camera=CAMERA, device=torch.device("cpu"))
    for image in (picture(), torch.zeros(HEIGHT, WIDTH, 3, dtype=torch.uint8), picture()[:16, :16]):
        depth = estimator(image)
        assert depth.depth.shape == depth.valid.shape == image.shape[:2]
        assert (
            bool(depth.valid.any())
            and bool((depth.depth[depth.valid] > 0).all())
            and bool(depth.depth[depth.valid].isfinite().all())
        )
        assert depth.depth.equal(estimator(image).depth)


@pytest.mark.parametrize("name", every("pose"))
def test_pose_estimator_keeps_the_input_and_frame_count(name, tmp_path):
    depth = tilted_depth()
    trajectory = planners.build({"name": "single"})(CAMERA, depth, 3)
    images = picture()[None].repeat(4, 1, 1, 1)
    estimator = depths.build({"name": "ramp"}, camera=CAMERA)
    for frames in (Frames(images), Frames(images, depth.depth.repeat(4, 1, 1))):
        found = build(
            poses,
            name,
            tmp_path,
            depth=depth,
            estimator=estimator,
            multiview_consistent=False,
            device=torch.device("cpu"),
        )(frames, trajectory)
        assert len(found.cameras) == 4 and found.depth.shape == found.confidence.shape == (
            4,
            HEIGHT,
            WIDTH,
        )
        assert found.cameras.world_to_camera[0].equal(CAMERA.world_to_camera[0])
        assert (
            float(found.confidence.min()) >= 0
            and float(found.confidence.max()) <= 1
            and found.confidence[0].any()
        )
        assert len(found.points) and bool(found.points.points.isfinite().all())


def scene() -> Gaussians:
    rng = torch.Generator().manual_seed(0)
    means = torch.randn(40, 3, generator=rng) * 0.5 + torch.tensor([0.0, 0, 3])
    quats = torch.nn.functional.normalize(torch.randn(40, 4, generator=rng), dim=-1)
    return Gaussians(
        means,
        quats,
        torch.full((40, 3), 0.1),
        torch.full((40,), 0.6),
        torch.randn(40, 4, 3, generator=rng),
    )


def distorted(name: str):
    """A distortion for VIEWS frames of `scene()`. The last frame continues the one before it."""
    moved = [CAMERA.map(lambda value: value.clone()) for _ in range(VIEWS - 1)]
    for step, camera in enumerate(moved):
        camera.world_to_camera[0, 0, 3] = 0.05 * (step + 1)
    trajectory = Trajectory(
        CAMERA, (Clip("right", 0, Cameras.cat(moved[:-1])), Clip("right/up", VIEWS - 2, moved[-1]))
    )
    points = PointCloud(scene().means, torch.full((len(scene()), 3), 0.5))
    return build(
        distortions,
        name,
        num_views=VIEWS,
        extent=3.0,
        size=(WIDTH, HEIGHT),
        trajectory=trajectory,
        points=points,
    )


def hooks(distortion, view: torch.Tensor):
    cameras = CAMERA.map(lambda value: value.expand(len(view), *value.shape[1:]).clone())
    render = Render(
        torch.rand(len(view), 48, 64, 3, generator=torch.Generator().manual_seed(1)),
        torch.ones(len(view), 48, 64),
        torch.ones(len(view), 48, 64),
    )
    return (
        (cameras, distortion.cameras(cameras, view)),
        (scene(), distortion.gaussians(scene(), view)),
        (render, distortion.image(render, view)),
    )


def assert_identity(distortion, view: torch.Tensor) -> None:
    (cameras, moved), (gaussians, shifted), (render, shown) = hooks(distortion, view)
    for a, b in [
        *zip(cameras.tensors().values(), moved.tensors().values(), strict=False),
        (render.rgb, shown.rgb),
        (render.alpha, shown.alpha),
        (render.depth, shown.depth),
    ]:
        assert a.equal(b)
    assert "weight" not in shown.info or bool((shown.info["weight"] == 1).all())
    for key, value in gaussians.tensors().items():
        other = getattr(shifted, key)
        assert (value.expand_as(other) == other).all(), key


@pytest.mark.parametrize("name", every("distortion"))
def test_distortion_starts_as_identity_and_keeps_the_input(name):
    torch.manual_seed(0)
    distortion = distorted(name)
    assert_identity(distortion, torch.arange(VIEWS))
    assert distortion.penalty().item() == 0
    for parameter in distortion.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    assert_identity(distortion, torch.tensor([0]))
    assert math.isfinite(distortion.penalty().item())
    listed = [p for group in distortion.groups() for p in group["params"]]
    assert {id(p) for p in listed} == {id(p) for p in distortion.parameters()} and all(
        group["lr"] > 0 for group in distortion.groups()
    )


@pytest.mark.parametrize("name", every("distortion"))
def test_a_distortion_can_learn_in_a_generated_view(name):
    distortion = distorted(name)
    if not list(distortion.parameters()):
        pytest.skip(f"{name} has nothing to learn")
    view, renderer = torch.tensor([2]), renderers.build({"name": "reference"})
    render = renderer(distortion.gaussians(scene(), view), distortion.cameras(CAMERA, view))
    (distortion.image(render, view).rgb * torch.rand(1, 48, 64, 3)).sum().backward()
    gradients = [p.grad for p in distortion.parameters() if p.grad is not None]
    assert (
        gradients
        and all(bool(g.isfinite().all()) for g in gradients)
        and any(bool(g.any()) for g in gradients)
    )


@pytest.mark.gpu
@pytest.mark.parametrize("name", every("distortion"))
def test_a_distortion_on_cuda_is_that_on_the_cpu(name, cuda):
    torch.manual_seed(0)
    here = distorted(name)
    for parameter in here.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    there = distorted(name)
    there.load_state_dict(here.state_dict())
    there.to(cuda)
    view = torch.arange(VIEWS)
    rng = torch.Generator().manual_seed(1)
    rgb, depth = (
        torch.rand(VIEWS, HEIGHT, WIDTH, 3, generator=rng),
        1 + torch.rand(VIEWS, HEIGHT, WIDTH, generator=rng),
    )
    found = []
    for distortion, device in ((here, torch.device("cpu")), (there, cuda)):
        distortion.progress = 1.0
        cameras = CAMERA.map(lambda value: value.expand(VIEWS, *value.shape[1:]).clone()).to(device)
        moved, shifted = (
            distortion.cameras(cameras, view.to(device)),
            distortion.gaussians(scene().to(device), view.to(device)),
        )
        shown = distortion.image(
            Render(rgb.to(device), torch.ones_like(depth).to(device), depth.to(device)),
            view.to(device),
        )
        made = [
            *moved.tensors().values(),
            *shifted.tensors().values(),
            shown.rgb,
            shown.alpha,
            shown.depth,
        ]
        total = sum(value.sin().sum() for value in made) + distortion.penalty()
        if total.requires_grad:
            total.backward()
        found.append([*made, *(p.grad for p in distortion.parameters() if p.grad is not None)])
    assert len(found[0]) == len(found[1])
    for expected, value in zip(*found, strict=False):
        torch.testing.assert_close(
            value.detach().cpu(),
            expected.detach(),
            atol=2e-3 * max(1.0, expected.detach().abs().max().item()),
            rtol=2e-3,
        )


@pytest.mark.parametrize("name", every("renderer"))
def test_a_renderer_draws_shared_and_single_sets_alike(name):
    renderer = build(renderers, name, device=torch.device("cpu"))
    gaussians = scene().to(renderer.device)
    cameras = CAMERA.map(lambda value: value.expand(2, *value.shape[1:]).clone())
    cameras.world_to_camera[1, 0, 3] = 0.2
    cameras = cameras.to(renderer.device)
    shared = renderer(gaussians, cameras, torch.tensor([0.2, 0.4, 0.6], device=renderer.device))
    single = renderer(
        gaussians.map(lambda value: value.expand(2, *value.shape).clone()),
        cameras,
        torch.tensor([0.2, 0.4, 0.6], device=renderer.device),
    )
    assert shared.rgb.shape == (
        2,
        HEIGHT,
        WIDTH,
        3,
    ) and shared.alpha.shape == shared.depth.shape == (2, HEIGHT, WIDTH)
    for field in ("rgb", "alpha", "depth"):
        torch.testing.assert_close(
            getattr(shared, field), getattr(single, field), atol=1e-5, rtol=1e-5
        )
    assert (
        float(shared.alpha.min()) >= 0
        and float(shared.alpha.max()) <= 1
        and float(shared.alpha.max()) > 0.5
    )
    assert 2 < float(shared.depth[shared.alpha > 0.5].median()) < 4
