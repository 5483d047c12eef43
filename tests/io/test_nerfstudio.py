"""Files of nerfstudio and its relatives, also where entries are missing or hostile."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lift.io.cameras import read_cameras, read_views
from lift.io.image import save_image
from lift.planners import planners

FRAME = {"transform_matrix": np.eye(4).tolist()}
GOOD = {"w": 32, "h": 24, "fl_x": 30}

LONG = r"frame 1: file_path is 'aaaa[a/]*\.\.\. of 5000 bytes; a path has at most 1024"
BAD_ROW = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [5, 0, 0, 3]]
LAST_ROW = r"frame 1: transform_matrix has the last row \[5.0, 0.0, 0.0, 3.0\]; expected 0, 0, 0, 1"


def write(folder: Path, frames: list | None = None, **facts) -> Path:
    content = {**GOOD, **facts, "frames": [FRAME] if frames is None else frames}
    (folder / "a.json").write_text(json.dumps(content))
    return folder / "a.json"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_skipped(tmp_path, encoding):
    path = write(tmp_path)
    path.write_text(path.read_text(), encoding=encoding)
    assert len(read_cameras(path)) == 1


def test_null_counts_as_absent_for_every_entry(tmp_path):
    nulls = dict.fromkeys(("fl_y", "cx", "cy", "k1", "k3", "p2", "camera_model", "is_fisheye"))
    view = read_views(write(tmp_path, [{**FRAME, "k2": None}], **nulls))[0]
    assert view.focal == (30, 30) and view.center == (16, 12) and not any(view.lens)


@pytest.mark.parametrize("suffix", ["", ".png", ".jpg", ".PNG"])
def test_sizes_come_from_pictures_with_and_without_suffix(tmp_path, suffix):
    save_image(tmp_path / f"view{suffix or '.png'}", torch.zeros(24, 32, 3))
    name = "./view.png" if not suffix else "view"
    frame = {**FRAME, "file_path": name}
    path = write(tmp_path, [frame], w=None, h=None, fl_x=None, camera_angle_x=math.pi / 2)
    cameras = read_cameras(path)
    assert (cameras.width, cameras.height) == (32, 24)
    assert cameras.intrinsics[0, 0, 0] == pytest.approx(16)


def test_the_vertical_angle_gives_the_vertical_focal_length(tmp_path):
    path = write(tmp_path, fl_x=None, camera_angle_x=math.pi / 2, camera_angle_y=1.0)
    assert read_views(path)[0].focal == pytest.approx((16, 12 / math.tan(0.5)))


def test_a_picture_outside_is_not_opened_for_its_size(tmp_path, monkeypatch):
    (tmp_path / "scene").mkdir()
    save_image(tmp_path / "secret.png", torch.zeros(24, 32, 3))
    monkeypatch.setattr("lift.io.nerfstudio.picture_size", lambda *_, **__: pytest.fail("opened"))
    for name in ("../secret.png", str(tmp_path / "secret.png")):
        path = write(tmp_path / "scene", [{**FRAME, "file_path": name}], w=None, h=None)
        with pytest.raises(ValueError, match="secret.png' lies outside of the dataset's folder"):
            read_cameras(path)
        assert read_cameras(path, (40, 30)).width == 40


@pytest.mark.parametrize(
    "facts, reason",
    [
        ({"w": math.inf}, "frame 0: w is inf; expected a number from 1 to 65536"),
        ({"w": 0}, "frame 0: w is 0"),
        ({"h": 2**60}, "frame 0: h is 1152921504606846976"),
        ({"fl_x": 10**400}, "frame 0: fl_x is inf; expected"),
        ({"fl_x": -1}, "frame 0: fl_x is -1"),
        ({"fl_x": None}, "frame 0: it has neither fl_x nor camera_angle_x"),
        ({"fl_x": None, "camera_angle_x": 0}, "frame 0: camera_angle_x is 0; expected"),
        ({"fl_x": None, "camera_angle_x": 4}, "frame 0: camera_angle_x is 4; expected"),
        ({"cx": math.nan}, "frame 0: cx is nan"),
        ({"k1": "much"}, "frame 0: k1 is 'much'"),
        ({"frames": 3}, "frames is 3; expected a list"),
        ({"frames": [3]}, "frame 0 is 3; expected an object"),
        ({"frames": [{}]}, "frame 0: transform_matrix is None; expected 3 or 4 rows"),
        ({"frames": [{**FRAME, "file_path": 3}]}, "frame 0: file_path is 3; expected text"),
        ({"frames": [FRAME, {**FRAME, "file_path": "a" * 5000}]}, LONG),
        ({"frames": [FRAME, {**FRAME, "file_path": "a/" * 2500}]}, LONG.replace("aaaa", "a/a/")),
        ({"frames": [FRAME, {**FRAME, "transform_matrix": BAD_ROW}]}, LAST_ROW),
        ({"fl_y": 1e9}, "focal lengths in x and y differ more than 100 times"),
    ],
)
def test_entries_out_of_range_name_frame_and_field(tmp_path, facts, reason):
    path = write(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))
    with pytest.raises(ValueError, match=rf"a\.json'.*{reason}"):
        read_cameras(path)


@pytest.mark.parametrize(
    "matrix",
    [
        [[10**400] * 4] * 4,
        [[math.nan] * 4] * 4,
        np.zeros((4, 4)).tolist(),
        [[1, 2], [3]],
        "x",
        [[[[1]]]],
    ],
)
def test_matrices_that_are_no_pose_are_named(tmp_path, matrix):
    path = write(tmp_path, [FRAME, {"transform_matrix": matrix}])
    with pytest.raises(ValueError, match="frame 1: transform_matrix "):
        read_cameras(path)


def test_deep_nesting_is_one_line(tmp_path):
    (tmp_path / "a.json").write_text('{"frames": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(ValueError, match="a.json.*nested too deeply"):
        read_cameras(tmp_path / "a.json")


def camera_path(folder: Path, camera: dict | None = None, **facts) -> Path:
    flat = np.eye(4).ravel().tolist()
    moved = [*flat[:3], 1.0, *flat[4:]]
    cameras = [{"camera_to_world": matrix, "fov": 90} for matrix in (flat, moved)]
    size = {"render_width": 40, "render_height": 20, "camera_type": "perspective"}
    content = {**size, "camera_path": [{**entry, **(camera or {})} for entry in cameras], **facts}
    (folder / "path.json").write_text(json.dumps(content))
    return folder / "path.json"


def test_the_planner_follows_a_path_of_the_viewer(tmp_path):
    planner = planners.build({"name": "path", "path": str(camera_path(tmp_path))})
    assert planner.cameras.centers[:, 0].tolist() == [0, 1]
    assert planner.cameras.intrinsics[0, 1, 1] == pytest.approx(10)


def test_a_path_may_have_rows_and_a_default_angle(tmp_path):
    camera = {"camera_to_world": np.eye(4)[:3].tolist(), "fov": None}
    cameras = read_cameras(camera_path(tmp_path, camera, default_fov=90))
    assert cameras.intrinsics[0, 0, 0] == pytest.approx(10)


@pytest.mark.parametrize(
    "camera, facts, reason",
    [
        ({"fov": 0}, {}, "camera 0: fov is 0"),
        ({"fov": 180}, {}, "camera 0: fov is 180"),
        ({"fov": None}, {}, "camera 0: fov is None"),
        ({"camera_to_world": [1, 2]}, {}, "camera 0: camera_to_world is"),
        ({}, {"render_width": math.inf}, "render_width is inf"),
        ({}, {"render_height": None}, "render_height is None"),
        ({}, {"camera_type": "fisheye"}, "camera_type is 'fisheye'; only perspective"),
        ({}, {"camera_path": {}}, "camera_path is {}; expected a list"),
    ],
)
def test_entries_of_a_path_out_of_range_are_named(tmp_path, camera, facts, reason):
    with pytest.raises(ValueError, match=rf"path\.json'.*{reason}"):
        read_cameras(camera_path(tmp_path, camera, **facts))


def test_a_long_path_without_sizes_is_named_shortly(tmp_path):
    path = tmp_path / "transforms.json"
    frame = {key: value for key, value in FRAME.items() if key not in ("w", "h")}
    content = {"fl_x": 30.0, "frames": [{**frame, "file_path": "a" * 5000}]}
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"transforms\.json'.*frame 0: file_path is 'aaa") as error:
        read_cameras(path)
    assert len(str(error.value)) < 400
    content["frames"][0]["file_path"] = "a" * 253  # too long with a suffix only
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="is not there to tell the size"):
        read_cameras(path)
