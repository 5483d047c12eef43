"""Known depth: of built-in pictures and scenes, and from files."""

import cv2
import numpy as np
import pytest
import torch

from lift.geometry import pinhole
from lift.io.image import load_picture
from tests.helpers.depth_pictures import build_depth, gradient, motorcycle


def test_known_motorcycle_is_metric_and_follows_the_camera():
    image, depth = motorcycle(512)
    assert depth.kind == "metric" and depth.depth.shape == image.shape[:2]
    assert 0.05 < 1 - depth.valid.float().mean() < 0.1, "about 7 % have no disparity"
    assert (depth.depth[~depth.valid] == 0).all()
    assert depth.depth[depth.valid].min() > 1.5 and depth.depth[depth.valid].max() < 8
    # The second picture of the pair, looked up by this depth, is the first one.
    left, right = (load_picture(f"motorcycle_{side}", 512, 55.0) for side in ("left", "right"))
    focal = float(left.cameras.intrinsics[0, 0, 0])
    shift = (
        right.cameras.intrinsics[0, 0, 2]
        - left.cameras.intrinsics[0, 0, 2]
        - focal * 0.193001 / depth.depth.clamp(min=0.1)
    )
    row, column = torch.meshgrid(
        torch.arange(image.shape[0]), torch.arange(image.shape[1]), indexing="ij"
    )
    target = (column + shift).round().long()
    seen = depth.valid & (target >= 0) & (target < image.shape[1])
    error = (left.frames.rgb[0][seen] - right.frames.rgb[0][row[seen], target[seen]]).abs().mean(-1)
    wrong = (left.frames.rgb[0][seen] - right.frames.rgb[0][row[seen], column[seen]]).abs().mean(-1)
    assert error.median() < 0.35 * wrong.median()


def test_known_scene_is_exact():
    from lift.synthetic.scenes import render

    picture = load_picture("room", 64, 55.0)
    made = build_depth("known", image="room", camera=picture.cameras)(picture.frames.images[0])
    assert torch.equal(made.depth, render("room", picture.cameras).depth[0])


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".png"])
def test_known_reads_a_file_of_another_size(tmp_path, suffix):
    values = np.linspace(1, 3, 40, dtype=np.float64)[:, None] * np.ones(64)
    values[:10, :16] = 0
    path = tmp_path / f"depth{suffix}"
    if suffix == ".npy":
        np.save(path, values)
    elif suffix == ".npz":
        np.savez(path, depth=values, other=np.zeros(3))
    else:
        cv2.imwrite(str(path), (values * 1000).round().astype(np.uint16))
    settings = {"unit": 0.001} if suffix == ".png" else {"key": "depth"} if suffix == ".npz" else {}
    camera = pinhole(96, 60, 80.0)  # 1.5 times as large
    made = build_depth("known", path=path, image="anything", camera=camera, **settings)(
        gradient(60, 96)
    )
    assert not made.valid[:15, :24].any() and made.valid[15:].all() and made.valid[:, 24:].all()
    torch.testing.assert_close(
        made.depth[:, -1],
        torch.linspace(1, 3, 40)[(torch.arange(60) + 0.5).div(1.5).long()],
        atol=1e-3,
        rtol=0,
    )
    cropped = build_depth(
        "known", path=path, image="anything", camera=pinhole(40, 40, 80.0), **settings
    )(gradient(40, 40))
    assert cropped.valid[:, 4:].all() and not cropped.valid[:10, :4].any(), (
        "cropped about the middle"
    )


def test_known_depth_errors_name_the_cause(tmp_path):
    camera = pinhole(8, 8, 8.0)
    with pytest.raises(ValueError, match=r"image is 'coffee'.*depth\.path.*motorcycle_left, room"):
        build_depth("known", image="coffee", camera=camera)
    with pytest.raises(FileNotFoundError, match=r"depth\.path is"):
        build_depth("known", image="coffee", camera=camera, path=tmp_path / "none.npy")(
            gradient(8, 8)
        )
    np.savez(tmp_path / "two.npz", a=np.ones((8, 8)), b=np.ones((8, 8)))
    with pytest.raises(ValueError, match=r"depth\.key is None; choose one of a, b"):
        build_depth("known", image="coffee", camera=camera, path=tmp_path / "two.npz")(
            gradient(8, 8)
        )
    np.save(tmp_path / "zero.npy", np.zeros((8, 8)))
    with pytest.raises(ValueError, match="no pixel of the depth"):
        build_depth("known", image="coffee", camera=camera, path=tmp_path / "zero.npy")(
            gradient(8, 8)
        )
