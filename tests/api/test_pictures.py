"""Pictures in memory become files that are named by their content."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lift.api.pictures import store_image
from lift.io.image import load_picture, read_image

PIXELS = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)


def test_all_kinds_of_one_picture_are_one_file(tmp_path):
    kinds = (PIXELS, torch.from_numpy(PIXELS), Image.fromarray(PIXELS))
    paths = {store_image(kind, tmp_path) for kind in kinds}
    assert len(paths) == 1
    path = tmp_path / "cache" / "images" / next(iter(paths)).split("/")[-1]
    assert torch.equal(read_image(path), torch.from_numpy(PIXELS))
    assert [file.name for file in path.parent.iterdir()] == [path.name], "no draft is left"


def test_other_pixels_are_another_file(tmp_path):
    assert store_image(PIXELS, tmp_path) != store_image(PIXELS[::-1], tmp_path)


def test_a_file_is_not_written_again(tmp_path):
    path = store_image(PIXELS, tmp_path)
    before = Path(path).stat().st_mtime_ns
    assert store_image(PIXELS, tmp_path) == path
    assert Path(path).stat().st_mtime_ns == before


def test_names_of_files_stay(tmp_path):
    assert store_image("coffee", tmp_path) == "coffee"
    assert store_image(tmp_path / "a b.jpg", tmp_path) == str(tmp_path / "a b.jpg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "YCbCr"])
def test_modes_of_pil_are_readable(tmp_path, mode):
    path = store_image(Image.fromarray(PIXELS).convert(mode), tmp_path)
    assert load_picture(path, 96, 55.0).frames.images.shape == (1, 64, 88, 3)


def test_the_focal_length_and_the_name_of_a_photograph_stay(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 28  # focal length in 35 mm film
    Image.fromarray(PIXELS).save(tmp_path / "my photo.jpg", exif=exif)
    path = store_image(Image.open(tmp_path / "my photo.jpg"), tmp_path)
    assert path.rsplit("/", 1)[1].startswith("my_photo-")
    assert load_picture(path, 96, 55.0).focal_known


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (PIXELS.astype(np.float32), r"array of float32 \[70, 90, 3\]; give uint8"),
        (torch.zeros(3, 70, 90, dtype=torch.uint8), r"array of uint8 \[3, 70, 90\]; give uint8"),
        (PIXELS[None], r"array of uint8 \[1, 70, 90, 3\]"),
        (PIXELS[:0], r"array of uint8 \[0, 90, 3\]"),
    ],
)
def test_other_arrays_are_refused(tmp_path, image, message):
    with pytest.raises(ValueError, match=message):
        store_image(image, tmp_path)


def test_other_objects_are_refused(tmp_path):
    with pytest.raises(TypeError, match="image is int; give a file, an image of PIL"):
        inspect.unwrap(store_image)(3, tmp_path)  # without the tests' own check of types
