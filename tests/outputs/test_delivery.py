"""The fly-through of a delivery follows the cameras that were found, whatever was planned."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lift.distortions.identity import Identity
from lift.evaluation.truth import planned_loop
from lift.geometry import look_at, pinhole
from lift.io.image import Picture
from lift.outputs.delivery import input_coverage, plan_fly_through
from lift.outputs.quality import RunResult, corrected_cameras, max_parallax, registered_frames
from lift.renderers.reference import Reference
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

START = pinhole(32, 32, 32.0)
COUNT = 7


def wall() -> Gaussians:
    """A wide wall at depth 4."""
    side = torch.arange(-5, 5.01, 0.25)
    x, y = torch.meshgrid(side, side, indexing="ij")
    means = torch.stack([x, y, torch.full_like(x, 4.0)], dim=-1).reshape(-1, 3)
    count = len(means)
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(count, 4).clone()
    opacities = torch.full((count,), 0.95)
    return Gaussians(
        means, quats, torch.full((count, 3), 0.15), opacities, torch.zeros(count, 1, 3)
    )


@pytest.fixture
def video(tmp_path: Path) -> RunResult:
    """A video with a camera that moves right. The last frame is not registered."""
    (tmp_path / "split.json").write_text(json.dumps({"train": [1, 2, 4, 5], "held_out": [3]}))
    eye = torch.zeros(COUNT, 3)
    eye[:, 0] = torch.linspace(0, 1.2, COUNT)
    eye[-1] = torch.tensor([50.0, 0.0, 0.0])
    down = torch.tensor([0.0, 1.0, 0.0]).expand(COUNT, 3)
    pose = look_at(eye, torch.tensor([0.0, 0.0, 4.0]).expand(COUNT, 3), down)
    cameras = Cameras(pose, START.intrinsics.expand(COUNT, 3, 3).clone(), 32, 32)
    trajectory = Trajectory(START, (Clip("video", 0, START[[0] * (COUNT - 1)]),), "sequence")
    frames = Frames(torch.zeros(COUNT, 32, 32, 3, dtype=torch.uint8))
    depth = torch.full((32, 32), 4.0)
    confidence = torch.ones(COUNT, 32, 32)
    confidence[-1] = 0
    points = PointCloud(torch.zeros(1, 3), torch.zeros(1, 3))
    return RunResult(
        picture=Picture("video", frames[0], START, "0" * 64, ()),
        depth=Depth(depth, torch.ones(32, 32, dtype=torch.bool), "scale"),
        trajectory=trajectory,
        frames=frames,
        reconstruction=Reconstruction(cameras, points, depth.expand(COUNT, 32, 32), confidence),
        gaussians=wall(),
        distortion=Identity(),
        fit_folder=tmp_path,
    )


def test_a_video_is_followed_and_lost_frames_are_not(video):
    flight = plan_fly_through(Reference(), video, corrected_cameras(video), 24)
    x = flight.cameras.centers[:, 0]
    assert float(x[0]) == pytest.approx(0, abs=1e-5) and 0.6 < float(x.max()) < 1.0
    assert flight.scale == 1 and float(flight.coverage.min()) > 0.97


def test_holes_beside_the_input_shrink_the_motion(video):
    visible = video.gaussians.means[:, 0] < 2.05  # of the wall, what the input's picture shows
    cut = replace(video, gaussians=video.gaussians[visible])
    flight = plan_fly_through(Reference(), cut, corrected_cameras(cut), 24)
    turned = replace(cut, reconstruction=replace(cut.reconstruction, cameras=_ahead(cut)))
    slid = plan_fly_through(Reference(), turned, corrected_cameras(turned), 24)
    assert flight.scale == 1, "cameras that turn towards the middle still see the wall"
    assert slid.scale < 1 and float(slid.coverage.min()) >= 0.9


def _ahead(result: RunResult) -> Cameras:
    """The scene's cameras, all looking straight ahead."""
    cameras = result.reconstruction.cameras
    straight = torch.eye(4).expand(COUNT, 4, 4).clone()
    straight[:, :3, 3] = -cameras.centers
    return replace(cameras, world_to_camera=straight)


def test_coverage_by_the_input_alone_needs_generated_frames(video):
    cameras = corrected_cameras(video)
    flight = plan_fly_through(Reference(), video, cameras, 24)
    assert input_coverage(Reference(), video, cameras, flight) is None
    made = replace(video, trajectory=replace(video.trajectory, hint="planned"))
    seen = input_coverage(Reference(), made, cameras, flight)
    assert seen is not None and seen.shape == flight.coverage.shape
    assert float(seen[0]) > 0.97 and float(seen.min()) < float(flight.coverage.min())


def test_parallax_counts_registered_frames(video):
    assert registered_frames(video) == [0, 1, 2, 3, 4, 5]
    # The last registered frame is at distance 1 from the input, the wall at 4.
    assert max_parallax(video, corrected_cameras(video)) == pytest.approx(14.04, abs=0.01)
    nothing = torch.zeros_like(video.reconstruction.confidence)
    alone = replace(video, reconstruction=replace(video.reconstruction, confidence=nothing))
    assert max_parallax(alone, corrected_cameras(alone)) is None


def test_views_for_truth_depend_on_the_plan_alone(video):
    planned = Trajectory(START, (Clip("right", 0, video.reconstruction.cameras[[1, 2, 3]]),))
    loop = planned_loop(planned, 4.0, 8)
    assert (
        len(loop) == 8 and (loop.world_to_camera[0] - START.world_to_camera[0]).abs().max() < 1e-6
    )
    assert float(loop.centers[:, 0].max()) == pytest.approx(0.8 * 0.6, abs=1e-4)
