"""What a frame of a clip shows to be wrong: displacement, colour, sharpness, camera."""

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
from clips import Images
from jaxtyping import Float
from torch import Tensor
from tracking import REACH, PosedTracks, smooth_part, two_way

from lift.geometry import rotation_angle
from lift.poses.sfm.state import Observations, SfmState
from lift.synthetic.corruptions import blur_picture
from lift.types import Cameras

WIDTH = 384
"""Width of the picture, in pixels, that lengths are for."""
SIGMAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)
"""Blurs in pixels that frame 0 is given, to read a loss of gradient energy as a blur."""


def geometric(
    posed: PosedTracks, frames: int, size: tuple[int, int], unit: float
) -> dict[str, Float[Tensor, "frame"]]:
    """Summarise by frame what the best cameras leave of the tracks' displacements.

    Args:
        found: Tracks with residuals.
        frames: Number of frames.
        size: Width and height in pixels.
        unit: Pixels at WIDTH in one pixel.

    Returns:
        Median and 90 % quantile of the displacement; root mean square, along one axis, of its
        smooth part and of the rest; share of inconsistent observations. NaN where nothing is known.
    """
    names = ("residual", "residual_90", "smooth", "fine", "moving")
    out = {name: torch.full((frames,), math.nan) for name in names}
    for frame in range(frames):
        in_frame = posed.observations.frame == frame
        if int(in_frame.sum()) < 30:
            continue
        pixel = posed.observations.pixel[in_frame]
        residual = posed.residual[in_frame]
        length = unit * residual.norm(dim=-1)
        field = smooth_part(pixel, residual, size)
        consistent = length < REACH
        error = unit * (residual - field).norm(dim=-1)
        out["residual"][frame] = length.median()
        out["residual_90"][frame] = length.quantile(0.9)
        out["smooth"][frame] = unit * field[consistent].square().mean().sqrt()
        out["fine"][frame] = error.median() / math.sqrt(2 * math.log(2))
        out["moving"][frame] = 100 * (~consistent).double().mean()
    return out


def photometric(
    images: Images, observations: Observations, posed: PosedTracks | None
) -> dict[str, Float[Tensor, "frame"]]:
    """Measure colour and sharpness at tracked points, relative to frame 0.

    A value is split into one part of the track and one of the frame, by medians. So frames that
    share no track with frame 0 are reached through others.

    Args:
        images: Frames.
        observations: Tracks.
        found: Posed tracks, which tell how much nearer the camera came; None if unknown.

    Returns:
        Change of mean brightness, of the channels' balance (mean of absolute values) and of
        saturation in %; equivalent blur in pixels at WIDTH, negative for a gain of sharpness.
    """
    frames, width = len(images), images.shape[2]
    color = _sample_tracks(images, observations, lambda image: cv2.blur(image, (7, 7)))
    grey = color.mean(-1)
    usable = (grey > 0.04) & (color.amax(-1) < 0.96)
    gain = two_way(torch.where(usable, grey.log(), math.nan), observations, frames)
    log_ratios = (color / grey[:, None]).clamp(min=1e-3).log()
    log_ratios = torch.where(usable[:, None], log_ratios, math.nan)
    channels = [two_way(log_ratios[:, c], observations, frames) for c in range(3)]
    chroma = (color - grey[:, None]).norm(dim=-1) / grey
    vivid = usable & (chroma > 0.06)
    log_chroma = torch.where(vivid, chroma.clamp(min=1e-3).log(), math.nan)
    saturation = two_way(log_chroma, observations, frames)
    energy = _sample_tracks(images, observations, _energy)[:, 0]
    log_energy = energy.clamp(min=1e-7).log() - 2 * gain[observations.frame]
    log_energy = log_energy + _magnification(observations, posed, log_energy, frames)
    loss = two_way(log_energy, observations, frames)
    return {
        "brightness": 100 * gain.expm1(),
        "balance": 100 * torch.stack(channels).abs().mean(0),
        "saturation": 100 * saturation.expm1(),
        "blur": WIDTH / width * _equivalent_blur(images[0], observations, loss),
    }


def _sample_tracks(
    images: Images, observations: Observations, function: Callable[[np.ndarray], np.ndarray]
) -> Float[Tensor, "observation c"]:
    """Values of a filtered picture at the observations, bilinear."""
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
    """Squared gradient of the grey picture around a pixel."""
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
    """What has to be added to the logarithm of gradient energy where the camera came nearer.

    How strongly energy depends on the distance is fitted within frames, where near and far points
    differ.
    """
    if posed is None:
        return torch.zeros(len(observations))
    index_of = {position: index for index, position in enumerate(_positions(posed.observations))}
    index = torch.tensor([index_of.get(position, -1) for position in _positions(observations)])
    log_inverse_depth = torch.where(index >= 0, -posed.depth[index.clamp(min=0)].log(), math.nan)
    a = _less_means(log_inverse_depth, observations, frames)
    b = _less_means(
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
    """Frame and pixel, which tell observations apart."""
    return list(zip(observations.frame.tolist(), *observations.pixel.T.tolist(), strict=True))


def _less_means(values: Tensor, observations: Observations, frames: int) -> Tensor:
    """Values less the means of their tracks and frames."""
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
    """The Gaussian blur, pixels, that takes as much gradient energy from frame 0."""
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
    """Compare found cameras with the requested ones.

    Both begin at frame 0's camera; the found path is scaled by least squares.

    Args:
        scene: Found cameras; frames that were not placed get NaN.
        requested: The requested cameras.

    Returns:
        Rotation error in degrees; position error as a share of the length of the requested path
        from the first camera to the farthest; angle in degrees between both directions.
    """
    if not bool(scene.registered[0]):
        return {}
    turn = scene.rotation @ scene.rotation[0].T
    displacement = (scene.rotation[0] @ (scene.centers - scene.centers[0]).T).T
    true = requested.to(torch.float64)
    true_turn = true.world_to_camera[:, :3, :3] @ true.world_to_camera[0, :3, :3].T
    true_displacement = (true.world_to_camera[0, :3, :3] @ (true.centers - true.centers[0]).T).T
    registered = scene.registered
    scale = (displacement * true_displacement)[registered].sum() / displacement[
        registered
    ].square().sum().clamp(min=1e-12)
    length = true_displacement.norm(dim=-1).max().clamp(min=1e-12)
    nothing = torch.where(registered, 0.0, math.nan)
    angle = (
        torch.cosine_similarity(displacement * scale.sign(), true_displacement, dim=-1)
        .clamp(-1, 1)
        .acos()
    )
    distant = true_displacement.norm(dim=-1) > 0.05 * length
    return {
        "rotation": rotation_angle(turn, true_turn) + nothing,
        "translation": (scale * displacement - true_displacement).norm(dim=-1) / length + nothing,
        "direction": torch.where(distant, torch.rad2deg(angle), math.nan) + nothing,
    }
