"""Readers of datasets, on samples in the exact layout of each dataset.

The samples show a ray-cast scene with known cameras and points. OpenCV distorts the lenses.
"""

import json
import math
import struct
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lift.evaluation.datasets import CalibratedCapture, datasets
from lift.geometry import inside, look_at, pinhole, project, unproject
from lift.io.colmap import write_colmap
from lift.io.image import save_image
from lift.io.lens import Photograph
from lift.io.nerfstudio import write_transforms
from lift.registry import catalogue
from lift.synthetic.scenes import render
from lift.types import Cameras, Frames, PointCloud

WIDTH, HEIGHT, LONGER = 240, 180, 60
LENS = {
    "none": (),
    "SIMPLE_RADIAL": (-0.12,),
    "RADIAL": (0.08, -0.03),
    "OPENCV": (-0.1, 0.02, 0.004, -0.006),
    "FULL_OPENCV": (0.05, 0.01, 0.003, 0.002, -0.01, 0.15, 0.02, 0.004),
}


class Sample:
    """Views of a room.

    The cameras have slightly different fx and fy and a principal point off the centre. The
    pictures have WIDTH x HEIGHT pixels. Each point is visible in some view.
    """

    def __init__(
        self, lens: tuple[float, ...] = (), count: int = 3, centered: bool = False
    ) -> None:
        eyes = torch.stack(
            [
                torch.linspace(-0.4, 0.5, count),
                torch.linspace(0.1, -0.2, count),
                torch.linspace(0, 0.3, count),
            ],
            dim=-1,
        )
        down, middle = (
            torch.tensor([[0.05, 1.0, 0.0]]).expand(count, 3),
            torch.tensor([[0.0, 0, 4]]).expand(count, 3),
        )
        fx, fy, cx, cy = (
            (200.0, 200.0, WIDTH / 2, HEIGHT / 2) if centered else (200.0, 204.0, 123.0, 87.5)
        )
        intrinsics = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        self.lens, self.cameras = (
            lens,
            Cameras(
                look_at(eyes, middle, down), intrinsics.expand(count, 3, 3).clone(), WIDTH, HEIGHT
            ),
        )
        self.rendered: dict = {}
        self.frames = self._distorted() if any(lens) else render("room", self.cameras)
        small = self.cameras[0].resized(24, 18)
        seen = render("room", small)
        self.points = PointCloud(
            unproject(seen.depth, small).reshape(-1, 3), seen.rgb.reshape(-1, 3)
        )

    def _distorted(self) -> Frames:
        """Resample a wider and finer picture at the rays that OpenCV computes for each pixel."""
        margin, fine = 0.3, 1.3
        wide = pinhole(
            round(fine * WIDTH * (1 + 2 * margin)),
            round(fine * HEIGHT * (1 + 2 * margin)),
            fine * 200.0,
        )
        wide = replace(
            wide,
            world_to_camera=self.cameras.world_to_camera,
            intrinsics=wide.intrinsics.expand(len(self.cameras), 3, 3),
        )
        seen, matrix = (
            render("room", wide).images.numpy(),
            self.cameras.intrinsics[0].double().numpy(),
        )
        fine_grid = (
            np.stack(np.meshgrid(np.arange(2 * WIDTH), np.arange(2 * HEIGHT)), -1) + 0.5
        ) / 2  # four samples a pixel
        rays = cv2.undistortPoints(
            fine_grid.reshape(-1, 1, 2),
            matrix,
            np.array([*self.lens, *[0.0] * (8 - len(self.lens))]),
            R=np.eye(3),
            P=np.eye(3),
            criteria=(3, 100, 1e-12),
        ).reshape(2 * HEIGHT, 2 * WIDTH, 2)
        at = (rays * fine * 200.0 + (wide.width / 2, wide.height / 2) - 0.5).astype(np.float32)
        assert (
            at.min() > 1
            and at[..., 0].max() < wide.width - 2
            and at[..., 1].max() < wide.height - 2
        ), "the wider picture is wide enough"
        bent = [
            cv2.remap(view.astype(np.float32), at[..., 0], at[..., 1], cv2.INTER_LINEAR)
            for view in seen
        ]
        small = np.stack([view.reshape(HEIGHT, 2, WIDTH, 2, 3).mean((1, 3)) for view in bent])
        return Frames(torch.from_numpy(small.round().clip(0, 255).astype(np.uint8)))

    def true(self, view: int, camera: Cameras) -> Frames:
        """The picture of a camera at a view's pose, in whatever world that camera lies."""
        key = (
            view,
            camera.width,
            camera.height,
            *(round(float(value), 2) for value in camera.intrinsics.flatten()),
        )
        if key not in self.rendered:
            self.rendered[key] = Frames(
                render(
                    "room", replace(camera, world_to_camera=self.cameras.world_to_camera[[view]])
                ).images
            )
        return self.rendered[key]

    def save(self, folder: Path, names: list[str], shrink: int = 1) -> None:
        """Pictures reduced by `shrink` as means of squares. The cameras stay at WIDTH x HEIGHT."""
        folder.mkdir(parents=True, exist_ok=True)
        images = (
            self.frames.images.float()
            .view(len(names), HEIGHT // shrink, shrink, WIDTH // shrink, shrink, 3)
            .mean((2, 4))
            .round()
            .to(torch.uint8)
        )
        for name, image in zip(names, images, strict=True):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            save_image(folder / name, image)

    def lens_of(self, model: str) -> str:
        k = self.cameras.intrinsics[0].tolist()
        focal = [k[0][0]] if "RADIAL" in model else [k[0][0], k[1][1]]
        return " ".join(map(repr, [*focal, k[0][2], k[1][2], *self.lens]))


@pytest.fixture(scope="module")
def plain() -> Sample:
    return Sample()


@pytest.fixture(scope="module")
def centered() -> Sample:
    """As LLFF can tell of: its principal point is in the middle, its pixels are square."""
    return Sample(centered=True)


@pytest.fixture(scope="module")
def bent() -> Sample:
    return Sample(LENS["OPENCV"])


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return -10 * math.log10(float((a - b).square().mean()))


def read(name: str, path: Path, **settings) -> tuple:
    dataset = datasets.build({"name": name, "path": str(path), **settings})
    return dataset, dataset.scenes()


def check(
    capture: CalibratedCapture,
    sample: Sample,
    to_dataset: torch.Tensor | None = None,
    points: bool = True,
    views: range | list[int] | None = None,
) -> None:
    """Each loaded view equals a render of the scene from that camera.

    `to_dataset` maps the room's world to the dataset's world.
    """
    views = views if views is not None else range(len(sample.cameras))
    to_dataset = torch.eye(4) if to_dataset is None else to_dataset
    true = sample.cameras[list(views)]
    torch.testing.assert_close(
        capture.cameras.world_to_camera @ to_dataset, true.world_to_camera, atol=2e-5, rtol=0
    )
    torch.testing.assert_close(
        capture.cameras.intrinsics,
        true.resized(capture.cameras.width, capture.cameras.height).intrinsics,
        atol=1e-3,
        rtol=1e-5,
    )
    assert len(capture.views) == len(set(capture.views)) == len(capture.cameras) == len(true)
    shown, wrong, target = [], [], []
    for view in range(len(true)):
        camera = capture.inner_camera(view, LONGER)
        assert (camera.width, camera.height) == (LONGER, LONGER * HEIGHT // WIDTH)
        assert torch.equal(camera.world_to_camera, capture.cameras[view].world_to_camera)
        assert camera.intrinsics[0, 0, 0] == camera.intrinsics[0, 1, 1] and camera.intrinsics[
            0, :2, 2
        ].tolist() == [camera.width / 2, camera.height / 2]
        shown.append(capture.load_view(view, camera))
        target.append(sample.true(views[view], camera))
        shifted = camera.intrinsics.clone()
        shifted[:, :2, 2] += 0.5
        wrong.append(capture.load_view(view, replace(camera, intrinsics=shifted)))
    shown, wrong, target = Frames.cat(shown), Frames.cat(wrong), Frames.cat(target)
    assert psnr(shown.rgb, target.rgb) > 33, (
        "35 and more; with any of LENS not undone, less than 30"
    )
    assert psnr(wrong.rgb, target.rgb) < min(30, psnr(shown.rgb, target.rgb) - 5), (
        "half a pixel is noticed"
    )
    if points:
        small = sample.cameras[0].resized(24, 18)
        assert capture.points is not None
        place, colors = (
            (capture.points.points - to_dataset[:3, 3]) @ to_dataset[:3, :3],
            capture.points.colors,
        )
        assert len(place) == 432
        at, _ = project(place, small)
        expected = torch.stack(
            torch.meshgrid(torch.arange(24) + 0.5, torch.arange(18) + 0.5, indexing="xy"), -1
        ).reshape(-1, 2)
        torch.testing.assert_close(at[0], expected, atol=1e-2, rtol=0)
        torch.testing.assert_close(colors, sample.points.colors, atol=0.003, rtol=0)


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


def write_model(
    folder: Path, sample: Sample, names: list[str], model: str = "", binary: bool = False
) -> None:
    """A COLMAP model. `model` is PINHOLE or a camera model with the sample's lens."""
    write_colmap(folder, sample.cameras, names, sample.points)
    if model:
        (folder / "cameras.txt").write_text(f"1 {model} {WIDTH} {HEIGHT} {sample.lens_of(model)}\n")
    if binary:
        as_binary(folder)


def as_binary(folder: Path) -> None:
    """COLMAP's text files equal its binary ones. Readers skip the observations of points."""
    models = {
        "SIMPLE_PINHOLE": 0,
        "PINHOLE": 1,
        "SIMPLE_RADIAL": 2,
        "RADIAL": 3,
        "OPENCV": 4,
        "OPENCV_FISHEYE": 5,
        "FULL_OPENCV": 6,
    }

    def lines(name: str) -> list[list[str]]:
        file = folder / name
        words = [
            line.split()
            for line in file.read_text().splitlines()
            if line.strip() and not line.startswith("#")
        ]
        file.unlink()
        return words

    rows = lines("cameras.txt")
    data = struct.pack("<Q", len(rows))
    for number, model, width, height, *values in rows:
        data += struct.pack(
            f"<IiQQ{len(values)}d",
            int(number),
            models[model],
            int(width),
            int(height),
            *map(float, values),
        )
    (folder / "cameras.bin").write_bytes(data)
    rows = lines("images.txt")
    data = struct.pack("<Q", len(rows))
    for number, *pose, camera, name in rows:
        data += (
            struct.pack("<I7dI", int(number), *map(float, pose), int(camera))
            + name.encode()
            + b"\0"
            + struct.pack("<QddqddQ", 2, 1.5, 2.5, -1, 3, 4, 7)
        )
    (folder / "images.bin").write_bytes(data)
    rows = lines("points3D.txt")
    data = struct.pack("<Q", len(rows))
    for number, x, y, z, r, g, b, error in rows:
        data += struct.pack(
            "<Q3d3BdQ2i",
            int(number),
            *map(float, (x, y, z)),
            *map(int, (r, g, b)),
            float(error),
            1,
            1,
            0,
        )
    (folder / "points3D.bin").write_bytes(data)


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


def add(file: Path, **facts) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | facts))


@pytest.mark.parametrize("name", list(catalogue().entries["dataset"]))
def test_settings_are_explained_and_read_from_the_source(name):
    entry = catalogue()("dataset", name)
    assert [key for key in entry.settings if f"{key}:" not in entry.doc] == []
    assert entry.licence == entry.load().licence and entry.licence
    if name != "ray_cast":
        assert {"path", "scenes"} <= set(entry.settings)


# -- llff


@pytest.mark.parametrize(
    "pictures, shrink, settings",
    [("images_4", 2, {}), ("images_8", 2, {"factor": 8}), ("images", 1, {})],
)
def test_llff(tmp_path, centered, pictures, shrink, settings):
    write_llff(
        tmp_path / "fern",
        centered,
        ["image000.png", "image001.png", "image002.png"],
        pictures,
        shrink,
    )
    write_colmap(
        tmp_path / "fern" / "sparse" / "0",
        centered.cameras,
        ["IMG_1.JPG", "IMG_2.JPG", "IMG_3.JPG"],
        centered.points,
    )
    dataset, scenes = read("llff", tmp_path, **settings)
    assert scenes == ["fern"]
    capture = dataset.capture("fern")
    check(capture, centered)
    assert (
        capture.views[1] == "image001.png"
        and capture.cameras.width == WIDTH // shrink
        and capture.folder == tmp_path / "fern"
    )
    assert read("llff", tmp_path / "fern", **settings)[1] == ["fern"]


def test_llff_lens_of_colmap_and_dropped_pictures(tmp_path):
    sample = Sample((-0.12,), centered=True)
    write_llff(
        tmp_path, sample, ["b.png", "a.png", "c.png"], "images_4", 1
    )  # rows in names' order: the poses of a and b are swapped
    (tmp_path / "images_4" / "a.png").rename(tmp_path / "images_4" / "x.png")
    (tmp_path / "images_4" / "b.png").rename(tmp_path / "images_4" / "a.png")
    (tmp_path / "images_4" / "x.png").rename(tmp_path / "images_4" / "b.png")
    write_model(
        tmp_path / "sparse" / "0", sample, ["a.JPG", "b.JPG", "c.JPG"], "SIMPLE_RADIAL", binary=True
    )
    check(read("llff", tmp_path)[0].capture(tmp_path.name), sample)
    (tmp_path / "images_4" / "b.png").unlink()  # names of sparse/0 tell which rows are left
    check(read("llff", tmp_path)[0].capture(tmp_path.name), sample, views=[0, 2])
    (tmp_path / "images_4" / "c.png").rename(tmp_path / "images_4" / "z.png")
    with pytest.raises(
        ValueError, match="2 pictures, poses_bounds.npy 3 rows, and names do not tell"
    ):
        read("llff", tmp_path)[0].capture(tmp_path.name)
    (tmp_path / "images_4" / "z.png").rename(tmp_path / "images_4" / "image002.png")
    (tmp_path / "images_4" / "a.png").rename(tmp_path / "images_4" / "image000.png")
    check(read("llff", tmp_path)[0].capture(tmp_path.name), sample, views=[0, 2])


def test_llff_refusals(tmp_path, centered):
    write_llff(
        tmp_path / "fern", centered, ["image000.png", "image001.png", "image002.png"], "images_4", 4
    )
    file, table = (
        tmp_path / "fern" / "poses_bounds.npy",
        np.load(tmp_path / "fern" / "poses_bounds.npy"),
    )
    with pytest.raises(
        FileNotFoundError, match="no folder of pictures images_8 in .*fern; there is images_4"
    ):
        read("llff", tmp_path, factor=8)[0].capture("fern")
    with pytest.raises(ValueError, match="factor is 0; choose 1"):
        read("llff", tmp_path, factor=0)[0].capture("fern")
    for change, reason in (
        (table[:, :15], r"shape \(3, 15\); expected \[view 17\]"),
        (table[:2], "3 pictures, poses_bounds.npy 2 rows"),
        (table * np.where(np.arange(17) % 5 == 1, -1, 1), "camera 0 is no rigid motion"),
        (table * np.nan, "not finite"),
    ):
        np.save(file, change)
        with pytest.raises(ValueError, match=reason):
            read("llff", tmp_path)[0].capture("fern")
    np.save(file, table)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ValueError, match="poses_bounds.npy is no array"):
        read("llff", tmp_path)[0].capture("fern")
    file.unlink()
    with pytest.raises(FileNotFoundError, match="holds no scene: expected poses_bounds.npy"):
        read("llff", tmp_path)


# -- dl3dv


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
    add(
        folder / "transforms.json",
        **k,
        camera_model="OPENCV",
        applied_transform=APPLIED[:3].tolist(),
    )
    return folder / "transforms.json"


def test_dl3dv(tmp_path, plain):
    write_dl3dv(tmp_path / "1K" / "abc", plain)
    write_colmap(
        tmp_path / "1K" / "abc" / "colmap" / "sparse" / "0",
        plain.cameras,
        [f"{k}.png" for k in range(3)],
        plain.points,
    )
    dataset, scenes = read("dl3dv", tmp_path / "1K")
    assert scenes == ["abc"]
    check(dataset.capture("abc"), plain, APPLIED)


def test_dl3dv_benchmark_with_a_lens_and_points_of_a_ply_file(tmp_path, bent):
    file = write_dl3dv(tmp_path / "abc" / "nerfstudio", bent, "images_8", 1, lens=True)
    write_ply(
        file.parent / "sparse_pc.ply",
        replace(bent.points, points=bent.points.points @ APPLIED[:3, :3].T),
    )
    add(file, ply_file_path="sparse_pc.ply")
    dataset, scenes = read("dl3dv", tmp_path)
    assert scenes == ["abc"]
    capture = dataset.capture("abc")
    check(capture, bent, APPLIED)
    check(read("dl3dv", tmp_path / "abc")[0].capture("abc"), bent, APPLIED)
    straight = json.loads(file.read_text()) | {"k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0}
    file.write_text(json.dumps(straight))
    shown = read("dl3dv", tmp_path)[0].capture("abc")
    camera = capture.inner_camera(0, LONGER)
    assert psnr(shown.load_view(0, camera).rgb, bent.true(0, camera).rgb) < 30, (
        "this lens is no small one"
    )


def test_dl3dv_refusals(tmp_path, plain):
    file = write_dl3dv(tmp_path / "abc", plain)
    capture = lambda: read("dl3dv", tmp_path)[0].capture("abc")  # noqa: E731
    good = file.read_text()
    for facts, reason in (
        (
            {"camera_model": "OPENCV_FISHEYE"},
            "camera of the model OPENCV_FISHEYE; known are SIMPLE_PINHOLE",
        ),
        ({"applied_transform": [[1, 0], [0, 1]]}, r"applied_transform is of shape \(2, 2\)"),
        ({"k1": math.nan}, "distortion that is not finite"),
        ({"k1": "much"}, "no camera path that is known here .*much"),
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
    with pytest.raises(
        FileNotFoundError, match="frame_00002.png is not there: missing are 1 of the 3"
    ):
        capture()
    save_image(tmp_path / "abc" / "images_4" / "frame_00002.png", torch.zeros(80, 120, 3))
    with pytest.raises(
        ValueError, match="frame_00002.png is 120 x 80 pixels, .*frame_00001.png 120 x 90"
    ):
        capture()
    (tmp_path / "abc" / "images_4" / "frame_00002.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="frame_00002.png is no picture"):
        capture()
    for name in ("frame_00001.png", "frame_00002.png", "frame_00003.png"):
        save_image(tmp_path / "abc" / "images_4" / name, torch.zeros(80, 80, 3))
    with pytest.raises(
        ValueError, match="80 x 80 pixels, its camera's picture 240 x 180; expected the same aspect"
    ):
        capture()


# -- tanks_and_temples


@pytest.mark.parametrize("place, binary, shrink", [("sparse/0", True, 2), ("sparse", False, 1)])
def test_tanks_and_temples(tmp_path, plain, place, binary, shrink):
    names = ["000001.png", "000002.png", "000010.png"]
    for scene in ("train", "truck"):
        plain.save(tmp_path / "tandt" / scene / "images", names, shrink)
        write_model(tmp_path / "tandt" / scene / place, plain, names, binary=binary)
    dataset, scenes = read("tanks_and_temples", tmp_path / "tandt")
    assert scenes == ["train", "truck"]
    capture = dataset.capture("truck")
    check(capture, plain)
    assert capture.views == tuple(names) and capture.cameras.width == WIDTH // shrink
    assert read("tanks_and_temples", tmp_path / "tandt", scenes=("truck",))[1] == ["truck"]
    with pytest.raises(
        ValueError, match="scenes has 'tank', which is not in .*; there are train, truck"
    ):
        read("tanks_and_temples", tmp_path / "tandt", scenes=("truck", "tank"))
    with pytest.raises(ValueError, match="no scene 'train' in .*; there are truck"):
        read("tanks_and_temples", tmp_path / "tandt", scenes=("truck",))[0].capture("train")
    (tmp_path / "tandt" / "barn").mkdir()
    with pytest.raises(ValueError, match="its folder is there, but not sparse/0 or sparse"):
        read("tanks_and_temples", tmp_path / "tandt", scenes=("barn",))


def test_colmap_refusals(tmp_path, plain):
    names = ["a.png", "b.png", "c.png"]
    plain.save(tmp_path / "truck" / "images", names)
    model = tmp_path / "truck" / "sparse" / "0"
    write_model(model, plain, names, binary=True)
    capture = lambda: read("tanks_and_temples", tmp_path)[0].capture("truck")  # noqa: E731
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
        read("tanks_and_temples", tmp_path / "nowhere")


# -- realestate10k


def write_realestate(text: Path, sample: Sample, times: list[int]) -> None:
    rows = ["https://www.youtube.com/watch?v=x"]
    for time, matrix, k in zip(
        times,
        sample.cameras.world_to_camera.tolist(),
        sample.cameras.intrinsics.tolist(),
        strict=True,
    ):
        lens = [k[0][0] / WIDTH, k[1][1] / HEIGHT, k[0][2] / WIDTH, k[1][2] / HEIGHT, 0, 0]
        rows.append(" ".join(map(repr, [time, *lens, *matrix[0], *matrix[1], *matrix[2]])))
    text.parent.mkdir(parents=True, exist_ok=True)
    text.write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize(
    "text, frames",
    [
        ("a1.txt", "a1"),
        ("cameras/a1.txt", "frames/a1"),
        ("test/a1.txt", "frames/test/a1"),
        ("test/a1.txt", "test/a1"),
    ],
)
def test_realestate10k(tmp_path, plain, text, frames):
    times = [33000, 66000, 100000]
    write_realestate(tmp_path / text, plain, times)
    write_realestate(tmp_path / Path(text).with_name("without_frames.txt"), plain, times)
    plain.save(tmp_path / frames, [f"{time}.png" for time in times], 2)
    dataset, scenes = read("realestate10k", tmp_path)
    assert scenes == ["a1"]
    capture = dataset.capture("a1")
    check(capture, plain, points=False)
    assert capture.views == ("33000", "66000", "100000") and capture.points is None
    if Path(frames).parent == Path(text).parent:
        check(read("realestate10k", tmp_path / text)[0].capture("a1"), plain, points=False)
    (tmp_path / frames / "66000.png").unlink()
    check(read("realestate10k", tmp_path)[0].capture("a1"), plain, points=False, views=[0, 2])


def test_realestate10k_refusals(tmp_path, plain):
    with pytest.raises(FileNotFoundError, match="holds no scene: expected NAME.txt"):
        read("realestate10k", tmp_path)
    write_realestate(tmp_path / "a1.txt", plain, [1, 2, 3])
    with pytest.raises(FileNotFoundError, match="holds no scene: expected NAME.txt .*with frames"):
        read("realestate10k", tmp_path)
    (tmp_path / "a1").mkdir()
    with pytest.raises(
        FileNotFoundError, match="none of the frames of .*a1.txt; expected TIMESTAMP.png"
    ):
        read("realestate10k", tmp_path)[0].capture("a1")
    plain.save(tmp_path / "a1", ["1.png", "2.png", "3.png"])
    (tmp_path / "a1.txt").write_text((tmp_path / "a1.txt").read_text()[:-30])
    with pytest.raises(ValueError, match="a1.txt.*line 4 has not RealEstate10K's 19 numbers"):
        read("realestate10k", tmp_path)[0].capture("a1")


# -- folder


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
    write_model(tmp_path / place, sample, ["a.png", "b.png"], model, binary=model != "RADIAL")
    dataset, (scene,) = read("folder", tmp_path)
    check(dataset.capture(scene), sample)


def test_folder_of_arrays_goes_before_transforms_before_colmap(tmp_path, plain):
    names = ["a.png", "b.png", "c.png"]
    scene = tmp_path / "mine"
    plain.save(scene / "images", names)
    write_colmap(scene / "sparse", plain.cameras, names, plain.points)
    (tmp_path / "empty").mkdir()
    dataset, scenes = read("folder", tmp_path)
    assert scenes == ["mine"] and dataset.capture("mine").notes["cameras"] == "COLMAP"
    check(dataset.capture("mine"), plain)
    write_transforms(
        scene / "transforms.json", plain.cameras, [f"./images/{name}" for name in names]
    )
    capture = dataset.capture("mine")
    assert capture.notes["cameras"] == "transforms.json"
    check(capture, plain)
    write_arrays(scene, plain, names)
    capture = dataset.capture("mine")
    assert capture.notes["cameras"] == "cameras.npz" and capture.views == tuple(names)
    check(capture, plain)
    other = plain.cameras.intrinsics[0].double().numpy()
    write_arrays(scene, plain, names, K=np.diag([9.0, 9, 1]) + other * 0.1, K_color_nominal=other)
    check(dataset.capture("mine"), plain)
    (scene / "sparse_points.npz").unlink()
    assert dataset.capture("mine").points is None


def test_folder_refusals(tmp_path, plain):
    names = ["a.png", "b.png", "c.png"]
    plain.save(tmp_path / "images", names)
    with pytest.raises(
        FileNotFoundError,
        match="holds no scene: expected cameras.npz, transforms.json or a COLMAP model",
    ):
        read("folder", tmp_path)
    capture = lambda: read("folder", tmp_path)[0].capture(tmp_path.name)  # noqa: E731
    poses = plain.cameras.world_to_camera.numpy()
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
        write_arrays(tmp_path, plain, names, **changed)
        with pytest.raises(ValueError, match=reason):
            capture()
    write_arrays(tmp_path, plain, names)
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
    write_transforms(tmp_path / "transforms.json", plain.cameras, [""] * 3)
    with pytest.raises(ValueError, match="names no picture"):
        capture()


# -- ray_cast


def test_ray_cast(tmp_path):
    dataset = datasets.build(
        {"name": "ray_cast", "scenes": ["plain"], "size": [64, 48], "angles": [4.0, 9.0]}
    )
    assert dataset.scenes() == ["plain"]
    capture = dataset.capture("plain")
    assert (
        len(capture.cameras) == len(capture.views) == len(set(capture.views)) == 17
        and capture.metric
        and capture.points is None
    )
    ahead = capture.cameras.camera_to_world[:, :3, 2]
    turned = torch.rad2deg(torch.acos((ahead @ ahead[0]).clamp(-1, 1)))
    torch.testing.assert_close(
        turned, torch.tensor([0.0, *[4.0] * 8, *[9.0] * 8]), atol=0.1, rtol=0.01
    )
    camera = capture.inner_camera(9, 32)
    seen = capture.load_view(9, camera)
    assert (camera.width, camera.height) == (32, 24) and torch.equal(
        camera.world_to_camera, capture.cameras[9].world_to_camera
    )
    assert torch.equal(seen.depth, render("plain", capture.cameras[9].resized(32, 24)).depth)
    assert len(datasets.build({"name": "ray_cast"}).scenes()) == 4
    terrace = datasets.build({"name": "ray_cast", "size": [32, 32], "angles": [4.0, 16.0]}).capture(
        "terrace"
    )
    rings = [f"{angle} degrees, {22.5 + 45 * turn:g}" for angle in (4, 16) for turn in range(8)]
    below = ("16 degrees, 247.5", "16 degrees, 292.5")
    assert (
        list(terrace.views) == ["input", *(name for name in rings if name not in below)]
        and len(terrace.cameras) == 15
    ), "its floor is 12 degrees down"
    near = [float(terrace.load_view(k, terrace.cameras[k]).depth.median()) for k in range(15)]
    assert min(near) > 0.7 * near[0], "none has a wall before its eyes"
    wrong = {"scenes": ["attic"]}, {"angles": [95.0]}, {"size": [0, 4]}
    for settings, reason in zip(
        wrong, ("'attic'; choose among room", "95.0; choose", "at least 1 pixel"), strict=True
    ):
        with pytest.raises(ValueError, match=reason):
            datasets.build({"name": "ray_cast", **settings})
    with pytest.raises(ValueError, match="no scene 'room'; there are plain"):
        dataset.capture("room")


# -- photographs


@pytest.mark.parametrize("model", LENS)
def test_the_inner_camera_sees_all_it_can_and_no_border(tmp_path, model, plain):
    lens = (*LENS[model], *[0.0] * (8 - len(LENS[model])))
    inner = Photograph(tmp_path / "none.png", plain.cameras[0], LENS[model]).inner_camera(200)
    matrix = plain.cameras.intrinsics[0].double().numpy()

    def beyond(zoom: float) -> float:
        """How far the border projects outside the photograph with OpenCV. Negative is inside."""
        along = np.linspace(0, 1, 101)
        edge = np.concatenate(
            [
                np.stack(pair, -1)
                for side in (0.0, 1.0)
                for pair in ((along, 0 * along + side), (0 * along + side, along))
            ]
        )
        k = inner.intrinsics[0].double().numpy()
        rays = (edge * (inner.width, inner.height) - k[:2, 2]) / k[0, 0] * zoom
        at = cv2.projectPoints(
            np.concatenate([rays, np.ones_like(rays[:, :1])], -1)[:, None],
            np.zeros(3),
            np.zeros(3),
            matrix,
            np.array(lens),
        )[0][:, 0]
        return float(np.maximum(-at, at - (WIDTH, HEIGHT)).max())

    assert beyond(1.0) < 1e-3 and beyond(1.002) > 0.1, "it touches the border"
    assert (inner.width, inner.height) == (200, 150)


def test_inner_camera_of_non_square_pixels_has_true_aspect(tmp_path):
    camera = replace(
        pinhole(60, 80, 50.0), intrinsics=torch.tensor([[[25.0, 0, 30], [0, 50, 40], [0, 0, 1]]])
    )  # 120 by 80, stored at half its width
    inner = Photograph(tmp_path / "none.png", camera).inner_camera(90)
    assert (inner.width, inner.height) == (90, 60) and float(
        inner.intrinsics[0, 0, 0]
    ) == pytest.approx(50 * 60 / 80, rel=1e-4)


def test_the_inner_camera_of_odd_cases(tmp_path):
    camera = pinhole(60, 80, 50.0)
    inner = Photograph(tmp_path / "none.png", camera).inner_camera(40)
    assert (inner.width, inner.height) == (30, 40)
    torch.testing.assert_close(inner.intrinsics, camera.resized(30, 40).intrinsics)
    folding = Photograph(tmp_path / "none.png", camera, (-0.9,)).inner_camera(
        40
    )  # turns back before it reaches the corners: x - 0.9 x^3 is largest at 0.61
    assert float(torch.tensor([15.0, 20.0]).norm() / folding.intrinsics[0, 0, 0]) == pytest.approx(
        1 / math.sqrt(2.7), abs=2e-3
    )
    off = replace(camera, intrinsics=torch.tensor([[[50.0, 0, -3], [0, 50, 40], [0, 0, 1]]]))
    with pytest.raises(ValueError, match="principal point lies outside"):
        Photograph(tmp_path / "none.png", off).inner_camera(40)
    with pytest.raises(ValueError, match="longer side is 0"):
        Photograph(tmp_path / "none.png", camera).inner_camera(0)
    elsewhere = replace(
        camera,
        world_to_camera=look_at(torch.ones(1, 3), torch.zeros(1, 3), torch.tensor([[0.0, 1, 0]])),
    )
    with pytest.raises(ValueError, match="taken from elsewhere"):
        Photograph(tmp_path / "none.png", camera).resample(elsewhere)


def test_resampling_a_photograph_is_identity_or_mean(tmp_path):
    picture = torch.randint(
        0, 256, (48, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    save_image(tmp_path / "a.png", picture)
    photograph = Photograph(tmp_path / "a.png", pinhole(64, 48, 50.0))
    assert torch.equal(photograph.resample(photograph.camera).images[0], picture)
    assert torch.equal(photograph.resample(photograph.inner_camera(64)).images[0], picture)
    means = picture.float().view(12, 4, 16, 4, 3).mean((1, 3))
    assert (
        photograph.resample(photograph.inner_camera(16)).images[0].float() - means
    ).abs().max() <= 0.5
    larger = replace(
        photograph, camera=photograph.camera.resized(640, 480)
    )  # a camera of the full size, a picture reduced
    assert torch.equal(larger.resample(photograph.camera).images[0], picture)


# -- real photographs


def likeness(capture: CalibratedCapture, *shifts: int) -> list[float]:
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
    dataset, scenes = read("folder", shared / "data")
    assert scene in scenes
    capture = dataset.capture(scene)
    right, wrong = likeness(capture, 3)
    assert right > least and wrong < right - 0.08


@pytest.mark.parametrize("scene, count", [("llff_fern", 20), ("llff_flower", 30)])
def test_llff_as_released(shared, scene, count):
    """The dataset's pose file agrees with the arrays, also if pictures were dropped."""
    dataset, scenes = read("llff", shared / "data", scenes=(scene,))
    assert scenes == [scene]
    capture, other = dataset.capture(scene), read("folder", shared / "data")[0].capture(scene)
    assert capture.views == other.views and len(capture.views) == count
    torch.testing.assert_close(
        capture.cameras.world_to_camera, other.cameras.world_to_camera, atol=1e-4, rtol=1e-5
    )
    torch.testing.assert_close(
        capture.cameras.intrinsics, other.cameras.intrinsics, atol=1e-2, rtol=1e-5
    )
    assert capture.points is None and other.points is not None


def test_the_colour_camera_of_7_scenes(shared):
    capture = read("folder", shared / "data")[0].capture("sevenscenes_redkitchen")
    assert (
        capture.cameras.intrinsics[0, 0, 0] == 525
        and "K_color_nominal" in capture.notes["cameras"]
        and len(capture.cameras) == 31
    )
    assert capture.load_view(0, capture.inner_camera(0, 160)).depth is None
