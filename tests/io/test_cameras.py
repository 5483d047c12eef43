"""Round trips of camera paths in every format, and what the formats mean elsewhere."""

import json
import math

import numpy as np
import pytest
import torch

from lift.geometry import look_at, project, rotation_angle
from lift.io.cameras import read_cameras, read_views
from lift.io.colmap import write_colmap
from lift.io.image import save_image
from lift.io.nerfstudio import write_transforms
from lift.types import Cameras, PointCloud


def some(number: int = 12, shared: bool = False) -> Cameras:
    """Cameras around a scene far from the origin, each with its own lens."""
    g = torch.Generator().manual_seed(0)
    eyes = torch.randn(number, 3, generator=g) * 2 + torch.tensor([10.0, -3.0, 5.0])
    targets = torch.randn(number, 3, generator=g)
    views = look_at(eyes, targets, torch.tensor([0.0, 1.0, 0.0]).expand(number, 3))
    lens = torch.tensor([[500.0, 0, 322.5], [0, 510.0, 178.25], [0, 0, 1]]).repeat(number, 1, 1)
    if not shared:
        lens[:, 0, 0] += torch.arange(number)
    return Cameras(views, lens, 640, 360)


def assert_same(a: Cameras, b: Cameras, tolerance: float = 1e-6) -> None:
    assert (a.width, a.height, len(a)) == (b.width, b.height, len(b))
    torch.testing.assert_close(a.intrinsics, b.intrinsics, rtol=1e-6, atol=1e-4)
    assert (
        rotation_angle(
            a.world_to_camera[:, :3, :3].double(), b.world_to_camera[:, :3, :3].double()
        ).max()
        < 1e-4
    )
    reach = a.centers.norm(dim=-1).max()
    assert (
        a.world_to_camera[:, :3, 3] - b.world_to_camera[:, :3, 3]
    ).abs().max() < tolerance * reach


def test_transforms_round_trip_and_axes(tmp_path):
    cameras = some()
    names = [f"frames/{i}.png" for i in range(len(cameras))]
    write_transforms(tmp_path / "transforms.json", cameras, names)
    assert_same(read_cameras(tmp_path / "transforms.json"), cameras)
    content = json.loads((tmp_path / "transforms.json").read_text())
    assert [frame["file_path"] for frame in content["frames"]] == names
    frame, camera = content["frames"][3], cameras[3]
    to_world = torch.tensor(frame["transform_matrix"])
    torch.testing.assert_close(to_world[:3, 3], camera.centers[0], rtol=1e-5, atol=1e-5)
    # OpenGL: what lies ahead has negative z, what lies above positive y
    ahead, above = camera.camera_to_world[0, :3, 2], -camera.camera_to_world[0, :3, 1]
    torch.testing.assert_close(-to_world[:3, 2], ahead, rtol=0, atol=1e-5)
    torch.testing.assert_close(to_world[:3, 1], above, rtol=0, atol=1e-5)
    assert (frame["fl_x"], frame["fl_y"], frame["cx"], frame["cy"], frame["w"], frame["h"]) == (
        503,
        510,
        322.5,
        178.25,
        640,
        360,
    )


def test_transforms_of_other_programs(tmp_path):
    """Shared intrinsics as nerfstudio writes them, and a field of view as in NeRF synthetic."""
    frames = [{"file_path": "a", "transform_matrix": np.eye(4).tolist()}]
    (tmp_path / "a.json").write_text(
        json.dumps({"w": 100, "h": 50, "fl_x": 80, "cx": 49, "k1": 0.1, "frames": frames})
    )
    assert read_cameras(tmp_path / "a.json").intrinsics[0].tolist() == [
        [80, 0, 49],
        [0, 80, 25],
        [0, 0, 1],
    ]
    (tmp_path / "b.json").write_text(
        json.dumps({"w": 100, "h": 50, "camera_angle_x": math.pi / 2, "frames": frames})
    )
    camera = read_cameras(tmp_path / "b.json")
    assert camera.intrinsics[0, 0, 0] == pytest.approx(50)
    pixel, depth = project(torch.tensor([[0.0, 1.0, -2.0]]), camera)  # OpenGL: ahead and above
    assert depth[0, 0] > 0 and pixel[0, 0, 1] < 25


@pytest.mark.parametrize("shared_lens", [True, False])
def test_colmap_text_round_trip(tmp_path, shared_lens):
    cameras = some(shared=shared_lens)
    points = PointCloud(torch.randn(1000, 3), torch.rand(1000, 3))
    write_colmap(tmp_path / "sparse", cameras, [""] * len(cameras), points, max_points=300)
    assert_same(read_cameras(tmp_path / "sparse"), cameras)
    lenses = [
        line
        for line in (tmp_path / "sparse" / "cameras.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert len(lenses) == (1 if shared_lens else len(cameras))
    rows = [
        line
        for line in (tmp_path / "sparse" / "points3D.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert len(rows) == 250


@pytest.mark.parametrize("form", ["text", "binary"])
def test_colmap_itself_agrees(tmp_path, form):
    """pycolmap reads what we write, projects as we do, and we read what it writes."""
    pycolmap = pytest.importorskip("pycolmap")
    cameras, points = some(), PointCloud(torch.randn(50, 3), torch.rand(50, 3))
    names = [f"pictures/view_{i}.png" for i in range(len(cameras))]  # natural order: 2, then 10
    write_colmap(tmp_path / "ours", cameras, names, points)
    model = pycolmap.Reconstruction(tmp_path / "ours")
    assert len(model.images) == len(cameras) and len(model.points3D) == 50
    image = next(image for image in model.images.values() if image.name == names[5])
    pixel = model.cameras[image.camera_id].img_from_cam(
        image.cam_from_world() * points.points[:1].double().numpy()
    )[0]
    np.testing.assert_allclose(
        pixel, project(points.points[:1], cameras[5])[0][0, 0].numpy(), atol=1e-2
    )
    (tmp_path / "theirs").mkdir()
    (model.write_text if form == "text" else model.write_binary)(str(tmp_path / "theirs"))
    assert_same(read_cameras(tmp_path / "theirs"), cameras)


@pytest.mark.parametrize(
    "model, parameters",
    [
        ("SIMPLE_PINHOLE", "500 320 180"),
        ("SIMPLE_RADIAL", "500 320 180 0.01"),
        ("OPENCV", "500 500 320 180 0.1 0 0 0"),
    ],
)
def test_colmap_camera_models(tmp_path, model, parameters):
    (tmp_path / "cameras.txt").write_text(f"# x\n7 {model} 640 360 {parameters}\n")
    (tmp_path / "images.txt").write_text(
        "# x\n3 1 0 0 0 0 0 0 7 b 10.png\n1.0 2.0 -1\n9 1 0 0 0 1 2 3 7 b 9.png\n\n"
    )
    cameras = read_cameras(tmp_path)
    assert cameras.intrinsics[0].tolist() == [[500, 0, 320], [0, 500, 180], [0, 0, 1]]
    assert cameras.world_to_camera[:, :3, 3].tolist() == [[1, 2, 3], [0, 0, 0]]


@pytest.mark.parametrize(
    "keys",
    [("w2c", "K"), ("c2w", "intrinsics"), ("world_to_camera", "K"), ("camera_to_world", "K")],
)
@pytest.mark.parametrize("rows", [3, 4])
def test_npz(tmp_path, keys, rows):
    cameras = some()
    matrices = cameras.world_to_camera if keys[0].startswith("w") else cameras.camera_to_world
    np.savez(
        tmp_path / "a.npz",
        **{keys[0]: matrices[:, :rows], keys[1]: cameras.intrinsics, "width": 640, "height": 360},
    )
    assert_same(read_cameras(tmp_path / "a.npz"), cameras)
    np.savez(
        tmp_path / "b.npz",
        **{
            keys[0]: matrices[:, :rows],
            keys[1]: cameras.intrinsics[0],
            "width": [640] * 12,
            "height": 360,
        },
    )
    assert torch.equal(read_cameras(tmp_path / "b.npz").intrinsics[4], cameras.intrinsics[0])


def test_realestate_text(tmp_path):
    cameras = some()
    rows = ["https://www.youtube.com/watch?v=x"]
    for i, (matrix, k) in enumerate(
        zip(cameras.world_to_camera.tolist(), cameras.intrinsics.tolist(), strict=True)
    ):
        lens = [k[0][0] / 640, k[1][1] / 360, k[0][2] / 640, k[1][2] / 360, 0, 0]
        rows.append(
            " ".join(repr(v) for v in [33000 * i, *lens, *matrix[0], *matrix[1], *matrix[2]])
        )
    for first in (0, 1):  # with and without the address
        (tmp_path / "a.txt").write_text("\n".join(rows[first:]) + "\n")
        assert_same(read_cameras(tmp_path / "a.txt"), cameras)
    wide = read_cameras(tmp_path / "a.txt", size=(320, 180))
    assert wide.width == 320 and wide.intrinsics[0, 0, 0] == pytest.approx(250)
    rows[3] = rows[3].rsplit(" ", 1)[0]
    (tmp_path / "a.txt").write_text("\n".join(rows))
    with pytest.raises(ValueError, match="line 4 has not RealEstate10K's 19 numbers"):
        read_cameras(tmp_path / "a.txt")


@pytest.mark.parametrize("scene", ["llff_fern", "sceaux_castle", "sevenscenes_redkitchen"])
def test_real_cameras_see_their_own_points(shared, scene):
    path = shared / "data" / scene
    cameras = read_cameras(path / "cameras.npz")
    stored = np.load(path / "cameras.npz")
    assert len(cameras) == len(stored["w2c"]) and cameras.width == stored["width"]
    torch.testing.assert_close(
        cameras.world_to_camera.double(), torch.from_numpy(stored["w2c"]), atol=2e-4, rtol=1e-5
    )
    if (path / "sparse_points.npz").exists():
        points = torch.from_numpy(np.load(path / "sparse_points.npz")["xyz"]).float()
        pixels, depth = project(points, cameras)
        seen = (
            (depth > 0)
            & (pixels >= 0).all(-1)
            & (pixels < torch.tensor([cameras.width, cameras.height])).all(-1)
        )
        assert seen.float().mean() > 0.5


def test_refusals(tmp_path):
    with pytest.raises(FileNotFoundError, match="no camera file"):
        read_cameras(tmp_path / "a.json")
    with pytest.raises(ValueError, match="holds neither cameras.txt"):
        read_cameras(tmp_path)
    for name, content, reason in (
        ("a.json", b'{"frames": [', "no camera path that is known here"),
        ("b.json", b'{"frames": [{}]}', "it has no w and h, and it names no picture"),
        ("c.json", b'{"frames": []}', "holds no cameras"),
        ("d.txt", b"hello there", "RealEstate10K's 19 numbers"),
        ("e.bin", b"\x89PNG\xff\xfe", "no camera path that is known here"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=reason):
            read_cameras(tmp_path / name)
    with pytest.raises(ValueError, match="a space in it"):
        write_colmap(tmp_path / "sparse", some(1), ["view 1.png"])
    good = dict(w2c=np.tile(np.eye(4), (2, 1, 1)), K=np.diag([50.0, 50, 1]), width=64, height=48)
    for change, reason in (
        (dict(w2c=good["w2c"] * [[1], [-1], [1], [1]]), "camera 0 is no rigid motion"),
        (dict(w2c=good["w2c"] * [[[1]] * 4, [[2], [2], [2], [1]]]), "camera 1 is no rigid motion"),
        (dict(w2c=good["w2c"] * [[[1]], [[2]]]), "w2c 1 has the last row"),
        (dict(w2c=good["w2c"] * [[np.nan], [1], [1], [1]]), "not finite"),
        (dict(w2c=good["w2c"] * np.nan), "w2c 0 has the last row .nan"),
        (dict(K=np.diag([50.0, 0, 1])), "not positive"),
        (dict(width=[64, 65]), "several picture sizes"),
        (dict(w2c=np.eye(3)), "not \\[n 4 4\\]"),
    ):
        np.savez(tmp_path / "a.npz", **{**good, **change})
        with pytest.raises(ValueError, match=reason):
            read_cameras(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", poses=np.eye(4))
    with pytest.raises(ValueError, match="a path needs w2c and K"):
        read_cameras(tmp_path / "a.npz")


FRAME = {"transform_matrix": np.eye(4).tolist()}


def test_a_byte_order_mark_is_skipped(tmp_path):
    content = json.dumps({"w": 32, "h": 24, "fl_x": 30, "frames": [FRAME]})
    (tmp_path / "a.json").write_text(content, encoding="utf-8-sig")
    assert len(read_cameras(tmp_path / "a.json")) == 1


def test_a_coefficient_that_is_null_counts_as_absent(tmp_path):
    (tmp_path / "a.json").write_text(
        json.dumps({"w": 32, "h": 24, "fl_x": 30, "k1": None, "frames": [FRAME]})
    )
    assert read_views(tmp_path / "a.json")[0].lens[0] == 0


def test_a_missing_size_is_that_of_the_stored_pictures(tmp_path):
    (tmp_path / "a.json").write_text(
        json.dumps({"fl_x": 30, "frames": [{**FRAME, "file_path": "./view"}]})
    )
    with pytest.raises(ValueError, match="no w and h, and its picture .*view' is not there"):
        read_cameras(tmp_path / "a.json")
    assert read_cameras(tmp_path / "a.json", (40, 30)).width == 40
    save_image(tmp_path / "view.png", torch.zeros(24, 32, 3))
    assert read_cameras(tmp_path / "a.json").height == 24


def test_a_viewers_camera_path_is_read(tmp_path):
    camera = {"camera_to_world": np.eye(4).ravel().tolist(), "fov": 90, "aspect": 2}
    (tmp_path / "a.json").write_text(
        json.dumps({"render_width": 40, "render_height": 20, "camera_path": [camera]})
    )
    read = read_cameras(tmp_path / "a.json")
    assert read.width == 40 and read.intrinsics[0, 0, 0] == pytest.approx(10)


def test_blank_lines_between_colmaps_pictures_are_skipped(tmp_path):
    (tmp_path / "cameras.txt").write_text("1 PINHOLE 32 24 30 30 16 12\n")
    lines = [
        "1 1 0 0 0 0 0 0 1 a.png",
        "",
        "2 1 0 0 0 1 0 0 1 b.png",
        "",
        "",
        "3 1 0 0 0 2 0 0 1 c.png",
        "",
    ]
    (tmp_path / "images.txt").write_text("\n".join(lines))
    assert [view.name for view in read_views(tmp_path)] == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize("key", ["w2c", "c2w"])
def test_the_last_row_of_a_matrix_is_checked(tmp_path, key):
    matrices = np.tile(np.eye(4), (3, 1, 1))
    matrices[1, 3] = 5, 0, 0, 3
    np.savez(tmp_path / "a.npz", K=np.diag([30.0, 30, 1]), **{key: matrices})
    with pytest.raises(
        ValueError, match=rf"a\.npz'.*{key} 1 has the last row \[5.0, 0.0, 0.0, 3.0"
    ):
        read_cameras(tmp_path / "a.npz")
