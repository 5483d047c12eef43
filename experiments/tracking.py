"""Track points through a clip, estimate its cameras, and take robust statistics of each frame."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
import torch
from clips import Images
from jaxtyping import Bool, Float
from torch import Tensor

from lift.poses.sfm.bundle import adjust
from lift.poses.sfm.initialization import InitializationError
from lift.poses.sfm.registration import incremental_mapping
from lift.poses.sfm.state import Observations, SfmState
from lift.poses.sfm.tracks import thin_observations

NUM_POINTS = 400
"""Number of points that are tracked at once."""
MAX_FRAMES = 17
"""Number of frames of a clip that are measured, at most. Points are tracked through all frames."""
POSE_OBSERVATIONS = 150
"""Number of observations per frame from which cameras are estimated."""
MIN_SPACING = 7
"""Smallest distance between two points in pixels."""
MAX_ROUND_TRIP_ERROR = 0.4
"""Largest distance in pixels between a point and where it is tracked back to."""
MIN_TRACK_LENGTH = 3
"""Smallest number of frames of a track."""
MAX_RESIDUAL = 3.0
"""Reprojection error above which an observation is inconsistent, in pixels at a width of 384."""
NORMALIZATION_SIGMA = 8.0
"""Standard deviation in pixels of the window for local brightness and contrast."""
MIN_CONTRAST = 6.0
"""Contrast in grey levels that is added to the local one, so that flat regions stay flat."""
PYRAMID_LEVELS = 4
WINDOW = 15
"""Side of the window of Lucas-Kanade in pixels."""


@dataclass(frozen=True)
class PosedTracks:
    """Tracks, and the static scene that explains them best."""

    scene: SfmState
    observations: Observations
    """Observations in registered frames."""
    residual: Float[Tensor, "observation 2"]
    """Reprojection error in pixels."""
    depth: Float[Tensor, "observation"]
    """z-depth."""


def track_points(images: Images) -> Observations:
    """Track corners from frame to frame.

    The method is Lucas-Kanade in pyramids, checked by tracking back. Regions without points get
    new corners in every frame. Tracks need not fit any geometry, so moving parts stay in.

    Args:
        images: Frames in order of time.

    Returns:
        Observations of all tracks. The corner of the picture has the pixel coordinates 0, 0.
    """
    grey = [_normalize(cv2.cvtColor(image.numpy(), cv2.COLOR_RGB2GRAY)) for image in images]
    points = np.zeros((0, 1, 2), np.float32)
    names = np.zeros(0, np.int64)
    rows: list[tuple[np.ndarray, np.ndarray, int]] = []
    count = 0
    for number, picture in enumerate(grey):
        if number and len(points):
            points, tracked_mask = _follow_points(grey[number - 1], picture, points)
            names = names[tracked_mask]
        fresh = _corners(picture, points)
        points = np.concatenate([points, fresh])
        names = np.concatenate([names, count + np.arange(len(fresh))])
        count += len(fresh)
        rows.append((names.copy(), points[:, 0].copy(), number))
    track = torch.from_numpy(np.concatenate([name for name, _, _ in rows]))
    frame = torch.cat([torch.full((len(name),), number) for name, _, number in rows])
    pixel = torch.from_numpy(np.concatenate([at for _, at, _ in rows])).double() + 0.5
    return Observations(frame, track, pixel, torch.ones(len(track), dtype=torch.float64))


def select_frames(frames: int) -> list[int]:
    """Return at most MAX_FRAMES frame numbers, evenly spaced, with the first and the last."""
    count = min(frames, MAX_FRAMES)
    return sorted({round(number) for number in np.linspace(0, frames - 1, count)})


def restrict_frames(observations: Observations, frames: list[int]) -> Observations:
    """Keep and renumber some frames, and the tracks that are long enough in them."""
    new_index = torch.full((int(observations.frame.max()) + 1,), -1)
    new_index[torch.tensor(frames)] = torch.arange(len(frames))
    subset = observations[new_index[observations.frame] >= 0]
    count = torch.bincount(subset.point)
    subset = subset[count[subset.point] >= MIN_TRACK_LENGTH]
    _, point = subset.point.unique(return_inverse=True)
    return replace(subset, frame=new_index[subset.frame], point=point)


def _normalize(grey: np.ndarray) -> np.ndarray:
    """Remove local brightness and contrast, because their changes would move points."""
    values = grey.astype(np.float32)
    centered = values - cv2.GaussianBlur(values, (0, 0), NORMALIZATION_SIGMA)
    contrast = np.sqrt(cv2.GaussianBlur(centered**2, (0, 0), NORMALIZATION_SIGMA)) + MIN_CONTRAST
    return (128 + 40 * centered / contrast).clip(0, 255).round().astype(np.uint8)


def _follow_points(before: np.ndarray, after: np.ndarray, points: np.ndarray):
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.01)
    options = {"winSize": (WINDOW, WINDOW), "maxLevel": PYRAMID_LEVELS, "criteria": criteria}
    next_points, status, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None, **options)
    back, again, _ = cv2.calcOpticalFlowPyrLK(after, before, next_points, None, **options)
    round_trip_error = np.linalg.norm((back - points)[:, 0], axis=-1)
    height, width = after.shape
    at = next_points[:, 0]
    border = 3
    within = (at >= border).all(1) & (at[:, 0] < width - border) & (at[:, 1] < height - border)
    valid = (
        (status[:, 0] > 0) & (again[:, 0] > 0) & (round_trip_error < MAX_ROUND_TRIP_ERROR) & within
    )
    return next_points[valid], valid


def _corners(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    missing = NUM_POINTS - len(points)
    if missing <= 0:
        return np.zeros((0, 1, 2), np.float32)
    free = np.full(picture.shape, 255, np.uint8)
    for x, y in points[:, 0]:
        cv2.circle(free, (round(float(x)), round(float(y))), MIN_SPACING, 0, -1)
    corners = cv2.goodFeaturesToTrack(picture, missing, 0.005, MIN_SPACING, mask=free, blockSize=5)
    return np.zeros((0, 1, 2), np.float32) if corners is None else corners


def estimate_poses(
    observations: Observations,
    frames: int,
    focal: float,
    principal_point: tuple[float, float],
    max_error: float,
    lens: Literal["fixed", "shared"] = "shared",
    depth: Callable[[], Float[Tensor, "height width"]] | None = None,
) -> PosedTracks | None:
    """Estimate the cameras of a clip and the residual of every track.

    Cameras come from `lift.poses.sfm.registration`. Every track is then triangulated from all its
    observations with fixed cameras, by robust least squares.

    Args:
        observations: Tracks.
        frames: Number of frames.
        focal: Initial focal length in pixels.
        principal_point: Principal point in pixels.
        max_error: Reprojection error in pixels above which an observation is inconsistent.
        lens: Whether the focal length is fixed, or estimated for all frames together.
        depth: Estimates the depth of frame 0. It initialises the cameras if no pair of frames has
            enough parallax. The last adjustment does not use it.

    Returns:
        The posed tracks, or None if the clip has too little parallax.
    """
    log_focal = torch.full((frames,), float(np.log(focal)), dtype=torch.float64)
    centre = torch.tensor(principal_point, dtype=torch.float64).expand(frames, 2).clone()
    subset = thin_observations(observations, POSE_OBSERVATIONS)
    try:
        scene = incremental_mapping(subset, log_focal, centre, max_error, lens).state
    except InitializationError as error:
        logging.getLogger(__name__).info("no initial pair: %s", error)
        if depth is None:
            return None
        scene = _pose_by_depth(subset, log_focal, centre, max_error, lens, depth())
    if scene is None or int(scene.registered.sum()) < MIN_TRACK_LENGTH:
        return None
    return triangulate_tracks(scene, observations, max_error)


def _pose_by_depth(observations, log_focal, centre, max_error, lens, depth) -> SfmState | None:
    """Register frames by the estimated depth of frame 0, then adjust cameras without it."""
    in_input = observations.frame == 0
    column, row = observations.pixel.long().unbind(-1)
    input_depth = depth[
        row.clamp(0, depth.shape[0] - 1), column.clamp(0, depth.shape[1] - 1)
    ].double()
    input_depth = torch.where(in_input, input_depth, 0.0)
    try:
        mapping = incremental_mapping(
            observations, log_focal, centre, max_error, "fixed", depth=input_depth
        )
    except InitializationError:
        return None
    others = torch.zeros_like(mapping.state.registered)
    others[0] = True
    return adjust(
        mapping.state, observations[mapping.inliers], others, lens, 0.2, mapping.sigma, steps=25
    )


def triangulate_tracks(
    scene: SfmState, observations: Observations, max_error: float
) -> PosedTracks:
    """Triangulate every track with fixed cameras.

    Args:
        scene: The cameras. Its points are replaced.
        observations: Tracks.
        max_error: Reprojection error in pixels above which an observation is inconsistent.

    Returns:
        Tracks with residuals, in registered frames.
    """
    observations = observations[scene.registered[observations.frame]]
    _, point, count = observations.point.unique(return_inverse=True, return_counts=True)
    long_tracks = count[point] >= MIN_TRACK_LENGTH
    _, point = observations.point[long_tracks].unique(return_inverse=True)
    subset = replace(observations[long_tracks], point=point)
    scene = replace(scene, points=_midpoints(scene, subset))
    others = torch.ones_like(scene.registered)
    scene = adjust(scene, subset, others, "fixed", sigma=max_error / 3, steps=8)
    local, residual = scene.reproject(subset)
    behind = local[:, 2] <= 1e-6
    residual = torch.where(behind[:, None], 10 * max_error, residual)
    return PosedTracks(scene, subset, residual, local[:, 2].clamp(min=1e-6))


def _midpoints(scene: SfmState, observations: Observations) -> Float[Tensor, "point 3"]:
    """Triangulate linearly, with a weak prior at the scene's typical distance."""
    frame = observations.frame
    focal = scene.log_focal.exp()[frame, None]
    rays = torch.cat(
        [(observations.pixel - scene.principal_point[frame]) / focal, torch.ones_like(focal)], -1
    )
    rays = (scene.rotation[frame].mT @ rays[..., None])[..., 0]
    rays = rays / rays.norm(dim=-1, keepdim=True)
    centers = scene.centers[frame]
    typical = float((scene.points.norm(dim=-1)).median())
    prior = centers + typical * rays
    eye = torch.eye(3, dtype=rays.dtype)
    projection = eye - rays[:, :, None] * rays[:, None]
    projection = projection + 1e-4 * eye
    target = (projection @ centers[..., None])[..., 0] + 1e-4 * (prior - centers)
    count = int(observations.point.max()) + 1
    square = rays.new_zeros(count, 3, 3).index_add_(0, observations.point, projection)
    total = rays.new_zeros(count, 3).index_add_(0, observations.point, target)
    return torch.linalg.solve(square, total)


def frame_effects(
    values: Float[Tensor, "observation"],
    observations: Observations,
    frames: int,
    rounds: int = 10,
) -> Float[Tensor, "frame"]:
    """Split values into an effect of the frame and one of the track, by median polish.

    Args:
        values: One number per observation. NaN is left out.
        observations: Tracks.
        frames: Number of frames.
        rounds: Number of sweeps.

    Returns:
        Effect of each frame relative to frame 0. NaN for frames that no tracks connect with it.
    """
    good = values.isfinite().numpy()
    frame = observations.frame.numpy()[good]
    track = observations.point.numpy()[good]
    residual = values.numpy()[good].astype(np.float64)
    effect = _sum_median_steps(residual, frame, track, frames)
    residual = residual - effect[frame]
    by_frame = _groups(frame)
    by_track = _groups(track)
    for _ in range(rounds):
        for _, rows in by_track:
            residual[rows] -= np.median(residual[rows])
        for number, rows in by_frame:
            median = np.median(residual[rows])
            residual[rows] -= median
            effect[number] += median
    present = np.zeros(frames, bool)
    present[np.unique(frame)] = True
    effect = np.where(present, effect - effect[0], np.nan)
    return torch.from_numpy(effect)


def _sum_median_steps(
    values: np.ndarray, frame: np.ndarray, track: np.ndarray, frames: int
) -> np.ndarray:
    """Sum the median changes from frame to frame, to initialise the median polish."""
    table = np.full((frames, int(track.max(initial=-1)) + 1), np.nan)
    table[frame, track] = values
    effect = np.zeros(frames)
    for number in range(1, frames):
        step = table[number] - table[number - 1]
        step = step[np.isfinite(step)]
        effect[number] = effect[number - 1] + (np.median(step) if len(step) else 0.0)
    return effect


def _groups(labels: np.ndarray) -> list[tuple[int, np.ndarray]]:
    order = np.argsort(labels, kind="stable")
    names, start = np.unique(labels[order], return_index=True)
    return list(zip(names.tolist(), np.split(order, start[1:]), strict=True))


def smooth_part(
    pixel: Float[Tensor, "point 2"],
    residual: Float[Tensor, "point 2"],
    size: tuple[int, int],
    waves: int = 4,
    weight: Bool[Tensor, "point"] | None = None,
) -> Float[Tensor, "point 2"]:
    """Fit a smooth field to residuals, a sum of cosines.

    Args:
        pixel: Positions of the residuals.
        residual: Residuals in pixels.
        size: Width and height in pixels.
        waves: Number of frequencies per axis, 0 to `waves` - 1 half waves.
        weight: Points to use. All if None.

    Returns:
        The field at the points.
    """
    x = torch.pi * pixel[:, 0] / size[0]
    y = torch.pi * pixel[:, 1] / size[1]
    order = torch.arange(waves, dtype=pixel.dtype)
    cos_y = (y[:, None] * order).cos()
    cos_x = (x[:, None] * order).cos()
    basis = (cos_y[:, :, None] * cos_x[:, None]).flatten(1)
    count = torch.ones(len(pixel), dtype=pixel.dtype) if weight is None else weight.to(pixel.dtype)
    ridge = 1e-2 * count.sum() * torch.eye(basis.shape[1], dtype=pixel.dtype)
    for _ in range(5):
        weighted = basis * count[:, None]
        field = torch.linalg.solve(weighted.T @ basis + ridge, weighted.T @ residual)
        error = (residual - basis @ field).norm(dim=-1)
        sigma = error[count > 0].median().clamp(min=0.05)
        robust = 1 / (1 + (error / (2 * sigma)).square())
        count = robust if weight is None else robust * weight
    return basis @ field
