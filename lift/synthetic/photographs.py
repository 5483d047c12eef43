"""Photographs with known cameras, as worlds with test views."""

from pathlib import Path

import numpy as np
import torch

from lift.geometry import inside, project
from lift.io.lens import Photograph
from lift.synthetic.worlds import World, distant_points
from lift.types import Cameras, Clip, Frames, PointCloud, Trajectory


def read_photographs(folder: Path) -> tuple[Cameras, PointCloud, list[Path], float]:
    """Read a scene of photographs with cameras. See `load_photographs`.

    Args:
        folder: The scene's folder.

    Returns:
        Cameras, points, paths of the pictures, and the lens's first radial coefficient.

    Raises:
        FileNotFoundError: If a file is missing.
    """
    for name in ("cameras.npz", "sparse_points.npz", "images"):
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"there is no {name} in {folder}, which is to be a scene of photographs "
                "with cameras"
            )
    stored = np.load(folder / "cameras.npz")
    sparse = np.load(folder / "sparse_points.npz")
    poses = torch.from_numpy(stored["w2c"]).float()
    intrinsics = torch.from_numpy(stored["K"]).float()
    cameras = Cameras(poses, intrinsics, int(stored["width"]), int(stored["height"]))
    cloud = PointCloud(
        torch.from_numpy(sparse["xyz"]).float(), torch.from_numpy(sparse["rgb"]).float() / 255
    )
    return (
        cameras,
        cloud,
        [folder / "images" / str(name) for name in stored["names"]],
        float(stored["k1_simple_radial"]),
    )


def load_photographs(folder: Path, size: tuple[int, int], every: int = 5) -> World:
    """Load photographs with known cameras as a world without depth.

    The folder holds `cameras.npz` (names, K, w2c, k1_simple_radial, width, height),
    `sparse_points.npz` (xyz, rgb) and `images/`. The input is the view nearest to the centre of all
    cameras. The other views make two clips, one to each side along the direction of largest
    variance, nearest first. Radial distortion of the lowest order is removed. The centre of each
    picture is cropped and resized.

    Args:
        folder: The scene's folder.
        size: Width and height of the pictures in pixels.
        every: Every N-th view is a test view.

    Returns:
        The world.

    Raises:
        FileNotFoundError: If a file is missing.
    """
    cameras, cloud, paths, k1 = read_photographs(folder)
    centers = cameras.centers - cameras.centers.mean(0)
    axis = torch.linalg.svd(centers, full_matrices=False).Vh[0]
    start = int(centers.norm(dim=-1).argmin())
    along = (cameras.centers - cameras.centers[start]) @ axis
    ordered = along.argsort().tolist()
    test_views = [index for index in ordered[every // 2 :: every] if index != start]
    left = [i for i in reversed(ordered) if along[i] < 0 and i not in test_views]
    right = [i for i in ordered if along[i] > 0 and i not in test_views]
    pictures = [load_photograph(paths[i], cameras[i], k1, size) for i in range(len(cameras))]
    frames = Frames.cat([frame for frame, _ in pictures])
    views = Cameras.cat([camera for _, camera in pictures])
    training_views = [start, *right, *left]
    clips = tuple(
        Clip(name, 0, views[side]) for name, side in (("right", right), ("left", left)) if side
    )
    pixels, depth = project(cloud.points, views[start])
    visible = (depth[0] > 0) & inside(pixels[0], views[start])
    no_depth = torch.zeros(len(training_views), size[1], size[0])
    return World(
        folder.name,
        Frames(frames.images[training_views], no_depth),
        Trajectory(views[start], clips),
        cloud,
        float(depth[0][visible].median()),
        distant_points(cloud.points[visible]),
        frames[test_views],
        views[test_views],
    )


def load_photograph(
    path: Path, camera: Cameras, k1: float, size: tuple[int, int]
) -> tuple[Frames, Cameras]:
    """Load one photograph without lens distortion, with its camera.

    Args:
        path: The picture file.
        camera: Its camera, one view.
        k1: The lens's first radial coefficient.
        size: Width and height of the result in pixels.

    Returns:
        The picture and its camera at the new size.
    """
    width, height = size
    scale = min(camera.width / width, camera.height / height)  # photograph pixels per pixel
    intrinsics = camera.intrinsics.clone()
    intrinsics[:, :2] /= scale
    intrinsics[:, 0, 2] += (width - camera.width / scale) / 2
    intrinsics[:, 1, 2] += (height - camera.height / scale) / 2
    target = Cameras(camera.world_to_camera, intrinsics, width, height)
    return Photograph(path, camera, (k1,)).resample(target), target
