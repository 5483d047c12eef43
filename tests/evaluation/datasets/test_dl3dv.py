"""DL3DV: `transforms.json` in nerfstudio's world, points of COLMAP or of a PLY file."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lift.io.colmap import write_colmap
from lift.io.image import save_image
from lift.io.nerfstudio import write_transforms
from lift.types import PointCloud
from tests.helpers.dataset_samples import LONGER_SIDE, Sample, check_capture, open_dataset, psnr


def write_ply(file: Path, points: PointCloud) -> None:
    from plyfile import PlyData, PlyElement

    rows = np.zeros(
        len(points),
        dtype=[(key, "f4") for key in "xyz"] + [(key, "u1") for key in ("red", "green", "blue")],
    )
    for k, key in enumerate("xyz"):
        rows[key] = points.points[:, k]
    for k, key in enumerate(("red", "green", "blue")):
        rows[key] = (255 * points.colors[:, k]).round()
    PlyData([PlyElement.describe(rows, "vertex")]).write(str(file))


def add_to_json(file: Path, **facts) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | facts))


APPLIED = torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""As nerfstudio turns COLMAP's world."""


def write_dl3dv(
    folder: Path, sample: Sample, pictures: str = "images_4", shrink: int = 2, lens: bool = False
) -> Path:
    names = [f"frame_{k + 1:05d}.png" for k in range(len(sample.cameras))]
    sample.save(folder / pictures, names, shrink)
    turned = replace(sample.cameras, world_to_camera=sample.cameras.world_to_camera @ APPLIED.T)
    write_transforms(folder / "transforms.json", turned, [f"images/{name}" for name in names])
    k = dict(zip(("k1", "k2", "p1", "p2"), sample.lens, strict=False)) if lens else {}
    add_to_json(
        folder / "transforms.json",
        **k,
        camera_model="OPENCV",
        applied_transform=APPLIED[:3].tolist(),
    )
    return folder / "transforms.json"


def test_dl3dv_capture_matches_the_sample(tmp_path, plain_sample):
    write_dl3dv(tmp_path / "1K" / "abc", plain_sample)
    write_colmap(
        tmp_path / "1K" / "abc" / "colmap" / "sparse" / "0",
        plain_sample.cameras,
        [f"{k}.png" for k in range(3)],
        plain_sample.points,
    )
    dataset, scenes = open_dataset("dl3dv", tmp_path / "1K")
    assert scenes == ["abc"]
    check_capture(dataset.capture("abc"), plain_sample, APPLIED)


def test_dl3dv_benchmark_undoes_the_lens_and_reads_ply_points(tmp_path, distorted_sample):
    file = write_dl3dv(tmp_path / "abc" / "nerfstudio", distorted_sample, "images_8", 1, lens=True)
    write_ply(
        file.parent / "sparse_pc.ply",
        replace(distorted_sample.points, points=distorted_sample.points.points @ APPLIED[:3, :3].T),
    )
    add_to_json(file, ply_file_path="sparse_pc.ply")
    dataset, scenes = open_dataset("dl3dv", tmp_path)
    assert scenes == ["abc"]
    capture = dataset.capture("abc")
    check_capture(capture, distorted_sample, APPLIED)
    check_capture(
        open_dataset("dl3dv", tmp_path / "abc")[0].capture("abc"), distorted_sample, APPLIED
    )
    straight = json.loads(file.read_text()) | {"k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0}
    file.write_text(json.dumps(straight))
    shown = open_dataset("dl3dv", tmp_path)[0].capture("abc")
    camera = capture.inner_camera(0, LONGER_SIDE)
    assert psnr(shown.load_view(0, camera).rgb, distorted_sample.true(0, camera).rgb) < 30, (
        "this lens is no small one"
    )


def test_dl3dv_errors_name_the_cause(tmp_path, plain_sample):
    file = write_dl3dv(tmp_path / "abc", plain_sample)
    capture = lambda: open_dataset("dl3dv", tmp_path)[0].capture("abc")  # noqa: E731
    good = file.read_text()
    for facts, reason in (
        (
            {"camera_model": "OPENCV_FISHEYE"},
            "camera of the model OPENCV_FISHEYE; known are SIMPLE_PINHOLE",
        ),
        ({"applied_transform": [[1, 0], [0, 1]]}, r"applied_transform is of shape \(2, 2\)"),
        ({"k1": math.nan}, "transforms.json': frame 0: k1 is nan; expected a number"),
        ({"k1": "much"}, "transforms.json': frame 0: k1 is 'much'; expected a number"),
        ({"frames": []}, "holds no cameras"),
        ({"frames": [{"file_path": "images/a.png"}]}, "has no w and h"),
    ):
        (tmp_path / "abc" / "colmap" / "sparse" / "0").mkdir(parents=True, exist_ok=True)
        (tmp_path / "abc" / "colmap" / "sparse" / "0" / "points3D.txt").write_text(
            "1 0 0 1 255 0 0 0\n"
        )
        file.write_text(json.dumps({**json.loads(good), **facts}))
        with pytest.raises(ValueError, match=reason):
            capture()
    content = json.loads(good)
    content["frames"][1]["transform_matrix"][0] = [
        -v for v in content["frames"][1]["transform_matrix"][0]
    ]
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="camera 1 is no rigid motion"):
        capture()
    file.write_text(good[:-100])
    with pytest.raises(ValueError, match="transforms.json.*no camera path"):
        capture()
    file.write_text(good)
    (tmp_path / "abc" / "colmap" / "sparse" / "0" / "points3D.txt").write_text("1 0 0 1 255\n")
    with pytest.raises(ValueError, match="points3D.txt.*holds no points with colours"):
        capture()
    (tmp_path / "abc" / "colmap" / "sparse" / "0" / "points3D.txt").unlink()
    (tmp_path / "abc" / "images_4" / "frame_00002.png").unlink()
    last = tmp_path / "abc" / "images_4" / "frame_00003.png"
    picture = last.read_bytes()
    last.unlink()
    with pytest.raises(
        FileNotFoundError, match="frame_00002.png is not there: missing are 2 of the 3"
    ):
        capture()
    last.write_bytes(picture)
    save_image(tmp_path / "abc" / "images_4" / "frame_00002.png", torch.zeros(80, 120, 3))
    with pytest.raises(
        ValueError, match="frame_00002.png is 120 x 80 pixels, .*frame_00001.png 120 x 90"
    ):
        capture()
    (tmp_path / "abc" / "images_4" / "frame_00002.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="frame_00002.png is not a picture"):
        capture()
    for name in ("frame_00001.png", "frame_00002.png", "frame_00003.png"):
        save_image(tmp_path / "abc" / "images_4" / name, torch.zeros(80, 80, 3))
    with pytest.raises(
        ValueError, match="80 x 80 pixels, its camera's picture 240 x 180; expected the same aspect"
    ):
        capture()
