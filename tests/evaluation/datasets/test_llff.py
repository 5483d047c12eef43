"""LLFF: poses in `poses_bounds.npy`, pictures of reduced size."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lift.io.colmap import write_colmap
from tests.helpers.dataset_samples import (
    HEIGHT,
    WIDTH,
    Sample,
    check_capture,
    open_dataset,
    write_colmap_model,
)


def write_llff(folder: Path, sample: Sample, names: list[str], pictures: str, shrink: int) -> None:
    sample.save(folder / pictures, names, shrink)
    rows = []
    for matrix, k in zip(
        sample.cameras.camera_to_world.double().numpy(),
        sample.cameras.intrinsics.double().numpy(),
        strict=False,
    ):
        right, down, forward, center = matrix[:3].T
        pose = np.stack([down, right, -forward, center, [HEIGHT, WIDTH, k[0, 0]]], axis=1)
        rows.append([*pose.reshape(-1), 0.5, 9.0])
    np.save(folder / "poses_bounds.npy", np.array(rows))


@pytest.mark.parametrize(
    "pictures, shrink, settings",
    [("images_4", 2, {}), ("images_8", 2, {"factor": 8}), ("images", 1, {})],
)
def test_llff_capture_matches_the_sample(tmp_path, centered_sample, pictures, shrink, settings):
    write_llff(
        tmp_path / "fern",
        centered_sample,
        ["image000.png", "image001.png", "image002.png"],
        pictures,
        shrink,
    )
    write_colmap(
        tmp_path / "fern" / "sparse" / "0",
        centered_sample.cameras,
        ["IMG_1.JPG", "IMG_2.JPG", "IMG_3.JPG"],
        centered_sample.points,
    )
    dataset, scenes = open_dataset("llff", tmp_path, **settings)
    assert scenes == ["fern"]
    capture = dataset.capture("fern")
    check_capture(capture, centered_sample)
    assert (
        capture.views[1] == "image001.png"
        and capture.cameras.width == WIDTH // shrink
        and capture.folder == tmp_path / "fern"
    )
    assert open_dataset("llff", tmp_path / "fern", **settings)[1] == ["fern"]


@pytest.mark.slow
def test_llff_takes_colmaps_lens_and_skips_dropped_pictures(tmp_path):
    sample = Sample((-0.12,), centered=True)
    write_llff(
        tmp_path, sample, ["b.png", "a.png", "c.png"], "images_4", 1
    )  # rows in names' order: the poses of a and b are swapped
    (tmp_path / "images_4" / "a.png").rename(tmp_path / "images_4" / "x.png")
    (tmp_path / "images_4" / "b.png").rename(tmp_path / "images_4" / "a.png")
    (tmp_path / "images_4" / "x.png").rename(tmp_path / "images_4" / "b.png")
    write_colmap_model(
        tmp_path / "sparse" / "0", sample, ["a.JPG", "b.JPG", "c.JPG"], "SIMPLE_RADIAL", binary=True
    )
    check_capture(open_dataset("llff", tmp_path)[0].capture(tmp_path.name), sample)
    (tmp_path / "images_4" / "b.png").unlink()  # names of sparse/0 tell which rows are left
    check_capture(open_dataset("llff", tmp_path)[0].capture(tmp_path.name), sample, views=[0, 2])
    (tmp_path / "images_4" / "c.png").rename(tmp_path / "images_4" / "z.png")
    with pytest.raises(
        ValueError, match="2 pictures, poses_bounds.npy 3 rows, and names do not tell"
    ):
        open_dataset("llff", tmp_path)[0].capture(tmp_path.name)
    (tmp_path / "images_4" / "z.png").rename(tmp_path / "images_4" / "image002.png")
    (tmp_path / "images_4" / "a.png").rename(tmp_path / "images_4" / "image000.png")
    check_capture(open_dataset("llff", tmp_path)[0].capture(tmp_path.name), sample, views=[0, 2])


def test_llff_errors_name_the_cause(tmp_path, centered_sample):
    write_llff(
        tmp_path / "fern",
        centered_sample,
        ["image000.png", "image001.png", "image002.png"],
        "images_4",
        4,
    )
    file, table = (
        tmp_path / "fern" / "poses_bounds.npy",
        np.load(tmp_path / "fern" / "poses_bounds.npy"),
    )
    with pytest.raises(
        FileNotFoundError, match="no folder of pictures images_8 in .*fern; there is images_4"
    ):
        open_dataset("llff", tmp_path, factor=8)[0].capture("fern")
    with pytest.raises(ValueError, match="factor is 0; choose 1"):
        open_dataset("llff", tmp_path, factor=0)[0].capture("fern")
    for change, reason in (
        (table[:, :15], r"shape \(3, 15\); expected \[view 17\]"),
        (table[:2], "3 pictures, poses_bounds.npy 2 rows"),
        (table * np.where(np.arange(17) % 5 == 1, -1, 1), "camera 0 is no rigid motion"),
        (table * np.nan, "not finite"),
    ):
        np.save(file, change)
        with pytest.raises(ValueError, match=reason):
            open_dataset("llff", tmp_path)[0].capture("fern")
    np.save(file, table)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ValueError, match="poses_bounds.npy is no array"):
        open_dataset("llff", tmp_path)[0].capture("fern")
    file.unlink()
    with pytest.raises(FileNotFoundError, match="holds no scene: expected poses_bounds.npy"):
        open_dataset("llff", tmp_path)


@pytest.mark.parametrize("scene, count", [("llff_fern", 20), ("llff_flower", 30)])
def test_released_llff_agrees_with_the_arrays(shared, scene, count):
    """The dataset's pose file agrees with the arrays, also if pictures were dropped."""
    dataset, scenes = open_dataset("llff", shared / "data", scenes=(scene,))
    assert scenes == [scene]
    capture, other = (
        dataset.capture(scene),
        open_dataset("folder", shared / "data")[0].capture(scene),
    )
    assert capture.views == other.views and len(capture.views) == count
    torch.testing.assert_close(
        capture.cameras.world_to_camera, other.cameras.world_to_camera, atol=1e-4, rtol=1e-5
    )
    torch.testing.assert_close(
        capture.cameras.intrinsics, other.cameras.intrinsics, atol=1e-2, rtol=1e-5
    )
    assert capture.points is None and other.points is not None
