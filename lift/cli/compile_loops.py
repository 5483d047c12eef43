"""Compile all loops of the CPU before the first run, as an image of a container does."""

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from lift.poses.sfm.state import SfmState
    from lift.types import Cameras

_SIZE = 64
"""Side in pixels of the pictures that the loops are compiled with."""


def compile_loops() -> None:
    """Compile the loops of the CPU into numba's cache, so that no run has to wait for them."""
    from lift.runtime.compile_ahead import compile_fit_loops

    compile_fit_loops()
    _sharpen_depth()
    _warp()
    _register()
    _sweep()


def _sharpen_depth() -> None:
    """Compile the loop of `lift.depths.edges`."""
    from lift.depths.edges import sharpen_depth
    from lift.types import Depth

    depth = torch.full((_SIZE, _SIZE), 2.0)
    depth[:, : _SIZE // 2] = 1.0
    image = torch.zeros(_SIZE, _SIZE, 3, dtype=torch.uint8)
    sharpen_depth(image, Depth(depth, depth > 0, "scale"), 3)


def _warp() -> None:
    """Compile the loops of `lift.warping`."""
    from lift.geometry import pinhole
    from lift.planners import planners
    from lift.priors import priors
    from lift.types import Depth, Frames

    camera = pinhole(_SIZE, _SIZE, float(_SIZE))
    ramp = torch.linspace(3, 1, _SIZE)[:, None].repeat(1, _SIZE)
    depth = Depth(ramp, ramp > 0, "scale")
    clip = planners.build({"name": "single"})(camera, depth, 1).clips[0]
    frames = Frames(torch.zeros(1, _SIZE, _SIZE, 3, dtype=torch.uint8), ramp[None])
    priors.build({"name": "warp"}, depth=depth)(frames, camera, clip, 0)


def _register() -> None:
    """Compile the loops of `lift.poses.sfm`."""
    from lift.poses.sfm.bundle import adjust
    from lift.poses.sfm.subpixel import refine_observations
    from lift.poses.sfm.tracks import Matches, build_tracks, thin_observations

    keypoints = torch.tensor([[20.0, 20.0], [40.0, 20.0], [30.0, 40.0], [20.0, 40.0]])
    index = torch.arange(len(keypoints))[:, None].repeat(1, 2)
    matches = [Matches(0, 1, index, torch.ones(len(index)))]
    observations = build_tracks([keypoints, keypoints], matches)
    observations = thin_observations(observations, len(keypoints))
    images = torch.zeros(2, _SIZE, _SIZE, 3, dtype=torch.uint8)
    observations = refine_observations(observations, images)
    adjust(_two_frames(), observations, torch.tensor([True, False]), steps=1)


def _two_frames() -> "SfmState":
    """Return two frames side by side, and four points."""
    from lift.poses.sfm.state import SfmState

    double = torch.float64
    return SfmState(
        torch.eye(3, dtype=double).repeat(2, 1, 1),
        torch.tensor([[0.0, 0, 0], [0.1, 0, 0]], dtype=double),
        torch.full((2,), float(_SIZE), dtype=double).log(),
        torch.full((2, 2), _SIZE / 2, dtype=double),
        torch.zeros(2, dtype=double),
        torch.tensor([[-1.0, -1, 4], [1, -1, 4], [0, 1, 5], [-1, 1, 5]], dtype=double),
        torch.ones(2, dtype=torch.bool),
    )


def _sweep() -> None:
    """Compile the loops of `lift.multiview.stereo`."""
    from lift.multiview.stereo.sweep import sweep

    planes = torch.linspace(0.2, 1.0, 4).repeat(2, 1)
    sweep(torch.zeros(2, _SIZE, _SIZE), _two_cameras(), torch.tensor([[1], [0]]), planes)


def _two_cameras() -> "Cameras":
    """Return two cameras side by side."""
    from lift.geometry import pinhole
    from lift.types import Cameras

    first = pinhole(_SIZE, _SIZE, float(_SIZE))
    world_to_camera = first.world_to_camera.repeat(2, 1, 1)
    world_to_camera[1, 0, 3] = 0.1
    return Cameras(world_to_camera, first.intrinsics.repeat(2, 1, 1), _SIZE, _SIZE)
