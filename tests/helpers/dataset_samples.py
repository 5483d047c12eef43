"""Samples in the exact layouts of datasets, and checks of what a reader makes of them.

The samples show a ray-cast scene with known cameras and points. OpenCV distorts the lenses.
"""

import math
import struct
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from lift.evaluation.datasets import CalibratedCapture, datasets
from lift.geometry import look_at, pinhole, project, unproject
from lift.io.colmap import write_colmap
from lift.io.image import save_image
from lift.synthetic.scenes import render
from lift.types import Cameras, Frames, PointCloud

WIDTH, HEIGHT, LONGER_SIDE = 240, 180, 60
LENS = {
    "none": (),
    "SIMPLE_RADIAL": (-0.12,),
    "RADIAL": (0.08, -0.03),
    "OPENCV": (-0.1, 0.02, 0.004, -0.006),
    "FULL_OPENCV": (0.05, 0.01, 0.003, 0.002, -0.01, 0.15, 0.02, 0.004),
}


def sample_cameras(count: int = 3, centered: bool = False) -> Cameras:
    """Cameras with slightly different fx and fy and a principal point off the centre.

    With `centered`, the pixels are square and the principal point is in the middle.
    """
    eyes = torch.stack(
        [
            torch.linspace(-0.4, 0.5, count),
            torch.linspace(0.1, -0.2, count),
            torch.linspace(0, 0.3, count),
        ],
        dim=-1,
    )
    down = torch.tensor([[0.05, 1.0, 0.0]]).expand(count, 3)
    target = torch.tensor([[0.0, 0, 4]]).expand(count, 3)
    fx, fy, cx, cy = (
        (200.0, 200.0, WIDTH / 2, HEIGHT / 2) if centered else (200.0, 204.0, 123.0, 87.5)
    )
    intrinsics = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    return Cameras(
        look_at(eyes, target, down), intrinsics.expand(count, 3, 3).clone(), WIDTH, HEIGHT
    )


class Sample:
    """Views of a room from `sample_cameras`, and points that are visible in some view."""

    def __init__(
        self, lens: tuple[float, ...] = (), count: int = 3, centered: bool = False
    ) -> None:
        self.lens = lens
        self.cameras = sample_cameras(count, centered)
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


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return -10 * math.log10(float((a - b).square().mean()))


def open_dataset(name: str, path: Path, **settings) -> tuple:
    dataset = datasets.build({"name": name, "path": str(path), **settings})
    return dataset, dataset.scenes()


def check_capture(
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
        camera = capture.inner_camera(view, LONGER_SIDE)
        assert (camera.width, camera.height) == (LONGER_SIDE, LONGER_SIDE * HEIGHT // WIDTH)
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


def write_colmap_model(
    folder: Path, sample: Sample, names: list[str], model: str = "", binary: bool = False
) -> None:
    """A COLMAP model. `model` is PINHOLE or a camera model with the sample's lens."""
    write_colmap(folder, sample.cameras, names, sample.points)
    if model:
        (folder / "cameras.txt").write_text(f"1 {model} {WIDTH} {HEIGHT} {sample.lens_of(model)}\n")
    if binary:
        convert_to_binary(folder)


def convert_to_binary(folder: Path) -> None:
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
