"""Points of many frames are merged into one cloud, and single depths are aligned."""

from dataclasses import replace

import pytest
import torch

from lift.geometry import pinhole, rigid, rotation_from_vector, unproject
from lift.multiview.depth_alignment import merge_points
from lift.types import Cameras, Frames

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def captured(device: str) -> tuple[Frames, Cameras, torch.Tensor, torch.Tensor]:
    """Three frames with unknown depth and low confidence in places."""
    generator = torch.Generator().manual_seed(0)
    camera = pinhole(64, 48, 60.0)
    vectors = 0.1 * torch.randn(3, 3, generator=generator)
    world = rigid(rotation_from_vector(vectors), torch.randn(3, 3, generator=generator))
    cameras = replace(camera, world_to_camera=world, intrinsics=camera.intrinsics.repeat(3, 1, 1))
    depth = 1 + torch.rand(3, 48, 64, generator=generator)
    depth[0, :5] = 0
    confidence = torch.rand(3, 48, 64, generator=generator)
    confidence[1] = 0
    images = torch.randint(0, 256, (3, 48, 64, 3), generator=generator, dtype=torch.uint8)
    frames = Frames(images.to(device))
    return frames, cameras.to(device), depth.to(device), confidence.to(device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("max_points", [10_000, 100, 1])
def test_the_cloud_is_an_even_subset_of_the_good_pixels(device: str, max_points: int) -> None:
    frames, cameras, depth, confidence = captured(device)
    good = (confidence >= 0.5) & (depth > 0)
    step = max(1, -(-int(good.sum()) // max_points))
    cloud = merge_points(frames, cameras, depth, confidence, max_points)
    torch.testing.assert_close(cloud.points, unproject(depth, cameras)[good][::step])
    assert torch.equal(cloud.colors, frames.images[good][::step].float() / 255)
    assert len(cloud) <= max_points and cloud.points.device.type == device
