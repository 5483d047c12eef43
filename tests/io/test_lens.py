"""Photographs through a lens: the inner camera, and resampling to it."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from lift.geometry import look_at, pinhole
from lift.io.image import save_image
from lift.io.lens import Photograph
from tests.helpers.dataset_samples import HEIGHT, LENS, WIDTH, sample_cameras


@pytest.mark.parametrize("model", LENS)
def test_the_inner_camera_sees_all_it_can_and_no_border(tmp_path, model):
    camera = sample_cameras()[0]
    lens = (*LENS[model], *[0.0] * (8 - len(LENS[model])))
    inner = Photograph(tmp_path / "none.png", camera, LENS[model]).inner_camera(200)
    matrix = camera.intrinsics[0].double().numpy()

    def beyond(zoom: float) -> float:
        """How far the border projects outside the photograph with OpenCV. Negative is inside."""
        along = np.linspace(0, 1, 101)
        edge = np.concatenate(
            [
                np.stack(pair, -1)
                for side in (0.0, 1.0)
                for pair in ((along, 0 * along + side), (0 * along + side, along))
            ]
        )
        k = inner.intrinsics[0].double().numpy()
        rays = (edge * (inner.width, inner.height) - k[:2, 2]) / k[0, 0] * zoom
        at = cv2.projectPoints(
            np.concatenate([rays, np.ones_like(rays[:, :1])], -1)[:, None],
            np.zeros(3),
            np.zeros(3),
            matrix,
            np.array(lens),
        )[0][:, 0]
        return float(np.maximum(-at, at - (WIDTH, HEIGHT)).max())

    assert beyond(1.0) < 1e-3 and beyond(1.002) > 0.1, "it touches the border"
    assert (inner.width, inner.height) == (200, 150)


def test_inner_camera_of_non_square_pixels_has_true_aspect(tmp_path):
    camera = replace(
        pinhole(60, 80, 50.0), intrinsics=torch.tensor([[[25.0, 0, 30], [0, 50, 40], [0, 0, 1]]])
    )  # 120 by 80, stored at half its width
    inner = Photograph(tmp_path / "none.png", camera).inner_camera(90)
    assert (inner.width, inner.height) == (90, 60) and float(
        inner.intrinsics[0, 0, 0]
    ) == pytest.approx(50 * 60 / 80, rel=1e-4)


def test_inner_camera_handles_odd_lenses_and_names_errors(tmp_path):
    camera = pinhole(60, 80, 50.0)
    inner = Photograph(tmp_path / "none.png", camera).inner_camera(40)
    assert (inner.width, inner.height) == (30, 40)
    torch.testing.assert_close(inner.intrinsics, camera.resized(30, 40).intrinsics)
    folding = Photograph(tmp_path / "none.png", camera, (-0.9,)).inner_camera(
        40
    )  # turns back before it reaches the corners: x - 0.9 x^3 is largest at 0.61
    assert float(torch.tensor([15.0, 20.0]).norm() / folding.intrinsics[0, 0, 0]) == pytest.approx(
        1 / math.sqrt(2.7), abs=2e-3
    )
    off = replace(camera, intrinsics=torch.tensor([[[50.0, 0, -3], [0, 50, 40], [0, 0, 1]]]))
    with pytest.raises(ValueError, match="principal point lies outside"):
        Photograph(tmp_path / "none.png", off).inner_camera(40)
    with pytest.raises(ValueError, match="longer side is 0"):
        Photograph(tmp_path / "none.png", camera).inner_camera(0)
    elsewhere = replace(
        camera,
        world_to_camera=look_at(torch.ones(1, 3), torch.zeros(1, 3), torch.tensor([[0.0, 1, 0]])),
    )
    with pytest.raises(ValueError, match="taken from elsewhere"):
        Photograph(tmp_path / "none.png", camera).resample(elsewhere)


def test_resampling_a_photograph_is_identity_or_mean(tmp_path):
    picture = torch.randint(
        0, 256, (48, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    save_image(tmp_path / "a.png", picture)
    photograph = Photograph(tmp_path / "a.png", pinhole(64, 48, 50.0))
    assert torch.equal(photograph.resample(photograph.camera).images[0], picture)
    assert torch.equal(photograph.resample(photograph.inner_camera(64)).images[0], picture)
    means = picture.float().view(12, 4, 16, 4, 3).mean((1, 3))
    assert (
        photograph.resample(photograph.inner_camera(16)).images[0].float() - means
    ).abs().max() <= 0.5
    larger = replace(
        photograph, camera=photograph.camera.resized(640, 480)
    )  # a camera of the full size, a picture reduced
    assert torch.equal(larger.resample(photograph.camera).images[0], picture)
