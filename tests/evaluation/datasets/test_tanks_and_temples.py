"""Tanks and Temples: models of COLMAP, text or binary."""

import struct

import pytest

from tests.helpers.dataset_samples import (
    HEIGHT,
    WIDTH,
    check_capture,
    open_dataset,
    write_colmap_model,
)


@pytest.mark.parametrize("place, binary, shrink", [("sparse/0", True, 2), ("sparse", False, 1)])
def test_tanks_and_temples_capture_matches_the_sample(
    tmp_path, plain_sample, place, binary, shrink
):
    names = ["000001.png", "000002.png", "000010.png"]
    for scene in ("train", "truck"):
        plain_sample.save(tmp_path / "tandt" / scene / "images", names, shrink)
        write_colmap_model(tmp_path / "tandt" / scene / place, plain_sample, names, binary=binary)
    dataset, scenes = open_dataset("tanks_and_temples", tmp_path / "tandt")
    assert scenes == ["train", "truck"]
    capture = dataset.capture("truck")
    check_capture(capture, plain_sample)
    assert capture.views == tuple(names) and capture.cameras.width == WIDTH // shrink
    assert open_dataset("tanks_and_temples", tmp_path / "tandt", scenes=("truck",))[1] == ["truck"]
    with pytest.raises(
        ValueError, match="scenes has 'tank', which is not in .*; there are train, truck"
    ):
        open_dataset("tanks_and_temples", tmp_path / "tandt", scenes=("truck", "tank"))
    with pytest.raises(ValueError, match="no scene 'train' in .*; there are truck"):
        open_dataset("tanks_and_temples", tmp_path / "tandt", scenes=("truck",))[0].capture("train")
    (tmp_path / "tandt" / "barn").mkdir()
    with pytest.raises(ValueError, match="its folder is there, but not sparse/0 or sparse"):
        open_dataset("tanks_and_temples", tmp_path / "tandt", scenes=("barn",))


def test_tanks_and_temples_errors_name_the_cause(tmp_path, plain_sample):
    names = ["a.png", "b.png", "c.png"]
    plain_sample.save(tmp_path / "truck" / "images", names)
    model = tmp_path / "truck" / "sparse" / "0"
    write_colmap_model(model, plain_sample, names, binary=True)
    capture = lambda: open_dataset("tanks_and_temples", tmp_path)[0].capture("truck")  # noqa: E731
    assert len(capture().cameras) == 3
    for file in ("cameras.bin", "images.bin", "points3D.bin"):
        whole = (model / file).read_bytes()
        for part in (whole[:-5], whole[:3], b""):
            (model / file).write_bytes(part)
            with pytest.raises(ValueError, match="holds no"):
                capture()
        (model / file).unlink()
        if file == "points3D.bin":
            assert capture().points is None
        else:
            with pytest.raises(
                ValueError, match="holds neither cameras.txt and images.txt nor cameras.bin"
            ):
                capture()
        (model / file).write_bytes(whole)
    whole = (model / "cameras.bin").read_bytes()
    (model / "cameras.bin").write_bytes(
        struct.pack("<QIiQQ8d", 1, 1, 5, WIDTH, HEIGHT, *[400.0] * 8)
    )
    with pytest.raises(
        ValueError, match="camera 1 is of the model OPENCV_FISHEYE; known are SIMPLE_PINHOLE"
    ):
        capture()
    (model / "cameras.bin").write_bytes(whole)
    for name in names[1:]:
        (tmp_path / "truck" / "images" / name).unlink()
    with pytest.raises(
        FileNotFoundError, match="images/b.png is not there: missing are 2 of the 3"
    ):
        capture()
    (tmp_path / "truck" / "images" / "a.png").unlink()
    (tmp_path / "truck" / "images").rmdir()
    with pytest.raises(FileNotFoundError, match="no folder images in"):
        capture()
    with pytest.raises(
        FileNotFoundError, match="nowhere, which is not there; expected sparse/0 or sparse"
    ):
        open_dataset("tanks_and_temples", tmp_path / "nowhere")
