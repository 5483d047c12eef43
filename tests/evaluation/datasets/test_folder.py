"""Folders with cameras as arrays, as `transforms.json` or as a model of COLMAP."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lift.evaluation.datasets import CalibratedCapture
from lift.geometry import inside, project
from lift.io.colmap import write_colmap
from lift.io.nerfstudio import write_transforms
from tests.helpers.dataset_samples import (
    HEIGHT,
    LENS,
    WIDTH,
    Sample,
    check_capture,
    open_dataset,
    write_colmap_model,
)


def write_arrays(folder: Path, sample: Sample, pictures: list[str], **changed) -> None:
    poses, k = (
        sample.cameras.world_to_camera.double().numpy(),
        sample.cameras.intrinsics.double().numpy(),
    )
    facts = dict(
        names=np.array(pictures),
        K=k,
        w2c=poses,
        width=WIDTH,
        height=HEIGHT,
        k1_simple_radial=sample.lens[0] if sample.lens else 0.0,
    )
    np.savez(
        folder / "cameras.npz",
        **{key: value for key, value in (facts | changed).items() if value is not None},
    )
    np.savez(
        folder / "sparse_points.npz",
        xyz=sample.points.points.numpy(),
        rgb=(255 * sample.points.colors).round().to(torch.uint8).numpy(),
    )


@pytest.mark.parametrize(
    "place, model",
    [
        ("sparse/0", "FULL_OPENCV"),
        ("sparse", "SIMPLE_RADIAL"),
        ("colmap", "OPENCV"),
        (".", "RADIAL"),
    ],
)
def test_lenses_of_colmap_are_undone(tmp_path, place, model):
    sample = Sample(LENS[model], count=2, centered="RADIAL" in model)
    sample.save(tmp_path / "images", ["a.png", "b.png"])
    write_colmap_model(
        tmp_path / place, sample, ["a.png", "b.png"], model, binary=model != "RADIAL"
    )
    dataset, (scene,) = open_dataset("folder", tmp_path)
    check_capture(dataset.capture(scene), sample)


def test_folder_of_arrays_goes_before_transforms_before_colmap(tmp_path, plain_sample):
    names = ["a.png", "b.png", "c.png"]
    scene = tmp_path / "mine"
    plain_sample.save(scene / "images", names)
    write_colmap(scene / "sparse", plain_sample.cameras, names, plain_sample.points)
    (tmp_path / "empty").mkdir()
    dataset, scenes = open_dataset("folder", tmp_path)
    assert scenes == ["mine"] and dataset.capture("mine").notes["cameras"] == "COLMAP"
    check_capture(dataset.capture("mine"), plain_sample)
    write_transforms(
        scene / "transforms.json", plain_sample.cameras, [f"./images/{name}" for name in names]
    )
    capture = dataset.capture("mine")
    assert capture.notes["cameras"] == "transforms.json"
    check_capture(capture, plain_sample)
    write_arrays(scene, plain_sample, names)
    capture = dataset.capture("mine")
    assert capture.notes["cameras"] == "cameras.npz" and capture.views == tuple(names)
    check_capture(capture, plain_sample)
    other = plain_sample.cameras.intrinsics[0].double().numpy()
    write_arrays(
        scene, plain_sample, names, K=np.diag([9.0, 9, 1]) + other * 0.1, K_color_nominal=other
    )
    check_capture(dataset.capture("mine"), plain_sample)
    (scene / "sparse_points.npz").unlink()
    assert dataset.capture("mine").points is None


def test_folder_errors_name_the_cause(tmp_path, plain_sample):
    names = ["a.png", "b.png", "c.png"]
    plain_sample.save(tmp_path / "images", names)
    with pytest.raises(
        FileNotFoundError,
        match="holds no scene: expected cameras.npz, transforms.json or a COLMAP model",
    ):
        open_dataset("folder", tmp_path)
    capture = lambda: open_dataset("folder", tmp_path)[0].capture(tmp_path.name)  # noqa: E731
    poses = plain_sample.cameras.world_to_camera.numpy()
    for changed, reason in (
        (dict(names=None), "has no names"),
        (dict(names=np.array(["a.png"] * 2)), "cameras.npz' is no camera path"),
        (dict(width=None), "has no width"),
        (dict(w2c=poses[:, :2]), r"shape \(3, 2, 4\) are not"),
        (dict(w2c=poses * [[[1], [-1], [1], [1]]]), "camera 0 is no rigid motion"),
        (dict(K=np.zeros((2, 3, 3))), "is no camera path"),
        (
            dict(K_color_nominal=np.zeros(4)),
            r"K_color_nominal is of shape \(4,\); expected \[3 3\]",
        ),
    ):
        write_arrays(tmp_path, plain_sample, names, **changed)
        with pytest.raises(ValueError, match=reason):
            capture()
    write_arrays(tmp_path, plain_sample, names)
    np.savez(tmp_path / "sparse_points.npz", xyz=np.zeros((4, 3)), rgb=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="sparse_points.npz has not finite xyz"):
        capture()
    for file, reason in (
        ("sparse_points.npz", "no npz file"),
        ("cameras.npz", "is no camera path"),
    ):
        (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:150])
        with pytest.raises(ValueError, match=f"{file}.*{reason}"):
            capture()
    (tmp_path / "cameras.npz").unlink()
    write_transforms(tmp_path / "transforms.json", plain_sample.cameras, [""] * 3)
    with pytest.raises(ValueError, match="names no picture"):
        capture()


def colour_correlations(capture: CalibratedCapture, *shifts: int) -> list[float]:
    """Correlate the luminance of points and of the pixels that they project to.

    Hidden points count, too. It uses every fourth view. Each shift moves the pixels to the right.
    """
    weights = torch.tensor([0.299, 0.587, 0.114])
    found = [([], []) for _ in (0, *shifts)]
    for view in range(0, len(capture.cameras), 4):
        camera = capture.inner_camera(view, 800)
        image = capture.load_view(view, camera).rgb[0] @ weights
        at, depth = project(capture.points.points, camera)
        for shift, (theirs, seen) in zip((0, *shifts), found, strict=True):
            moved = at[0] + torch.tensor([shift, 0])
            there = inside(moved, camera) & (depth[0] > 0)
            x, y = moved[there].long().unbind(-1)
            seen.append(image[y, x])
            theirs.append(capture.points.colors[there] @ weights)
    return [
        float(torch.corrcoef(torch.stack([torch.cat(theirs), torch.cat(seen)]))[0, 1])
        for theirs, seen in found
    ]


@pytest.mark.parametrize(
    "scene, least",
    [
        ("llff_fern", 0.66),
        ("llff_flower", 0.63),
        ("mipnerf360_kitchen", 0.52),
        ("sceaux_castle", 0.73),
    ],
)
def test_points_of_real_scenes_fall_on_pixels_of_their_colour(shared, scene, least):
    """least: less 0.02, what points projected with their lens into the files themselves give."""
    dataset, scenes = open_dataset("folder", shared / "data")
    assert scene in scenes
    capture = dataset.capture(scene)
    right, wrong = colour_correlations(capture, 3)
    assert right > least and wrong < right - 0.08


def test_7_scenes_uses_the_colour_camera(shared):
    capture = open_dataset("folder", shared / "data")[0].capture("sevenscenes_redkitchen")
    assert (
        capture.cameras.intrinsics[0, 0, 0] == 525
        and "K_color_nominal" in capture.notes["cameras"]
        and len(capture.cameras) == 31
    )
    assert capture.load_view(0, capture.inner_camera(0, 160)).depth is None
