"""Samples that were handled wrongly once. They do not travel with the project."""

from pathlib import Path

import numpy as np
import pytest

from lift.io.cameras import read_cameras, read_views
from lift.io.image import read_image
from lift.io.splats import export, read_ply
from lift.io.video import read_frames
from lift.planners import planners
from tests.helpers.dataset_samples import open_dataset


@pytest.fixture
def samples(shared) -> Path:
    folder = shared / "data" / "failing_inputs"
    if not folder.is_dir():
        pytest.skip("the shared data has no failing inputs")
    return folder


def test_variable_frame_rate_matches_its_path(samples):
    frames = read_frames(samples / "vfr.mp4").images
    assert len(frames) == 20
    assert len(read_cameras(samples / "vfr_path.json")) in (20, 21)


@pytest.mark.parametrize("name, size", [("ds_o3", (320, 216)), ("ds_o6sq", (216, 216))])
def test_turned_pictures_are_read_as_stored(samples, name, size):
    dataset, scenes = open_dataset("folder", samples / name)
    capture = dataset.capture(scenes[0])
    assert (capture.cameras.width, capture.cameras.height) == size
    camera = capture.inner_camera(0, 64)
    frame = capture.load_view(0, camera).images[0].float()
    stored = read_image(samples / name / "images" / "0.jpg", upright=False).float()
    height, width = frame.shape[:2]
    rows = (np.arange(height) + 0.5) * size[1] // height
    columns = (np.arange(width) + 0.5) * size[0] // width
    near = stored[rows.astype(int)][:, columns.astype(int)]
    wrong = near.flip(0, 1)
    assert (frame - near).abs().mean() < 0.5 * (frame - wrong).abs().mean()


def test_blank_lines_of_colmap(samples):
    assert len(read_views(samples / "colmap_blank")) == 4


def test_display_p3(samples):
    pixel = read_image(samples / "p3_photo.jpg")[0, 0].numpy().astype(int)
    assert np.abs(pixel - (224, 172, 105)).max() <= 1


@pytest.mark.parametrize("name", ["nowh.json", "nerf_synthetic.json"])
def test_sizes_that_nothing_tells(samples, name):
    with pytest.raises(ValueError, match=f"{name}': it has no w and h, and its picture"):
        read_cameras(samples / name)


def test_sizes_that_pictures_tell(samples):
    cameras = read_cameras(samples / "ds_nowh" / "transforms.json")
    assert (cameras.width, cameras.height, len(cameras)) == (320, 216, 3)


@pytest.mark.parametrize("name", ["nullk.json", "bom.json", "campath.json"])
def test_files_of_other_programs(samples, name):
    cameras = read_cameras(samples / name)
    assert len(cameras) == 3 and (cameras.width, cameras.height) == (320, 240)
    if name == "campath.json":
        assert len(planners.build({"name": "path", "path": str(samples / name)}).cameras) == 3


def test_heic_is_read_or_names_its_package(samples):
    try:
        assert read_image(samples / "photo.heic").ndim == 3
    except ImportError as error:
        assert "pip install 'lift[heif]'" in str(error)


def test_a_small_scene_is_not_exported_to_spz(samples, tmp_path):
    with pytest.raises(ValueError, match="choose another format, or scale the scene"):
        export(samples / "small1000.ply", tmp_path / "a.spz")
    assert not list(tmp_path.iterdir())


def test_one_gaussian_that_is_not_finite(samples):
    assert len(read_ply(samples / "nan1.ply")) == 199
