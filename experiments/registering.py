"""Find the cameras of pictures in a scene that was lifted from other pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lift.geometry import rigid
from lift.poses.sfm.features import create_features
from lift.types import Cameras, Frames

MIN_INLIERS = 30
"""Number of inliers that a camera needs."""
MIN_INLIER_FRACTION = 0.1
"""Fraction of the matches that must be inliers of a camera."""
MAX_REPROJECTION_ERROR = 1 / 130
"""Largest reprojection error of an inlier, as a fraction of the width."""
FOCAL_FACTORS = (0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15)
"""Factors on the focal length that are tried. One is chosen for all pictures."""
NEIGHBOURS = (-6, -3, 0, 3, 6)
"""Frames that a picture is matched with, relative to the picture's index in the clip."""


@dataclass(frozen=True)
class Registration:
    """Cameras of pictures in the lifted scene."""

    cameras: Cameras
    registered: Bool[Tensor, "view"]
    """Pictures whose camera is found. The others have the camera of the frame of their index."""
    inliers: Int[Tensor, "view"]
    """Number of inliers of each camera."""
    focal_factor: float
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
    focal_factors: Sequence[float] = FOCAL_FACTORS,
) -> Registration:
    """Find the cameras of pictures by matches with frames whose cameras and depth are known.

    Features of a picture are matched with those of the frames near its index in the clip. The
    depth of the frames turns matches into points of the scene. A camera is found from pixels and
    points by LO-RANSAC and robust refinement (poselib). Picture k belongs to frame k.

    Args:
        pictures: Pictures to register, of the frames' size.
        frames: Frames of the lifted clip, in order of time.
        cameras: Their cameras.
        depth: z-depth of the lifted scene in each frame, 0 where it is unknown.
        features: As for `lift.poses.matching`.
        focal_factors: Factors on the frames' focal length that are tried.

    Returns:
        The cameras.
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
    focal_factor = _best_focal_factor(pairs, cameras, focal_factors)
    poses = []
    registered = []
    inliers = []
    for number, pair in enumerate(pairs):
        camera = cameras[min(number, len(cameras) - 1)]
        pose, count = _find_camera(pair, camera, focal_factor)
        poses.append(camera.world_to_camera[0] if pose is None else pose)
        registered.append(pose is not None)
        inliers.append(count)
    last = [min(number, len(cameras) - 1) for number in range(len(pairs))]
    intrinsics = cameras.intrinsics[last].clone()
    intrinsics[:, [0, 1], [0, 1]] *= focal_factor
    found_cameras = Cameras(torch.stack(poses), intrinsics, cameras.width, cameras.height)
    return Registration(
        found_cameras, torch.tensor(registered), torch.tensor(inliers), focal_factor
    )


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


def _best_focal_factor(
    pairs: Sequence[_Correspondence], cameras: Cameras, focal_factors: Sequence[float]
) -> float:
    """Choose the factor with the most inliers in some of the pictures."""
    if len(focal_factors) == 1:
        return focal_factors[0]
    subset = list(range(0, len(pairs), max(1, len(pairs) // 8)))
    totals = []
    for factor in focal_factors:
        counts = [
            _find_camera(pairs[k], cameras[min(k, len(cameras) - 1)], factor)[1] for k in subset
        ]
        totals.append(sum(counts))
    best = max(range(len(focal_factors)), key=lambda k: (totals[k], -abs(focal_factors[k] - 1)))
    return focal_factors[best]


def _find_camera(
    pair: _Correspondence, camera: Cameras, focal_factor: float
) -> tuple[Float[Tensor, "4 4"] | None, int]:
    """Find one camera and its number of inliers. The camera is None if there are too few."""
    import poselib

    if len(pair.pixels) < MIN_INLIERS:
        return None, 0
    (fx, _, x), (_, fy, y) = camera.intrinsics[0, :2].tolist()
    model = {
        "model": "PINHOLE",
        "width": camera.width,
        "height": camera.height,
        "params": [focal_factor * fx, focal_factor * fy, x, y],
    }
    ransac = {
        "max_reproj_error": MAX_REPROJECTION_ERROR * camera.width,
        "seed": 0,
        "max_iterations": 5000,
    }
    pose, report = poselib.estimate_absolute_pose(
        pair.pixels.double().numpy(),
        pair.points.double().numpy(),
        model,
        ransac,
        {"loss_type": "CAUCHY"},
    )
    inliers = int(sum(report["inliers"]))
    if inliers < max(MIN_INLIERS, MIN_INLIER_FRACTION * len(pair.pixels)):
        return None, inliers
    return rigid(torch.tensor(pose.R).float(), torch.tensor(pose.t).float()), inliers
