"""What a component returns is checked at the boundary of its stage."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lift.depths import DepthEstimator
from lift.distortions import Distortion, distortions
from lift.geometry import pinhole
from lift.planners import Planner, planners
from lift.poses import PoseEstimator, poses
from lift.priors import ClipRequest, VideoPrior
from lift.renderers.reference import Reference
from lift.stages.checked import CheckedDepth, CheckedPlanner
from lift.stages.checks import (
    OutputError,
    check_clips,
    check_prior,
    check_reconstruction,
    check_trajectory,
    check_true_cameras,
)
from lift.stages.render_checks import check_render
from lift.types import (
    Cameras,
    Clip,
    Depth,
    Frames,
    Gaussians,
    PointCloud,
    Reconstruction,
    Trajectory,
)
from tests.helpers.distortions import SUPPLIED, build_distortion, random_gaussians

WIDTH, HEIGHT = 64, 48
CAMERA = pinhole(WIDTH, HEIGHT, 60.0)
IMAGE = torch.zeros(HEIGHT, WIDTH, 3, dtype=torch.uint8)
DEPTH = Depth(
    torch.full((HEIGHT, WIDTH), 3.0), torch.ones(HEIGHT, WIDTH, dtype=torch.bool), "scale"
)
MODULE = __name__


def unchecked(kind: type, /, **values: Any) -> Any:
    """Make a dataclass without the checks of types that tests have and users have not."""
    value = object.__new__(kind)
    for key, item in values.items():
        object.__setattr__(value, key, item)
    return value


def changed(value: Any, /, **changes: Any) -> Any:
    return unchecked(type(value), **{**vars(value), **changes})


def moved(count: int) -> Cameras:
    return CAMERA.map(lambda value: value.expand(count, *value.shape[1:]).clone())


def trajectory(count: int = 3) -> Trajectory:
    return Trajectory(CAMERA, (Clip("right", 0, moved(count)),))


class Made(Planner):
    """Returns a given value."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def __call__(self, camera, depth, clip_length, magnitude=1.0):
        return self.result(magnitude) if callable(self.result) else self.result


class Given(DepthEstimator):
    """Returns a given value."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def __call__(self, image):
        return self.result

    def draft(self, image):
        return self.result


class Silent(VideoPrior):
    """Returns nothing."""

    def __call__(self, frames, cameras, clip, seed):
        raise NotImplementedError


class Lost(PoseEstimator):
    """Returns nothing."""

    def __call__(self, frames, trajectory):
        raise NotImplementedError


def with_clip(**changes: Any) -> Trajectory:
    clip = replace(trajectory().clips[0])
    cameras = changed(clip.cameras, **changes)
    return unchecked(
        Trajectory, start=CAMERA, clips=(changed(clip, cameras=cameras),), hint="planned"
    )


def scaled(factor: float) -> torch.Tensor:
    matrices = moved(3).world_to_camera
    matrices[1, :3, :3] *= factor
    return matrices


TRAJECTORIES = {
    "returned a value as None; expected Trajectory": None,
    "returned trajectory.clips without a clip; expected at least one": Trajectory(CAMERA, ()),
    "returned clip 'right'.cameras.world_to_camera as float32 [2, 4, 4]; "
    "expected float32 [3, 4, 4]": trajectory(2),
    "returned clip 'right'.cameras.world_to_camera that is no rigid transform at camera 1; "
    "expected a rotation, a translation and 0 0 0 1": with_clip(world_to_camera=scaled(1.1)),
    "returned clip 'right'.cameras.world_to_camera that is no rigid transform at camera 1": (
        with_clip(world_to_camera=scaled(-1))
    ),
    "returned clip 'right'.cameras.world_to_camera with 48 of 48 values NaN or infinite; "
    "expected finite values": with_clip(world_to_camera=moved(3).world_to_camera / 0),
    "returned clip 'right'.cameras.intrinsics as float64 [3, 3, 3]; expected float32 [3, 3, 3]": (
        with_clip(intrinsics=moved(3).intrinsics.double())
    ),
    "returned clip 'right'.cameras.intrinsics with a focal length of 0 pixels; "
    "expected more than 0": with_clip(intrinsics=torch.zeros(3, 3, 3)),
    "returned clip 'right'.cameras of pictures of 60 x 48 pixels; expected 64 x 48": (
        with_clip(width=60)
    ),
    "returned trajectory.start.intrinsics that differs; expected that of the input camera": (
        Trajectory(pinhole(WIDTH, HEIGHT, 50.0), trajectory().clips)
    ),
}


@pytest.mark.parametrize("message", TRAJECTORIES)
def test_a_planner_returns_rigid_cameras_of_the_clip_length(message: str):
    with pytest.raises(OutputError) as caught:
        CheckedPlanner(Made(TRAJECTORIES[message]))(CAMERA, DEPTH, 3)
    assert f"planner {MODULE}.Made {message}" in str(caught.value)


def test_a_planner_of_an_impossible_tree_is_named():
    clips = (Clip("a", 7, moved(3)),)
    with pytest.raises(OutputError) as caught:
        CheckedPlanner(Made(lambda _: Trajectory(CAMERA, clips)))(CAMERA, DEPTH, 3)
    assert str(caught.value) == (
        f"planner {MODULE}.Made made no trajectory: clip 'a' continues frame 7, but only frame 0 "
        "comes before it"
    )


def test_a_planner_returns_the_same_clips_at_each_magnitude():
    clips = trajectory().clips
    planner = CheckedPlanner(
        Made(lambda magnitude: Trajectory(CAMERA, clips if magnitude == 1 else clips * 2))
    )
    planner(CAMERA, DEPTH, 3)
    with pytest.raises(OutputError, match=r"with 2 clips for the magnitude 0\.5; expected 1"):
        planner(CAMERA, DEPTH, 3, 0.5)


def test_a_registered_component_has_its_name_in_the_message():
    planner = planners.build({"name": "single"})
    with pytest.raises(OutputError, match=r"^planner single \(lift\.planners\.single\.Single\)"):
        check_trajectory(planner, None, CAMERA, 3)


DEPTHS = {
    "returned a value as float32 [48, 64]; expected Depth": DEPTH.depth,
    "returned depth.depth as float32 [24, 64]; expected float32 [48, 64]": (
        changed(DEPTH, depth=DEPTH.depth[:24])
    ),
    "returned depth.depth as numpy.ndarray float32 [48, 64]; expected float32 [48, 64]": (
        changed(DEPTH, depth=np.ones((48, 64), np.float32))
    ),
    "returned depth.depth with 3072 of 3072 values NaN or infinite; expected finite values": (
        changed(DEPTH, depth=DEPTH.depth * torch.nan)
    ),
    "returned depth.depth with values down to -3 where it is valid; expected more than 0": (
        changed(DEPTH, depth=-DEPTH.depth)
    ),
    "returned depth.valid as float32 [48, 64]; expected bool [48, 64]": (
        changed(DEPTH, valid=DEPTH.depth)
    ),
    "returned depth.kind as 'metres'; expected one of metric, scale, affine-invariant": (
        changed(DEPTH, kind="metres")
    ),
}


@pytest.mark.parametrize("message", DEPTHS)
@pytest.mark.parametrize("call", ["__call__", "draft"])
def test_an_estimator_returns_positive_depth_of_the_pictures_size(message: str, call: str):
    with pytest.raises(OutputError) as caught:
        getattr(CheckedDepth(Given(DEPTHS[message])), call)(IMAGE)
    assert str(caught.value) == f"depth {MODULE}.Given {message}"


def test_depth_may_be_anything_where_it_is_not_valid():
    depth = Depth(DEPTH.depth.clone(), DEPTH.valid.clone(), "metric")
    depth.depth[0] = torch.nan
    depth.valid[0] = False
    assert CheckedDepth(Given(depth))(IMAGE) is depth


FRAMES = Frames(IMAGE[None])
REQUEST = ClipRequest(FRAMES, CAMERA, trajectory().clips[0], 0)
GENERATED = Frames(IMAGE.repeat(3, 1, 1, 1), DEPTH.depth.repeat(3, 1, 1))
CLIPS = {
    "returned a batch as Frames; expected a list of Frames": GENERATED,
    "returned a batch of 2 clips; expected 1, as it was called with": [GENERATED] * 2,
    "returned a value as uint8 [3, 48, 64, 3]; expected Frames": [GENERATED.images],
    "returned frames.images as float32 [3, 48, 64, 3]; expected uint8 [3, 48, 64, 3]": [
        changed(GENERATED, images=GENERATED.images.float())
    ],
    "returned frames.images as uint8 [4, 48, 64, 3]; expected uint8 [3, 48, 64, 3]": [
        Frames(IMAGE.repeat(4, 1, 1, 1))
    ],
    "returned frames.images as uint8 [3, 3, 48, 64]; expected uint8 [3, 48, 64, 3]": [
        changed(GENERATED, images=GENERATED.images.movedim(-1, 1))
    ],
    "returned frames.depth as float32 [48, 64]; expected float32 [3, 48, 64]": [
        changed(GENERATED, depth=DEPTH.depth)
    ],
    "returned frames.depth with values from -3 to -3; expected at least 0": [
        changed(GENERATED, depth=-DEPTH.depth.repeat(3, 1, 1))
    ],
}


@pytest.mark.parametrize("message", CLIPS)
def test_a_prior_returns_one_uint8_frame_a_camera(message: str):
    with pytest.raises(OutputError) as caught:
        check_clips(Silent(), CLIPS[message], [REQUEST])
    assert str(caught.value) == f"prior {MODULE}.Silent {message}"


def test_correct_frames_pass_unchanged():
    assert check_clips(Silent(), [GENERATED], [REQUEST])[0] is GENERATED


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("clip_length", 0, "clip_length as 0; expected a whole number of at least 1"),
        ("clip_length", "16", "clip_length as '16'; expected a whole number of at least 1"),
        ("input_multiple", 0, "input_multiple as 0"),
        ("batch_size", 2.5, "batch_size as 2.5"),
        ("context", "none", "context as 'none'; expected 'all' or 'ancestors'"),
    ],
)
def test_attributes_of_a_prior_are_checked(name: str, value: Any, message: str):
    prior = Silent()
    setattr(prior, name, value)
    with pytest.raises(OutputError) as caught:
        check_prior(prior)
    assert message in str(caught.value)


def test_a_prior_returns_one_true_camera_a_frame():
    with pytest.raises(OutputError, match=r"true_cameras\.world_to_camera as float32 \[2, 4, 4\]"):
        check_true_cameras(Silent(), moved(2), REQUEST.clip)


ALL = Frames(IMAGE.repeat(4, 1, 1, 1))
MAPS = DEPTH.depth.repeat(4, 1, 1)
FOUND = Reconstruction(moved(4), PointCloud(torch.zeros(5, 3), torch.zeros(5, 3)), MAPS, MAPS / 3)
TURNED = CAMERA.world_to_camera.repeat(4, 1, 1)
TURNED[:, 0, 3] = 1
RECONSTRUCTIONS = {
    "returned a value as tuple; expected Reconstruction": (moved(4), MAPS),
    "returned cameras.world_to_camera as float32 [3, 4, 4]; expected float32 [4, 4, 4]": (
        changed(FOUND, cameras=moved(3))
    ),
    "returned cameras.intrinsics with 36 of 36 values NaN or infinite; expected finite values": (
        changed(FOUND, cameras=replace(moved(4), intrinsics=torch.full((4, 3, 3), torch.nan)))
    ),
    "returned cameras.world_to_camera with another pose for camera 0; "
    "expected the pose of the trajectory's start": (
        changed(FOUND, cameras=replace(moved(4), world_to_camera=TURNED))
    ),
    "returned depth as float32 [3, 48, 64]; expected float32 [4, 48, 64]": (
        changed(FOUND, depth=MAPS[:3])
    ),
    "returned depth with values from -3 to -3; expected at least 0": changed(FOUND, depth=-MAPS),
    "returned confidence with values from 3 to 3; expected values from 0 to 1": (
        changed(FOUND, confidence=MAPS)
    ),
    "returned points as None; expected PointCloud": changed(FOUND, points=None),
    "returned points.points without a point; expected at least one": (
        changed(FOUND, points=PointCloud(torch.zeros(0, 3), torch.zeros(0, 3)))
    ),
    "returned points.colors as float32 [4, 3]; expected float32 [5, 3]": (
        changed(
            FOUND, points=unchecked(PointCloud, points=torch.zeros(5, 3), colors=torch.zeros(4, 3))
        )
    ),
}


@pytest.mark.parametrize("message", RECONSTRUCTIONS)
def test_a_pose_estimator_returns_all_frames(message: str):
    with pytest.raises(OutputError) as caught:
        check_reconstruction(Lost(), RECONSTRUCTIONS[message], ALL, trajectory())
    assert str(caught.value) == f"pose {MODULE}.Lost {message}"


def test_a_built_in_reconstruction_passes():
    frames = Frames(IMAGE.repeat(4, 1, 1, 1), MAPS)
    pose = poses.build({"name": "planned"}, depth=DEPTH)
    check_reconstruction(pose, pose(frames, trajectory()), frames, trajectory())


def scene() -> Gaussians:
    rng = torch.Generator().manual_seed(0)
    means = torch.randn(20, 3, generator=rng) * 0.5 + torch.tensor([0.0, 0.0, 3.0])
    quats = torch.nn.functional.normalize(torch.randn(20, 4, generator=rng), dim=-1)
    return Gaussians(
        means,
        quats,
        torch.full((20, 3), 0.1),
        torch.full((20,), 0.6),
        torch.zeros(20, 1, 3),
    )


class Wrong(Distortion):
    """Returns what a test gives it."""

    learning_rate = 1e-3

    def __init__(self, hook: str, change: Any) -> None:
        super().__init__()
        self.hook = hook
        self.change = change

    def cameras(self, cameras, view):
        return self.change(cameras) if self.hook == "cameras" else cameras

    def gaussians(self, gaussians, view):
        return self.change(gaussians) if self.hook == "gaussians" else gaussians

    def image(self, render, view):
        return self.change(render) if self.hook == "image" else render

    def penalty(self):
        zero = torch.zeros(())
        return self.change(zero) if self.hook == "penalty" else zero


DISTORTIONS = {
    "returned cameras as None; expected Cameras": ("cameras", lambda cameras: None),
    "returned cameras.world_to_camera as float32 [1, 4, 4]; expected float32 [2, 4, 4]": (
        "cameras",
        lambda cameras: cameras[0],
    ),
    "returned gaussians.means as float32 [3, 20, 3]; expected float32 [2, 20, 3]": (
        "gaussians",
        lambda found: changed(found, means=found.means.expand(3, 20, 3)),
    ),
    "returned gaussians.quats as float32 [19, 4]; expected float32 [20, 4]": (
        "gaussians",
        lambda found: changed(found, quats=found.quats[:19]),
    ),
    "returned gaussians.scales with values from -0.1 to -0.1; expected at least 0": (
        "gaussians",
        lambda found: changed(found, scales=-found.scales),
    ),
    "returned penalty as float32 [1]; expected float32 []": ("penalty", lambda zero: zero[None]),
    "returned rgb as float32 [2, 3, 48, 64]; expected float32 [2, 48, 64, 3]": (
        "image",
        lambda render: changed(render, rgb=render.rgb.movedim(-1, 1)),
    ),
    'returned info["weight"] as float32 [2, 10, 64]; expected float32 [2, 48, 64]': (
        "image",
        lambda render: replace(render, info={"weight": torch.ones(2, 10, 64)}),
    ),
}


@pytest.mark.parametrize("message", DISTORTIONS)
def test_a_distortion_keeps_shapes(message: str):
    distortion = Wrong(*DISTORTIONS[message])
    with pytest.raises(OutputError) as caught:
        check_render(Reference(), distortion, scene(), moved(4), 3)
    assert str(caught.value) == f"distortion {MODULE}.Wrong {message}"


class Odd(Reference):
    """Changes the sums of `reference`."""

    def __init__(self, change: Any) -> None:
        self.change = change

    def rasterize(self, gaussians, colors, cameras):
        return self.change(*super().rasterize(gaussians, colors, cameras))


RENDERERS = {
    "returned sums as tuple; expected a tuple of colour, coverage, z-depth and a dictionary": (
        lambda rgb, alpha, depth, info: (rgb, alpha, depth)
    ),
    "returned the sum of coverage as float32 [2, 48, 64, 1]; expected float32 [2, 48, 64]": (
        lambda rgb, alpha, depth, info: (rgb, alpha[..., None], depth, info)
    ),
    "returned alpha with values from 2 to 2; expected values from 0 to 1": (
        lambda rgb, alpha, depth, info: (rgb, 0 * alpha + 2, depth, info)
    ),
    "returned rgb without a gradient; expected one with respect to Gaussians and cameras": (
        lambda rgb, alpha, depth, info: (rgb.detach(), alpha.detach(), depth.detach(), info)
    ),
}


@pytest.mark.parametrize("message", RENDERERS)
def test_a_renderer_returns_differentiable_pictures(message: str):
    identity = distortions.build({"name": "identity"})
    with pytest.raises(OutputError) as caught:
        check_render(Odd(RENDERERS[message]), identity, scene(), moved(4), 3)
    assert str(caught.value) == f"renderer {MODULE}.Odd {message}"


def test_the_check_of_a_render_changes_nothing():
    distortion = distortions.build(
        {"name": "composed"},
        num_views=4,
        extent=3.0,
        size=(WIDTH, HEIGHT),
        trajectory=trajectory(),
        points=PointCloud(scene().means, torch.zeros(20, 3)),
    )
    distortion.progress = 0.0
    before = {key: value.clone() for key, value in distortion.state_dict().items()}
    state = torch.random.get_rng_state()
    check_render(Reference(), distortion, scene(), moved(4), 3)
    assert torch.random.get_rng_state().equal(state)
    assert distortion.progress == 0.0
    after = distortion.state_dict()
    assert all(torch.equal(after[key].nan_to_num(), before[key].nan_to_num()) for key in before)
    assert all(parameter.grad is None for parameter in distortion.parameters())


def test_a_render_of_a_single_frame_passes():
    identity = distortions.build({"name": "identity"})
    check_render(Reference(), identity, scene(), moved(1), 0)


def test_released_hexplane_may_change_the_input():
    released = build_distortion("hexplane", as_released=True)
    assert not released.keeps_input
    cameras = SUPPLIED["trajectory"].cameras
    check_render(Reference(), released, random_gaussians(50), cameras, 3)
