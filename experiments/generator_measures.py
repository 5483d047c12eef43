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
from lift.poses.sfm.bundle import Scene, Sightings
from lift.synthetic.corruptions import blurred
from lift.types import Cameras

WIDTH = 384
"""Width of the picture, in pixels, that lengths are for."""
SIGMAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)
"""Blurs in pixels that frame 0 is given, to read a loss of gradient energy as a blur."""


def geometric(
    found: PosedTracks, frames: int, size: tuple[int, int], unit: float
) -> dict[str, Float[Tensor, "frame"]]:
    """Summarise by frame what the best cameras leave of the tracks' displacements.

    Args:
        found: Tracks with residuals.
        frames: Number of frames.
        size: Width and height in pixels.
        unit: Pixels at WIDTH in one pixel.

    Returns:
        Median and 90 % quantile of the displacement; root mean square, along one axis, of its
        smooth part and of the rest; share of inconsistent sightings. NaN where nothing is known.
    """
    names = ("residual", "residual_90", "smooth", "fine", "moving")
    out = {name: torch.full((frames,), math.nan) for name in names}
    for frame in range(frames):
        own = found.sightings.frame == frame
        if int(own.sum()) < 30:
            continue
        pixel = found.sightings.pixel[own]
        residual = found.residual[own]
        length = unit * residual.norm(dim=-1)
        field = smooth_part(pixel, residual, size)
        consistent = length < REACH
        left = unit * (residual - field).norm(dim=-1)
        out["residual"][frame] = length.median()
        out["residual_90"][frame] = length.quantile(0.9)
        out["smooth"][frame] = unit * field[consistent].square().mean().sqrt()
        out["fine"][frame] = left.median() / math.sqrt(2 * math.log(2))
        out["moving"][frame] = 100 * (~consistent).double().mean()
    return out


def photometric(
    images: Images, sightings: Sightings, found: PosedTracks | None
) -> dict[str, Float[Tensor, "frame"]]:
    """Measure colour and sharpness at tracked points, relative to frame 0.

    A value is split into one part of the track and one of the frame, by medians. So frames that
    share no track with frame 0 are reached through others.

    Args:
        images: Frames.
        sightings: Tracks.
        found: Posed tracks, which tell how much nearer the camera came; None if unknown.

    Returns:
        Change of mean brightness, of the channels' balance (mean of absolute values) and of
        saturation in %; equivalent blur in pixels at WIDTH, negative for a gain of sharpness.
    """
    frames, width = len(images), images.shape[2]
    color = _sampled(images, sightings, lambda image: cv2.blur(image, (7, 7)))
    grey = color.mean(-1)
    usable = (grey > 0.04) & (color.amax(-1) < 0.96)
    gain = two_way(torch.where(usable, grey.log(), math.nan), sightings, frames)
    shares = (color / grey[:, None]).clamp(min=1e-3).log()
    shares = torch.where(usable[:, None], shares, math.nan)
    channels = [two_way(shares[:, c], sightings, frames) for c in range(3)]
    chroma = (color - grey[:, None]).norm(dim=-1) / grey
    vivid = usable & (chroma > 0.06)
    log_chroma = torch.where(vivid, chroma.clamp(min=1e-3).log(), math.nan)
    saturation = two_way(log_chroma, sightings, frames)
    energy = _sampled(images, sightings, _energy)[:, 0]
    log_energy = energy.clamp(min=1e-7).log() - 2 * gain[sightings.frame]
    log_energy = log_energy + _magnification(sightings, found, log_energy, frames)
    loss = two_way(log_energy, sightings, frames)
    return {
        "brightness": 100 * gain.expm1(),
        "balance": 100 * torch.stack(channels).abs().mean(0),
        "saturation": 100 * saturation.expm1(),
        "blur": WIDTH / width * _equivalent_blur(images[0], sightings, loss),
    }


def _sampled(
    images: Images, sightings: Sightings, function: Callable[[np.ndarray], np.ndarray]
) -> Float[Tensor, "sighting c"]:
    """Values of a filtered picture at the sightings, bilinear."""
    out = None
    for frame in range(len(images)):
        own = sightings.frame == frame
        plane = function(images[frame].numpy().astype(np.float32) / 255)
        plane = plane if plane.ndim == 3 else plane[..., None]
        at = (sightings.pixel[own] - 0.5).float().numpy()
        values = _bilinear(plane, at)
        out = torch.zeros(len(sightings), values.shape[-1]) if out is None else out
        out[own] = values
    assert out is not None
    return out


def _bilinear(plane: np.ndarray, at: np.ndarray) -> Float[Tensor, "point c"]:
    if not len(at):
        return torch.zeros(0, plane.shape[-1])
    parts = [at[start : start + 30_000] for start in range(0, len(at), 30_000)]
    found = [
        cv2.remap(plane, part[:, None, 0].copy(), part[:, None, 1].copy(), cv2.INTER_LINEAR)
        for part in parts
    ]
    return torch.from_numpy(np.concatenate(found).reshape(len(at), plane.shape[-1]))


def _energy(image: np.ndarray) -> np.ndarray:
    """Squared gradient of the grey picture around a pixel."""
    grey = image.mean(-1)
    across = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 8)
    down = cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=1 / 8)
    return cv2.GaussianBlur(across**2 + down**2, (0, 0), 3)


def _magnification(
    sightings: Sightings, found: PosedTracks | None, energy: Float[Tensor, "sighting"], frames: int
) -> Float[Tensor, "sighting"]:
    """What has to be added to the logarithm of gradient energy where the camera came nearer.

    How strongly energy depends on the distance is fitted within frames, where near and far points
    differ.
    """
    if found is None:
        return torch.zeros(len(sightings))
    known = {place: index for index, place in enumerate(_places(found.sightings))}
    index = torch.tensor([known.get(place, -1) for place in _places(sightings)])
    near = torch.where(index >= 0, -found.depth[index.clamp(min=0)].log(), math.nan)
    a = _less_means(near, sightings, frames)
    b = _less_means(torch.where(near.isfinite(), energy.double(), math.nan), sightings, frames)
    both = a.isfinite() & b.isfinite() & (a.abs() < 0.5)
    if int(both.sum()) < 100 or float(a[both].square().mean()) < 1e-4:
        return torch.zeros(len(sightings))
    slope = float((a[both] * b[both].clamp(-1, 1)).sum() / a[both].square().sum())
    return torch.where(near.isfinite(), -min(max(slope, -2.0), 0.0) * near, math.nan).float()


def _places(sightings: Sightings) -> list[tuple[int, float, float]]:
    """Frame and pixel, which tell sightings apart."""
    return list(zip(sightings.frame.tolist(), *sightings.pixel.T.tolist(), strict=True))


def _less_means(values: Tensor, sightings: Sightings, frames: int) -> Tensor:
    """Values less the means of their tracks and frames."""
    left = values.clone()
    good = left.isfinite()
    for _ in range(10):
        for index in (sightings.point, sightings.frame):
            count = torch.bincount(index[good]).clamp(min=1)
            total = torch.zeros(len(count), dtype=left.dtype).index_add_(0, index[good], left[good])
            left[good] = left[good] - (total / count)[index[good]]
    return left


def _equivalent_blur(
    first: Tensor, sightings: Sightings, loss: Float[Tensor, "frame"]
) -> Float[Tensor, "frame"]:
    """The Gaussian blur, pixels, that takes as much gradient energy from frame 0."""
    own = sightings.frame == 0
    at = (sightings.pixel[own] - 0.5).float().numpy()
    image = first.numpy().astype(np.float32) / 255
    curve = []
    for sigma in SIGMAS:
        soft = blurred(torch.from_numpy(image), sigma).numpy()
        curve.append(_bilinear(_energy(soft)[..., None], at)[:, 0].clamp(min=1e-7).log())
    drop = np.array([float((level - curve[0]).median()) for level in curve])
    values = loss.numpy()
    sigma = np.interp(-np.abs(values), drop[::-1], np.array(SIGMAS)[::-1])
    return torch.from_numpy(np.where(values <= 0, sigma, -sigma))


def camera_errors(scene: Scene, requested: Cameras) -> dict[str, Float[Tensor, "frame"]]:
    """Compare found cameras with the requested ones.

    Both begin at frame 0's camera; the found path is scaled by least squares.

    Args:
        scene: Found cameras; frames that were not placed get NaN.
        requested: The requested cameras.

    Returns:
        Rotation error in degrees; position error as a share of the length of the requested path
        from the first camera to the farthest; angle in degrees between both directions.
    """
    if not bool(scene.placed[0]):
        return {}
    turn = scene.rotation @ scene.rotation[0].T
    moved = (scene.rotation[0] @ (scene.centers - scene.centers[0]).T).T
    true = requested.to(torch.float64)
    true_turn = true.world_to_camera[:, :3, :3] @ true.world_to_camera[0, :3, :3].T
    true_moved = (true.world_to_camera[0, :3, :3] @ (true.centers - true.centers[0]).T).T
    kept = scene.placed
    scale = (moved * true_moved)[kept].sum() / moved[kept].square().sum().clamp(min=1e-12)
    length = true_moved.norm(dim=-1).max().clamp(min=1e-12)
    nothing = torch.where(kept, 0.0, math.nan)
    angle = torch.cosine_similarity(moved * scale.sign(), true_moved, dim=-1).clamp(-1, 1).acos()
    far = true_moved.norm(dim=-1) > 0.05 * length
    return {
        "rotation": rotation_angle(turn, true_turn) + nothing,
        "translation": (scale * moved - true_moved).norm(dim=-1) / length + nothing,
        "direction": torch.where(far, torch.rad2deg(angle), math.nan) + nothing,
    }
