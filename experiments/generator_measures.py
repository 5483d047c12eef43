"""Measure the errors of a clip's frames: residuals, colour, sharpness and cameras."""

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
from clips import Images
from jaxtyping import Float
from torch import Tensor
from tracking import MAX_RESIDUAL, PosedTracks, frame_effects, smooth_part

from lift.geometry import rotation_angle
from lift.poses.sfm.state import Observations, SfmState
from lift.synthetic.corruptions import blur_picture
from lift.types import Cameras

WIDTH = 384
"""Width in pixels of the picture that lengths are given for."""
SIGMAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)
"""Blurs of frame 0, in pixels, by which a loss of gradient energy is expressed as a blur."""

GEOMETRIC = (
    "residual_px",
    "residual_p90_px",
    "smooth_residual_px",
    "fine_residual_px",
    "inconsistent",
)
"""Names of the measures of the residuals."""


def geometric(
    posed: PosedTracks, frames: int, size: tuple[int, int], unit: float
) -> dict[str, Float[Tensor, "frame"]]:
    """Summarise the residuals of each frame.

    Args:
        posed: Tracks with residuals.
        frames: Number of frames.
        size: Width and height in pixels.
        unit: Factor from pixels to pixels at WIDTH.

    Returns:
        Median and 90 % quantile of the residual, root mean square of its smooth and of its fine
        part along one axis, and percentage of inconsistent observations. NaN where a frame has too
        few observations.
    """
    out = {name: torch.full((frames,), math.nan) for name in GEOMETRIC}
    for frame in range(frames):
        in_frame = posed.observations.frame == frame
        if int(in_frame.sum()) < 30:
            continue
        pixel = posed.observations.pixel[in_frame]
        residual = posed.residual[in_frame]
        length = unit * residual.norm(dim=-1)
        field = smooth_part(pixel, residual, size)
        consistent = length < MAX_RESIDUAL
        error = unit * (residual - field).norm(dim=-1)
        out["residual_px"][frame] = length.median()
        out["residual_p90_px"][frame] = length.quantile(0.9)
        out["smooth_residual_px"][frame] = unit * field[consistent].square().mean().sqrt()
        out["fine_residual_px"][frame] = error.median() / math.sqrt(2 * math.log(2))
        out["inconsistent"][frame] = 100 * (~consistent).double().mean()
    return out


def photometric(
    images: Images, observations: Observations, posed: PosedTracks | None
) -> dict[str, Float[Tensor, "frame"]]:
    """Measure colour and sharpness at tracked points, relative to frame 0.

    Values are split into an effect of the track and one of the frame, by medians. So frames that
    share no track with frame 0 are compared through other frames.

    Args:
        images: Frames.
        observations: Tracks.
        posed: Posed tracks, which show how much nearer the camera came. None if unknown.

    Returns:
        Changes of mean brightness, of white balance (mean over the channels) and of saturation, in
        percent. Equivalent blur in pixels at WIDTH, negative if a frame is sharper.
    """
    frames = len(images)
    width = images.shape[2]
    color = _sample_tracks(images, observations, lambda image: cv2.blur(image, (7, 7)))
    grey = color.mean(-1)
    usable = (grey > 0.04) & (color.amax(-1) < 0.96)
    gain = frame_effects(torch.where(usable, grey.log(), math.nan), observations, frames)
    log_ratios = (color / grey[:, None]).clamp(min=1e-3).log()
    log_ratios = torch.where(usable[:, None], log_ratios, math.nan)
    channels = [frame_effects(log_ratios[:, c], observations, frames) for c in range(3)]
    chroma = (color - grey[:, None]).norm(dim=-1) / grey
    vivid = usable & (chroma > 0.06)
    log_chroma = torch.where(vivid, chroma.clamp(min=1e-3).log(), math.nan)
    saturation = frame_effects(log_chroma, observations, frames)
    energy = _sample_tracks(images, observations, _energy)[:, 0]
    log_energy = energy.clamp(min=1e-7).log() - 2 * gain[observations.frame]
    log_energy = log_energy + _magnification(observations, posed, log_energy, frames)
    loss = frame_effects(log_energy, observations, frames)
    return {
        "brightness": 100 * gain.expm1(),
        "white_balance": 100 * torch.stack(channels).abs().mean(0),
        "saturation": 100 * saturation.expm1(),
        "blur_px": WIDTH / width * _equivalent_blur(images[0], observations, loss),
    }


def _sample_tracks(
    images: Images, observations: Observations, function: Callable[[np.ndarray], np.ndarray]
) -> Float[Tensor, "observation c"]:
    """Sample a filtered picture at the observations, bilinearly."""
    out = None
    for frame in range(len(images)):
        in_frame = observations.frame == frame
        plane = function(images[frame].numpy().astype(np.float32) / 255)
        plane = plane if plane.ndim == 3 else plane[..., None]
        at = (observations.pixel[in_frame] - 0.5).float().numpy()
        values = _bilinear(plane, at)
        out = torch.zeros(len(observations), values.shape[-1]) if out is None else out
        out[in_frame] = values
    assert out is not None
    return out


def _bilinear(plane: np.ndarray, at: np.ndarray) -> Float[Tensor, "point c"]:
    if not len(at):
        return torch.zeros(0, plane.shape[-1])
    parts = [at[start : start + 30_000] for start in range(0, len(at), 30_000)]
    samples = [
        cv2.remap(plane, part[:, None, 0].copy(), part[:, None, 1].copy(), cv2.INTER_LINEAR)
        for part in parts
    ]
    return torch.from_numpy(np.concatenate(samples).reshape(len(at), plane.shape[-1]))


def _energy(image: np.ndarray) -> np.ndarray:
    """Average the squared gradient of the grey picture around each pixel."""
    grey = image.mean(-1)
    gradient_x = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 8)
    gradient_y = cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=1 / 8)
    return cv2.GaussianBlur(gradient_x**2 + gradient_y**2, (0, 0), 3)


def _magnification(
    observations: Observations,
    posed: PosedTracks | None,
    energy: Float[Tensor, "observation"],
    frames: int,
) -> Float[Tensor, "observation"]:
    """Compute the correction of the logarithm of gradient energy for the camera's distance.

    The dependence of the energy on the distance is fitted within frames, by near and far points.
    """
    if posed is None:
        return torch.zeros(len(observations))
    index_of = {position: index for index, position in enumerate(_positions(posed.observations))}
    index = torch.tensor([index_of.get(position, -1) for position in _positions(observations)])
    log_inverse_depth = torch.where(index >= 0, -posed.depth[index.clamp(min=0)].log(), math.nan)
    a = _subtract_means(log_inverse_depth, observations, frames)
    b = _subtract_means(
        torch.where(log_inverse_depth.isfinite(), energy.double(), math.nan), observations, frames
    )
    valid = a.isfinite() & b.isfinite() & (a.abs() < 0.5)
    if int(valid.sum()) < 100 or float(a[valid].square().mean()) < 1e-4:
        return torch.zeros(len(observations))
    slope = float((a[valid] * b[valid].clamp(-1, 1)).sum() / a[valid].square().sum())
    return torch.where(
        log_inverse_depth.isfinite(), -min(max(slope, -2.0), 0.0) * log_inverse_depth, math.nan
    ).float()


def _positions(observations: Observations) -> list[tuple[int, float, float]]:
    """List frame and pixel of each observation, which identify it."""
    return list(zip(observations.frame.tolist(), *observations.pixel.T.tolist(), strict=True))


def _subtract_means(values: Tensor, observations: Observations, frames: int) -> Tensor:
    """Subtract the means of tracks and frames from values."""
    residual = values.clone()
    good = residual.isfinite()
    for _ in range(10):
        for index in (observations.point, observations.frame):
            count = torch.bincount(index[good]).clamp(min=1)
            total = torch.zeros(len(count), dtype=residual.dtype).index_add_(
                0, index[good], residual[good]
            )
            residual[good] = residual[good] - (total / count)[index[good]]
    return residual


def _equivalent_blur(
    input_image: Tensor, observations: Observations, loss: Float[Tensor, "frame"]
) -> Float[Tensor, "frame"]:
    """Find the blur of frame 0, in pixels, that loses as much gradient energy as each frame."""
    in_input = observations.frame == 0
    at = (observations.pixel[in_input] - 0.5).float().numpy()
    image = input_image.numpy().astype(np.float32) / 255
    curve = []
    for sigma in SIGMAS:
        soft = blur_picture(torch.from_numpy(image), sigma).numpy()
        curve.append(_bilinear(_energy(soft)[..., None], at)[:, 0].clamp(min=1e-7).log())
    drop = np.array([float((level - curve[0]).median()) for level in curve])
    values = loss.numpy()
    sigma = np.interp(-np.abs(values), drop[::-1], np.array(SIGMAS)[::-1])
    return torch.from_numpy(np.where(values <= 0, sigma, -sigma))


def camera_errors(scene: SfmState, requested: Cameras) -> dict[str, Float[Tensor, "frame"]]:
    """Compare the estimated cameras with the requested ones.

    Both paths begin at frame 0's camera. The estimated path is scaled by least squares.

    Args:
        scene: Estimated cameras. Frames that are not registered get NaN.
        requested: The requested cameras.

    Returns:
        Rotation error in degrees, position error as a fraction of the distance from the first
        requested camera to the farthest, and the angle in degrees between both directions.
    """
    if not bool(scene.registered[0]):
        return {}
    rotation = scene.rotation @ scene.rotation[0].T
    displacement = (scene.rotation[0] @ (scene.centers - scene.centers[0]).T).T
    true = requested.to(torch.float64)
    true_rotation = true.world_to_camera[:, :3, :3] @ true.world_to_camera[0, :3, :3].T
    true_displacement = (true.world_to_camera[0, :3, :3] @ (true.centers - true.centers[0]).T).T
    registered = scene.registered
    scale = (displacement * true_displacement)[registered].sum() / displacement[
        registered
    ].square().sum().clamp(min=1e-12)
    length = true_displacement.norm(dim=-1).max().clamp(min=1e-12)
    unregistered = torch.where(registered, 0.0, math.nan)
    angle = (
        torch.cosine_similarity(displacement * scale.sign(), true_displacement, dim=-1)
        .clamp(-1, 1)
        .acos()
    )
    distant = true_displacement.norm(dim=-1) > 0.05 * length
    return {
        "rotation_error_deg": rotation_angle(rotation, true_rotation) + unregistered,
        "position_error": (scale * displacement - true_displacement).norm(dim=-1) / length
        + unregistered,
        "direction_error_deg": torch.where(distant, torch.rad2deg(angle), math.nan) + unregistered,
    }
