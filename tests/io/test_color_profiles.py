"""Embedded colour profiles are converted to sRGB, whatever the kind of picture."""

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from lift.io.image import load_picture, read_image
from tests.helpers.icc import cmyk_profile, grey_profile, rgb_profile, to_srgb

COLOR = (200, 120, 60)


def save(path, mode: str = "RGB", profile: bytes | None = None, color=COLOR, **options) -> None:
    image = Image.new("RGB", (32, 32), color).convert(mode)
    image.save(path, icc_profile=profile, **options)


def first_pixel(path) -> np.ndarray:
    return read_image(path)[16, 16].numpy().astype(float)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_colours_of_a_wide_profile_become_srgb(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    save(path, profile=rgb_profile(), **({"quality": 100} if suffix in ("jpg", "webp") else {}))
    expected = to_srgb(COLOR)
    assert np.abs(expected - COLOR).max() > 5, "the profile changes the colour"
    assert np.abs(first_pixel(path) - expected).max() <= 3


def test_transparent_pictures_keep_their_alpha(tmp_path):
    image = Image.new("RGBA", (32, 32), (*COLOR, 128))
    image.save(tmp_path / "a.png", icc_profile=rgb_profile())
    expected = to_srgb(COLOR) * (128 / 255) + 255 * (127 / 255)
    assert np.abs(first_pixel(tmp_path / "a.png") - expected).max() <= 2


def test_adobe_rgb_that_only_exif_states_is_converted(tmp_path):
    primaries = ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446))
    expected = to_srgb(COLOR, primaries, 563 / 256)
    assert np.abs(expected - COLOR).max() > 5
    for index, color in (("R03", expected), ("R98", COLOR)):
        exif = Image.Exif()
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: index}
        save(tmp_path / "a.jpg", exif=exif, quality=100)
        assert np.abs(first_pixel(tmp_path / "a.jpg") - color).max() <= 3
    notes = load_picture(str(tmp_path / "a.jpg"), 32, 60.0).notes
    assert not any("Adobe RGB" in note for note in notes)


def test_palettes_are_converted_too(tmp_path):
    save(tmp_path / "a.png", "P", rgb_profile(), color=(204, 102, 51))
    expected = to_srgb((204, 102, 51))
    assert np.abs(first_pixel(tmp_path / "a.png") - expected).max() <= 2


def test_grey_profiles_and_sixteen_bits_are_converted(tmp_path):
    profile = grey_profile(1.0)
    Image.new("L", (32, 32), 64).save(tmp_path / "a.png", icc_profile=profile)
    deep = Image.fromarray(np.full((32, 32), 64 * 257, np.uint16))
    deep.save(tmp_path / "b.png", icc_profile=profile)
    linear = 64 / 255
    expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
    for name in ("a.png", "b.png"):
        assert np.abs(first_pixel(tmp_path / name) - expected).max() <= 2


@pytest.mark.parametrize("suffix", ["tif", "jpg"])
def test_inks_are_converted_by_their_profile(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    image = Image.new("CMYK", (32, 32), (255, 0, 0, 0))
    image.save(path, icc_profile=cmyk_profile(), quality=100)
    luminance = ((70 + 16) / 116) ** 3
    expected = 255 * (1.055 * luminance ** (1 / 2.4) - 0.055)
    assert np.abs(first_pixel(path) - expected).max() <= 3


def test_a_reduced_photo_is_converted_and_says_so(tmp_path):
    Image.new("RGB", (640, 480), COLOR).save(tmp_path / "a.jpg", icc_profile=rgb_profile())
    picture = load_picture(str(tmp_path / "a.jpg"), 64, 60.0)
    assert "colours converted from a test to sRGB" in picture.notes
    pixel = picture.frames.images[0, 20, 20].numpy().astype(float)
    assert np.abs(pixel - to_srgb(COLOR)).max() <= 3


def test_pixels_with_the_profile_of_srgb_do_not_change(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=srgb)
    assert (read_image(tmp_path / "a.png").numpy() == pixels).all()


def test_lab_pictures_become_srgb(tmp_path):
    srgb = ImageCms.createProfile("sRGB")
    lab = ImageCms.buildTransform(srgb, ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab.apply(Image.new("RGB", (32, 32), COLOR)).save(tmp_path / "a.tif")
    assert np.abs(first_pixel(tmp_path / "a.tif") - COLOR).max() <= 4


@pytest.mark.parametrize(
    "profile, reason",
    [
        (b"no profile" * 30, "does not fit the picture"),
        (grey_profile(1.0), "does not fit the picture"),
        (rgb_profile()[:300], "is damaged and not used"),
    ],
)
def test_a_profile_that_cannot_be_used_is_noted(tmp_path, profile, reason):
    save(tmp_path / "a.png", profile=profile)
    assert first_pixel(tmp_path / "a.png").tolist() == list(COLOR)
    notes = load_picture(str(tmp_path / "a.png"), 32, 60.0).notes
    assert any(reason in note for note in notes)
