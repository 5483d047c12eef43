"""Pictures of every kind become a frame and a camera that agree with each other."""

import math
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from lift.io.image import CALIBRATIONS, PHOTOS, encode_image, load_picture, read_image, save_image
from lift.synthetic import scenes

ORIENTATION = ExifTags.Base.Orientation.value


def scene(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards; a blue block in the upper left corner."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack(
        [255 * (x + 0.5) / width, 255 * (y + 0.5) / height, np.zeros((height, width))], -1
    )
    pixels[: height // 8, : width // 8] = [0, 0, 255]
    return Image.fromarray(pixels.round().astype(np.uint8))


def exif(**tags: float) -> Image.Exif:
    out = Image.Exif()
    for name, value in tags.items():
        tag = ExifTags.Base[name].value
        (out if name in ("Orientation",) else out.get_ifd(ExifTags.IFD.Exif))[tag] = value
    return out


def field(focal: float, pixels: float) -> float:
    return math.degrees(2 * math.atan(pixels / 2 / focal))


@pytest.mark.parametrize("name", PHOTOS)
def test_built_in_photos_need_no_network(name, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("network"))
    picture = load_picture(name, 128, 55.0)
    assert picture.name == name and max(picture.frames.images.shape[1:3]) == 128
    assert picture.frames.images.float().std() > 10


def test_size_camera_and_field_of_view_follow(tmp_path):
    scene(900, 600).save(tmp_path / "a.png")
    picture = load_picture(str(tmp_path / "a.png"), 240, 60.0)
    cameras = picture.cameras
    assert (cameras.width, cameras.height) == (240, 160) and tuple(picture.frames.images.shape) == (
        1,
        160,
        240,
        3,
    )
    assert picture.frames.depth is None and picture.name == "a" and len(picture.digest) == 64
    assert field(float(cameras.intrinsics[0, 0, 0]), 240) == pytest.approx(60, abs=1e-4)
    assert cameras.intrinsics[0, :2, 2].tolist() == [120, 80]
    assert torch.equal(cameras.world_to_camera[0], torch.eye(4))
    assert any("60 degrees" in note for note in picture.notes)


@pytest.mark.parametrize("size", [(741, 500), (403, 299), (299, 403), (1000, 77), (65, 64)])
@pytest.mark.parametrize("wanted", [64, 200, 250, 5000])
def test_sides_are_multiples_of_eight_and_pixels_stay_square(tmp_path, size, wanted):
    """Colours encode source positions: both axes zoom alike and nothing is enlarged."""
    scene(*size).save(tmp_path / "a.png")
    picture = load_picture(str(tmp_path / "a.png"), wanted, 60.0)
    height, width = picture.frames.images.shape[1:3]
    assert (
        width % 8 == 0
        and height % 8 == 0
        and wanted // 8 * 8 >= max(width, height) > min(wanted, max(size), 4 * min(size)) - 8
    )
    assert width <= size[0] and height <= size[1]
    red, green = (
        picture.frames.images[0, height // 2, :, 0].float(),
        picture.frames.images[0, :, width // 2, 1].float(),
    )
    steps = (
        (red[-4] - red[3]) / (width - 7) * size[0],
        (green[-4] - green[3]) / (height - 7) * size[1],
    )
    assert float(steps[0]) == pytest.approx(float(steps[1]), rel=0.03)
    assert picture.cameras.intrinsics[0, 0, 0] == picture.cameras.intrinsics[0, 1, 1]


def test_calibrated_photo_keeps_its_calibration():
    picture = load_picture("motorcycle_left", 368, 20.0)
    focal, cx, cy = CALIBRATIONS["motorcycle_left"]
    k = picture.cameras.intrinsics[0]
    zoom = picture.cameras.width / 741
    assert picture.cameras.width == 368 and picture.cameras.height == 248
    # The centred crop to blocks removes at most half a block on each side.
    # The zoom is that of the tighter axis.
    zoom = max(zoom, 248 / 500)
    assert float(k[0, 0]) == pytest.approx(focal * zoom, rel=1e-6)
    assert float(k[0, 2]) == pytest.approx((cx - 741 / 2) * zoom + 184, abs=1e-3)
    assert float(k[1, 2]) == pytest.approx((cy - 250) * zoom + 124, abs=1e-3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    """Whatever way the sensor was held, the picture comes out upright."""
    upright = scene(640, 400)
    undo = {
        2: 0,
        3: 3,
        4: 1,
        5: 5,
        6: 2,
        7: 6,
        8: 4,
    }  # the Transpose that the camera's orientation undoes
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    stored.save(tmp_path / "a.jpg", quality=95, exif=exif(Orientation=orientation))
    for image in (
        load_picture(str(tmp_path / "a.jpg"), 320, 60.0).frames.images[0],
        read_image(tmp_path / "a.jpg"),
    ):
        height, width = image.shape[:2]
        assert width / height == pytest.approx(1.6)
        assert image[2, 2, 2] > 200 and image[-2, -2, 2] < 40
        assert image[height // 2, -3, 0] > 240 and image[-3, width // 2, 1] > 240


def test_the_size_of_the_file_is_kept_upright(tmp_path):
    scene(96, 64).save(tmp_path / "a.jpg", exif=exif(Orientation=6))
    assert load_picture(str(tmp_path / "a.jpg"), 64, 60.0).full_size == (64, 96)


def test_focal_length_from_exif(tmp_path):
    wide = tmp_path / "wide.jpg"
    scene(600, 400).save(wide, exif=exif(FocalLengthIn35mmFilm=50))
    picture = load_picture(str(wide), 240, 90.0)
    assert field(
        float(picture.cameras.intrinsics[0, 0, 0]), picture.cameras.width
    ) == pytest.approx(39.6, abs=0.1)
    assert any("EXIF" in note for note in picture.notes) and not any(
        "assumed" in note for note in picture.notes
    )

    # A sensor of 36 mm has 6000 pixels. The picture is then halved twice.
    # 24 mm are 4000 pixels of the sensor.
    dense = tmp_path / "dense.jpg"
    tags = dict(
        FocalLength=24,
        FocalPlaneXResolution=6000 / 3.6,
        FocalPlaneResolutionUnit=3,
        ExifImageWidth=6000,
        ExifImageHeight=4000,
    )
    scene(1500, 1000).save(dense, exif=exif(**tags))
    picture = load_picture(str(dense), 1500, 90.0)
    assert float(picture.cameras.intrinsics[0, 0, 0]) == pytest.approx(1000, rel=1e-3)

    turned = tmp_path / "turned.jpg"  # portrait: the camera turns with the picture
    scene(600, 400).save(turned, exif=exif(FocalLengthIn35mmFilm=50, Orientation=6))
    camera = load_picture(str(turned), 240, 90.0).cameras
    assert camera.height > camera.width and field(
        float(camera.intrinsics[0, 1, 1]), camera.height
    ) == pytest.approx(39.6, abs=0.2)


@pytest.mark.parametrize(
    "tags, reason",
    [
        (dict(FocalLengthIn35mmFilm=60000), "field of view of"),
        (dict(FocalLengthIn35mmFilm=2), "field of view of"),
        (dict(FocalLengthIn35mmFilm=50, ExifImageWidth=400, ExifImageHeight=400), "cropped"),
        (dict(FocalLengthIn35mmFilm=0), "assumed"),
        (dict(FocalLength=24), "assumed"),
    ],
)
def test_focal_length_that_cannot_be_right_is_not_used(tmp_path, tags, reason):
    scene(600, 400).save(tmp_path / "a.jpg", exif=exif(**tags))
    picture = load_picture(str(tmp_path / "a.jpg"), 240, 70.0)
    assert field(float(picture.cameras.intrinsics[0, 0, 0]), 240) == pytest.approx(70, abs=1e-3)
    assert any(reason in note for note in picture.notes)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(64, 0)
    Image.fromarray(ramp).save(tmp_path / "grey.png")
    Image.fromarray(ramp).save(tmp_path / "grey.tif")
    import cv2

    cv2.imwrite(str(tmp_path / "colour.png"), np.stack([ramp] * 3, -1))
    for name in ("grey.png", "grey.tif", "colour.png"):
        image = load_picture(str(tmp_path / name), 256, 60.0).frames.images[0]
        assert (image[32, :, 0].float() - torch.arange(256)).abs().max() <= 1.01, name
        assert torch.equal(image[..., 0], image[..., 1])


def test_modes(tmp_path):
    base = scene(160, 96)
    plain = load_picture(_save(base, tmp_path / "rgb.png"), 160, 60.0).frames.images.float()
    for mode, suffix, tolerance in (
        ("L", "png", None),
        ("P", "png", 30),
        ("CMYK", "jpg", 30),
        ("CMYK", "tif", 3),
        ("1", "png", None),
    ):
        image = load_picture(
            _save(base.convert(mode), tmp_path / f"{mode}.{suffix}"), 160, 60.0
        ).frames.images.float()
        assert image.shape == plain.shape
        assert tolerance is None or (image - plain).abs().mean() < tolerance, mode


def _save(image: Image.Image, path) -> str:
    image.save(path)
    return str(path)


def test_transparency_is_laid_over_white(tmp_path):
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, :32] = [200, 0, 0, 255]
    pixels[:, 48:] = [0, 0, 0, 128]
    picture = load_picture(_save(Image.fromarray(pixels), tmp_path / "a.png"), 64, 60.0)
    row = picture.frames.images[0, 32]
    assert (
        row[8].tolist() == [200, 0, 0]
        and row[40].tolist() == [255, 255, 255]
        and row[60].tolist() == [127, 127, 127]
    )
    assert any("white" in note for note in picture.notes)

    palette = Image.new("P", (64, 64), 1)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "p.png", transparency=1)
    assert load_picture(str(tmp_path / "p.png"), 64, 60.0).frames.images.min() == 255


def test_animation_gives_its_first_picture(tmp_path):
    red, blue = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "blue")
    red.save(tmp_path / "a.gif", save_all=True, append_images=[blue, blue])
    picture = load_picture(str(tmp_path / "a.gif"), 64, 60.0)
    assert picture.frames.images[0, 5, 5].tolist() == [255, 0, 0]
    assert any("first of" in note for note in picture.notes)


def test_very_wide_and_very_tall_are_cropped_in_the_middle(tmp_path):
    for size in ((2000, 100), (100, 2000)):
        picture = load_picture(_save(scene(*size), tmp_path / "a.png"), 400, 60.0)
        height, width = picture.frames.images.shape[1:3]
        assert sorted((width, height)) == [96, 400] or sorted((width, height)) == [104, 400]
        assert any("4:1" in note for note in picture.notes)
        along = (
            picture.frames.images[0, height // 2, :, 0]
            if width > height
            else picture.frames.images[0, :, width // 2, 1]
        )
        assert along[0] == pytest.approx(255 * 0.4, abs=3) and along[-1] == pytest.approx(
            255 * 0.6, abs=3
        )
        assert field(float(picture.cameras.intrinsics[0, 0, 0]), 400) == pytest.approx(60, abs=1.5)


def test_very_small(tmp_path):
    picture = load_picture(_save(scene(40, 24), tmp_path / "a.png"), 512, 60.0)
    assert (picture.cameras.width, picture.cameras.height) == (64, 40)
    assert any("enlarged" in note for note in picture.notes)
    with pytest.raises(ValueError, match="15 x 40 pixels; each side needs at least 16"):
        load_picture(_save(scene(15, 40), tmp_path / "b.png"), 512, 60.0)
    with pytest.raises(ValueError, match="size is 8"):
        load_picture("coffee", 8, 60.0)


def test_very_large(tmp_path):
    """A JPEG above Pillow's limit is reduced while it is decoded, and keeps its content.

    A PNG of that size raises an error of one line.
    """
    edge = np.zeros((400, 16000), np.uint8)
    edge[:, 8000:] = 255
    Image.fromarray(edge).resize((16000, 13001), Image.Resampling.NEAREST).save(
        tmp_path / "a.jpg", quality=50
    )
    limit = Image.MAX_IMAGE_PIXELS
    picture = load_picture(str(tmp_path / "a.jpg"), 128, 60.0)
    assert limit == Image.MAX_IMAGE_PIXELS
    assert (picture.cameras.width, picture.cameras.height) == (128, 104)
    row = picture.frames.images[0, 50, :, 0].int()
    assert row[62] < 12 and row[65] > 243 and row[63] + row[64] == pytest.approx(255, abs=12)

    header = BytesIO()
    Image.new("1", (64, 64)).save(header, "png")
    data = bytearray(header.getvalue())
    data[16:24] = (20000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(bytes(data))
    with pytest.raises(
        ValueError, match="20000 x 20000 pixels are more than the limit of 200 million"
    ):
        load_picture(str(tmp_path / "bomb.png"), 128, 60.0)


def test_what_is_not_a_picture_is_one_line(tmp_path):
    scene(200, 160).save(tmp_path / "a.jpg")
    scene(200, 160).save(tmp_path / "a.png")
    for name in ("a.jpg", "a.png"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / f"cut_{name}").write_bytes(data[: len(data) // 2])
        with pytest.raises(ValueError, match=f"cut_{name}.* is damaged") as caught:
            load_picture(str(tmp_path / f"cut_{name}"), 64, 60.0)
        assert "\n" not in str(caught.value)
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("text.jpg", "empty.png"):
        with pytest.raises(ValueError, match=f"{name} is not a picture"):
            load_picture(str(tmp_path / name), 64, 60.0)
    with pytest.raises(ValueError, match="a folder"):
        load_picture(str(tmp_path), 64, 60.0)


def test_damaged_bytes_never_end_in_anything_but_a_line(tmp_path):
    rng = np.random.default_rng(0)
    for suffix in ("jpg", "png", "gif", "tif", "webp", "bmp"):
        scene(96, 64).save(tmp_path / f"a.{suffix}")
        data = np.frombuffer((tmp_path / f"a.{suffix}").read_bytes(), np.uint8)
        for _ in range(15):
            broken = data.copy()
            broken[rng.integers(0, min(len(data), 400), 6)] = rng.integers(0, 256, 6)
            (tmp_path / f"b.{suffix}").write_bytes(broken.tobytes())
            try:
                load_picture(str(tmp_path / f"b.{suffix}"), 64, 60.0)
            except ValueError as error:
                assert "\n" not in str(error)


def test_unknown_name_error_lists_choices():
    with pytest.raises(FileNotFoundError, match="image is 'cofee'.*coffee"):
        load_picture("cofee", 64, 60.0)


def test_scene_is_a_picture_too():
    name = next(iter(scenes.SCENES))
    picture = load_picture(name, 64, 60.0)
    assert tuple(picture.frames.images.shape) == (1, 64, 64, 3) and picture.frames.depth is None
    assert (
        picture.digest == load_picture(name, 64, 60.0).digest != load_picture(name, 72, 60.0).digest
    )


def test_digest_is_of_the_bytes(tmp_path):
    scene(64, 64).save(tmp_path / "a.png")
    scene(64, 64).save(tmp_path / "b.png")
    first = load_picture(str(tmp_path / "a.png"), 64, 60.0).digest
    assert (
        first
        == load_picture(str(tmp_path / "b.png"), 32, 60.0).digest
        != load_picture("coffee", 64, 60.0).digest
    )


def test_saved_pictures_come_back(tmp_path):
    image = torch.randint(0, 256, (20, 30, 3), dtype=torch.uint8)
    save_image(tmp_path / "a.png", image)
    assert torch.equal(read_image(tmp_path / "a.png"), image)
    save_image(tmp_path / "b.png", image.float() / 255)
    assert torch.equal(read_image(tmp_path / "b.png"), image)
    save_image(tmp_path / "grey.png", image[..., 0])
    assert encode_image(image)[:4] == b"\x89PNG" and encode_image(image, "jpeg")[:2] == b"\xff\xd8"


def test_a_crop_to_a_chosen_shape_keeps_the_camera_right(tmp_path):
    path = tmp_path / "a.png"
    scene(600, 400).save(path)
    whole = load_picture(str(path), 600, 60.0)
    cropped = load_picture(str(path), 600, 60.0, lambda *_: ((16, 9), ""))
    camera = cropped.cameras
    assert (camera.width, camera.height) == (600, 336)
    top = (400 - 336) // 2
    assert cropped.frames.images[0].equal(whole.frames.images[0, top : top + 336])
    assert camera.intrinsics[0, 0, 0] == whole.cameras.intrinsics[0, 0, 0]
    assert camera.intrinsics[0, :2, 2].tolist() == [300, 168]


def test_a_turned_picture_is_cropped_as_it_is_seen(tmp_path):
    path = tmp_path / "a.jpg"
    scene(600, 400).save(path, exif=exif(Orientation=6))  # seen with 400 x 600 pixels
    sizes = []

    def choose(width, height):
        sizes.append((width, height))
        return (16, 9), ""

    camera = load_picture(str(path), 600, 60.0, choose).cameras
    assert sizes == [(400, 600)] and (camera.width, camera.height) == (400, 224)


def test_a_scene_is_rendered_in_the_chosen_shape():
    camera = load_picture("room", 64, 60.0, lambda *_: ((16, 9), "")).cameras
    assert (camera.width, camera.height) == (64, 32)  # 36 rows, less half a block
    assert camera.intrinsics[0, 0, 0] == load_picture("room", 64, 60.0).cameras.intrinsics[0, 0, 0]
