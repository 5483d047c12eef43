"""COLMAP's text with and without lines of points, and binary files whose counts are wrong."""

import struct
from pathlib import Path

import pytest

from lift.io.cameras import read_cameras, read_views
from lift.io.points import read_points
from tests.helpers.dataset_samples import convert_to_binary

IMAGES = [f"{k} 1 0 0 0 {k / 10} 0 0 1 im{k}.png" for k in range(4)]
POINTS = "1.5 2.5 -1 3 4 7"


def write_model(
    folder: Path, images: list[str], camera: str = "1 PINHOLE 32 24 30 30 16 12"
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cameras.txt").write_text(f"# cameras\n{camera}\n")
    (folder / "images.txt").write_text("\n".join(["# images", *images]))
    (folder / "points3D.txt").write_text("1 0 0 2 10 20 30 0.5\n")
    return folder


def names(folder: Path) -> list[str]:
    return [view.name for view in read_views(folder)]


@pytest.mark.parametrize(
    "between",
    [[], [""], [POINTS], ["", ""], [POINTS, ""], ["", "# a comment"], ["   "]],
    ids=["nothing", "blank", "points", "blanks", "points-blank", "comment", "spaces"],
)
def test_images_are_read_whatever_lies_between_them(tmp_path, between):
    lines = [line for image in IMAGES for line in (image, *between)]
    expected = [f"im{k}.png" for k in range(4)]
    assert names(write_model(tmp_path, lines)) == expected


def test_blank_lines_may_differ_from_image_to_image(tmp_path):
    lines = [IMAGES[0], "", IMAGES[1], "", "", IMAGES[2], POINTS, IMAGES[3]]
    assert len(names(write_model(tmp_path, lines))) == 4


def test_names_of_pictures_may_have_spaces(tmp_path):
    lines = [IMAGES[0].replace("im0", "im 0 a"), "", IMAGES[1]]
    assert sorted(names(write_model(tmp_path, lines))) == ["im 0 a.png", "im1.png"]


@pytest.mark.parametrize(
    "model, level",
    [
        *(("sparse/0", level) for level in ("", "sparse", "sparse/0")),
        *(("sparse", level) for level in ("", "sparse")),
        *(("colmap/sparse/0", level) for level in ("", "colmap", "colmap/sparse")),
    ],
)
def test_a_project_is_read_from_folders_of_any_level(tmp_path, level, model):
    write_model(tmp_path / model, IMAGES)
    (tmp_path / "images").mkdir()
    assert len(read_cameras(tmp_path / level)) == 4


def test_a_single_model_of_another_name_is_found(tmp_path):
    write_model(tmp_path / "sparse" / "aligned", IMAGES)
    assert len(read_cameras(tmp_path)) == 4
    write_model(tmp_path / "other", IMAGES)
    with pytest.raises(ValueError, match="2 COLMAP models; choose one of .*other, .*aligned"):
        read_cameras(tmp_path)


@pytest.mark.parametrize("name", ["cameras.txt", "images.txt"])
def test_a_file_of_the_model_stands_for_the_model(tmp_path, name):
    write_model(tmp_path, IMAGES)
    assert len(read_cameras(tmp_path / name)) == 4


@pytest.mark.parametrize("file", ["cameras.bin", "images.bin", "points3D.bin"])
def test_counts_beyond_the_file_are_refused_at_once(tmp_path, file):
    write_model(tmp_path, IMAGES)
    convert_to_binary(tmp_path)
    assert len(read_cameras(tmp_path)) == 4
    data = (tmp_path / file).read_bytes()
    for count in (2**60, 5000):
        (tmp_path / file).write_bytes(struct.pack("<Q", count) + data[8:])
        with pytest.raises(ValueError, match=f"{file}.*it states {count} .*bytes only"):
            read_cameras(tmp_path)
            read_points(tmp_path)


def test_numbers_of_points_beyond_the_file_are_refused(tmp_path):
    write_model(tmp_path, IMAGES)
    convert_to_binary(tmp_path)
    data = (tmp_path / "images.bin").read_bytes()
    start = data.index(b"im0.png\0") + 8
    (tmp_path / "images.bin").write_bytes(
        data[:start] + struct.pack("<Q", 2**60) + data[start + 8 :]
    )
    with pytest.raises(ValueError, match="images.bin: ValueError: the file ends too early"):
        read_cameras(tmp_path)


@pytest.mark.parametrize(
    "camera, reason",
    [
        ("1 PINHOLE 32 0 30 30 16 12", "the size of camera 1 is '0'"),
        ("1 PINHOLE 1152921504606846976 24 30 30 16 12", "the size of camera 1"),
        ("1 PINHOLE 32 24 nan 30 16 12", "a parameter of camera 1 is nan"),
        ("1 PINHOLE 32 24 1e999 30 16 12", "a parameter of camera 1 is inf"),
        ("1 PINHOLE 32 24 -30 30 16 12", "not positive"),
        ("1 PINHOLE 32", "has not number, model, width"),
        ("1 BROWN 32 24 30 30 16 12", "of the model BROWN"),
    ],
)
def test_cameras_out_of_range_are_named(tmp_path, camera, reason):
    with pytest.raises(ValueError, match=reason):
        read_cameras(write_model(tmp_path, IMAGES, camera))


@pytest.mark.parametrize("quat", ["0 0 0 0", "nan 0 0 0", "1e200 0 0 0"])
def test_quaternions_that_are_no_rotation_are_named(tmp_path, quat):
    with pytest.raises(ValueError, match="the quaternion of the picture 'a.png'"):
        read_cameras(write_model(tmp_path, [f"1 {quat} 0 0 0 1 a.png"]))


@pytest.mark.parametrize("binary", [False, True])
def test_cameras_with_one_number_are_named(tmp_path, binary):
    cameras = "1 PINHOLE 32 24 30 30 16 12\n1 PINHOLE 32 24 60 60 16 12"
    write_model(tmp_path, IMAGES, cameras)
    if binary:
        convert_to_binary(tmp_path)
    with pytest.raises(ValueError, match=r"cameras\.\w+: ValueError: camera 1 is there more than"):
        read_views(tmp_path)


@pytest.mark.parametrize("binary", [False, True])
def test_pictures_with_one_name_are_named(tmp_path, binary):
    write_model(tmp_path, [*IMAGES, IMAGES[2].replace("2", "9", 1)])
    if binary:
        convert_to_binary(tmp_path)
    with pytest.raises(
        ValueError, match=r"images\.\w+: ValueError: the picture 'im2.png' is there"
    ):
        read_views(tmp_path)


def test_a_long_name_of_a_picture_is_shortened(tmp_path):
    write_model(tmp_path, [*IMAGES, IMAGES[2].replace("im2", "a" * 3000)])
    with pytest.raises(ValueError, match=r"images\.txt: .*'aaa.*\.\.\. of 3004 bytes") as error:
        read_views(tmp_path)
    assert len(str(error.value)) < 500
