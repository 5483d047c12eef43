"""Find the cameras of pictures in a scene that was lifted from other pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lift.geometry import rigid
from lift.poses.sfm.features import create_features
from lift.types import Cameras, Frames

LEAST = 30
"""Matches that agree with a camera, at least."""
SHARE = 0.1
"""Share of the matches that agree with a camera, at least."""
REPROJECTION = 1 / 130
"""Largest reprojection error of a match that agrees, as a share of the width."""
ZOOMS = (0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15)
"""Factors on the focal length that are tried; one is taken for all pictures."""
NEIGHBOURS = (-6, -3, 0, 3, 6)
"""Frames that a picture is compared with, counted from its own place in the clip."""


@dataclass(frozen=True)
class Registered:
    """Cameras of pictures in the lifted scene."""

    cameras: Cameras
    found: Bool[Tensor, "view"]
    """Pictures that have a camera; the others have that of the frame at their place."""
    inliers: Int[Tensor, "view"]
    zoom: float
    """Factor on the focal length of the lifted frames."""


@dataclass(frozen=True)
class _Correspondence:
    """Pixels of a picture and the points of the scene that they show."""

    pixels: Float[Tensor, "match 2"]
    points: Float[Tensor, "match 3"]


def register(
    pictures: Frames,
    frames: Frames,
    cameras: Cameras,
    depth: Float[Tensor, "view height width"],
    features: str = "auto",
    zooms: Sequence[float] = ZOOMS,
) -> Registered:
    """Find the cameras of pictures by matches with frames whose cameras and depth are known.

    Features of a picture are matched with those of the frames near its place in the clip. Depth of
    the frames turns matches into points of the scene. A camera is found from pixels and points by
    LO-RANSAC and robust refinement (poselib). Picture k is at the place of frame k.

    Args:
        pictures: Pictures to be registered, of the frames' size.
        frames: Frames of the lifted clip, in order of time.
        cameras: Their cameras.
        depth: z-depth of the lifted scene in each frame, 0 where it is not known.
        features: As for `lift.poses.matching`.
        zooms: Factors on the frames' focal length that are tried.

    Returns:
        The cameras that were found.
    """
    find = create_features(features, 2048, torch.device("cpu"))
    keypoints = [find(image) for image in frames.images]
    pairs = []
    for number, image in enumerate(pictures.images):
        picture_keypoints = find(image)
        neighbours = {min(max(number + step, 0), len(frames) - 1) for step in NEIGHBOURS} | {0}
        parts = []
        for frame in sorted(neighbours):
            index, _ = find.match(picture_keypoints, keypoints[frame])
            pixels = picture_keypoints[0].cpu()[index[:, 0].cpu()]
            frame_pixels = keypoints[frame][0].cpu()[index[:, 1].cpu()]
            parts.append(_lift_matches(pixels, frame_pixels, cameras[frame], depth[frame]))
        pairs.append(
            _Correspondence(
                torch.cat([part.pixels for part in parts]),
                torch.cat([part.points for part in parts]),
            )
        )
    zoom = _best_zoom(pairs, cameras, zooms)
    poses, registered, inliers = [], [], []
    for number, pair in enumerate(pairs):
        picture_keypoints = cameras[min(number, len(cameras) - 1)]
        pose, count = _camera(pair, picture_keypoints, zoom)
        poses.append(picture_keypoints.world_to_camera[0] if pose is None else pose)
        registered.append(pose is not None)
        inliers.append(count)
    last = [min(number, len(cameras) - 1) for number in range(len(pairs))]
    intrinsics = cameras.intrinsics[last].clone()
    intrinsics[:, [0, 1], [0, 1]] *= zoom
    cameras_found = Cameras(torch.stack(poses), intrinsics, cameras.width, cameras.height)
    return Registered(cameras_found, torch.tensor(registered), torch.tensor(inliers), zoom)


def _lift_matches(
    pixels: Float[Tensor, "match 2"],
    input_pixels: Float[Tensor, "match 2"],
    camera: Cameras,
    depth: Float[Tensor, "height width"],
) -> _Correspondence:
    """Turn matches into pixels and points of the scene."""
    column, row = input_pixels.long().unbind(-1)
    z = depth[row.clamp(0, depth.shape[0] - 1), column.clamp(0, depth.shape[1] - 1)]
    valid = z > 0
    homogeneous = torch.cat([input_pixels, torch.ones_like(input_pixels[:, :1])], -1)
    local = homogeneous @ torch.linalg.inv(camera.intrinsics[0]).T * z[:, None]
    pose = camera.world_to_camera[0]
    points = (local - pose[:3, 3]) @ pose[:3, :3]
    return _Correspondence(pixels[valid], points[valid])


def _best_zoom(pairs: Sequence[_Correspondence], cameras: Cameras, zooms: Sequence[float]) -> float:
    """The zoom with which most matches of some pictures agree."""
    if len(zooms) == 1:
        return zooms[0]
    subset = list(range(0, len(pairs), max(1, len(pairs) // 8)))
    totals = []
    for zoom in zooms:
        counts = [_camera(pairs[k], cameras[min(k, len(cameras) - 1)], zoom)[1] for k in subset]
        totals.append(sum(counts))
    best = max(range(len(zooms)), key=lambda k: (totals[k], -abs(zooms[k] - 1)))
    return zooms[best]


def _camera(
    pair: _Correspondence, camera: Cameras, zoom: float
) -> tuple[Float[Tensor, "4 4"] | None, int]:
    """Find one camera; None if too few matches agree with it."""
    import poselib

    if len(pair.pixels) < LEAST:
        return None, 0
    (fx, _, x), (_, fy, y) = camera.intrinsics[0, :2].tolist()
    model = {
        "model": "PINHOLE",
        "width": camera.width,
        "height": camera.height,
        "params": [zoom * fx, zoom * fy, x, y],
    }
    ransac = {"max_reproj_error": REPROJECTION * camera.width, "seed": 0, "max_iterations": 5000}
    pose, report = poselib.estimate_absolute_pose(
        pair.pixels.double().numpy(),
        pair.points.double().numpy(),
        model,
        ransac,
        {"loss_type": "CAUCHY"},
    )
    inliers = int(sum(report["inliers"]))
    if inliers < max(LEAST, SHARE * len(pair.pixels)):
        return None, inliers
    return rigid(torch.tensor(pose.R).float(), torch.tensor(pose.t).float()), inliers
