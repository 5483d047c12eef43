"""What a viewer shows of a file or a run."""

import pytest
import torch

from lift.io.splats import write_ply
from lift.outputs.viewer.content import ViewerContent, file_content
from lift.types import Gaussians
from tests.helpers.scenes import write_small_scene


def gaussians(means: torch.Tensor) -> Gaussians:
    count = len(means)
    return Gaussians(
        means,
        torch.tensor([1.0, 0, 0, 0]).expand(count, 4).clone(),
        torch.full((count, 3), 0.1),
        torch.full((count,), 0.5),
        torch.zeros(count, 1, 3),
    )


def test_cameras_beside_a_file_give_the_first_view(tmp_path):
    content = file_content(write_small_scene(tmp_path))
    assert content.cameras is not None and content.input_camera.width == 100
    assert content.folder == tmp_path and content.region is None


def test_a_file_alone_is_seen_from_the_origin(tmp_path):
    path = tmp_path / "alone.ply"
    write_ply(path, gaussians(torch.randn(50, 3) * 0.2 + torch.tensor([0.0, 0.0, 4.0])))
    content = file_content(path)
    assert content.cameras is None and content.label == "alone.ply"
    assert torch.equal(content.input_camera.world_to_camera[0], torch.eye(4))
    assert content.typical_depth == pytest.approx(4, rel=0.1)


def test_a_scene_around_the_origin_is_seen_from_outside():
    means = torch.randn(200, 3) - torch.tensor([0.0, 0.0, 2.0])
    content = ViewerContent(gaussians(means), "foreign")
    depth = means @ content.input_camera.world_to_camera[0, 2, :3]
    depth = depth + content.input_camera.world_to_camera[0, 2, 3]
    assert float((depth > 0).float().mean()) > 0.9


@pytest.mark.parametrize("count", [0, 1])
def test_a_scene_of_almost_nothing_has_a_first_view(count):
    content = ViewerContent(gaussians(torch.zeros(count, 3)), "nothing")
    assert content.typical_depth > 0 and len(content.input_camera) == 1


def test_a_huge_scene_has_a_first_view(quantile_limit):
    means = torch.randn(3 * quantile_limit, 3) - torch.tensor([0.0, 0.0, 2.0])
    content = ViewerContent(gaussians(means), "huge")
    assert content.input_camera.centers[0, 2] < -2  # outside of the scene
