"""The ramp: its range, and its rank correlation with measured depth."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from tests.helpers.depth_pictures import build_depth, coffee, gradient, motorcycle


@pytest.mark.parametrize("height, width", [(192, 256), (256, 96), (8, 8), (33, 401)])
def test_ramp_keeps_its_range_for_any_picture(height, width):
    for image in (gradient(height, width), torch.zeros(height, width, 3, dtype=torch.uint8)):
        depth = build_depth("ramp", near=2.0, far=7.0)(image)
        assert (
            depth.depth.shape == (height, width)
            and depth.valid.all()
            and depth.kind == "affine-invariant"
        )
        assert depth.depth.min() == pytest.approx(
            2, rel=1e-4
        ) and depth.depth.max() == pytest.approx(7, rel=1e-4)


def test_ramp_is_the_same_every_time_and_nearer_below():
    image = coffee()
    first, second = build_depth("ramp")(image), build_depth("ramp")(image)
    assert torch.equal(first.depth, second.depth)
    rows = first.depth.mean(1)
    assert (rows[8:] < rows[:-8]).all()
    assert 1 < first.typical < 3


def test_ramp_without_center_and_edges_ignores_the_picture():
    a, b = (
        build_depth("ramp", center_weight=0.0, edge_weight=0.0)(image).depth
        for image in (coffee(), torch.zeros_like(coffee()))
    )
    torch.testing.assert_close(a, b)


def test_ramp_is_smooth_within_objects_of_one_colour():
    image = torch.zeros(120, 160, 3, dtype=torch.uint8)
    image[30:90, 50:110] = 200
    inverse = 1 / build_depth("ramp")(image).depth
    steps = (inverse[:, 1:] - inverse[:, :-1]).abs()
    assert steps[35:85, 55:100].max() < 0.02, "an artefact inside of a plain square"


@pytest.mark.parametrize(
    "setting", [{"near": 5.0}, {"horizon": 1.5}, {"center_weight": -1.0}, {"edge_weight": 2.0}]
)
def test_ramp_names_a_setting_out_of_range(setting):
    with pytest.raises(ValueError, match=f"depth.{next(iter(setting))} is"):
        build_depth("ramp", **setting)


def sparse_points(folder: Path, view: int):
    """Picture, and rows, columns and depths of the points of a reconstruction in it."""
    cameras, points = np.load(folder / "cameras.npz"), np.load(folder / "sparse_points.npz")["xyz"]
    name = Path(str(cameras["names"][view])).stem
    (file,) = (folder / "images").glob(f"{name}.*")
    image = cv2.imread(str(file))[..., ::-1].copy()
    local = points @ cameras["w2c"][view][:3, :3].T + cameras["w2c"][view][:3, 3]
    pixels = local @ cameras["K"][view].T
    pixels = pixels[:, :2] / pixels[:, 2:]
    seen = (
        (local[:, 2] > 0)
        & (pixels >= 0).all(1)
        & (pixels < [image.shape[1], image.shape[0]]).all(1)
    )
    column, row = pixels[seen].astype(int).T
    return torch.from_numpy(image), row, column, local[seen, 2]


def test_ramp_ranks_depth_no_worse_than_the_plain_ramp(shared):
    image, truth = motorcycle()
    cases = [(image, *np.nonzero(truth.valid.numpy()), truth.depth[truth.valid].numpy())]
    for frame in (240, 360):
        folder = shared / "data" / "sevenscenes_redkitchen"
        (color,), (depth,) = (
            sorted((folder / kind).glob(f"*{frame}*")) for kind in ("images", "depth")
        )
        depth = cv2.imread(str(depth), cv2.IMREAD_UNCHANGED)
        row, column = np.nonzero(depth)
        cases.append(
            (
                torch.from_numpy(cv2.imread(str(color))[..., ::-1].copy()),
                row,
                column,
                depth[row, column],
            )
        )
    cases += [
        sparse_points(shared / "data" / name, view)
        for name in ("llff_fern", "llff_flower", "mipnerf360_kitchen")
        for view in (0, 11)
    ]
    plain, ramp = [], []
    for image, row, column, truth in cases:
        plain.append(spearmanr(-row, truth).statistic)
        small = torch.from_numpy(
            cv2.resize(image.numpy(), None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)
        )
        made = build_depth("ramp")(small).depth
        place = (row * made.shape[0] // image.shape[0], column * made.shape[1] // image.shape[1])
        ramp.append(spearmanr(made[place], truth).statistic)
    assert np.mean(ramp) > np.mean(plain), f"{np.round(ramp, 3)} against {np.round(plain, 3)}"
