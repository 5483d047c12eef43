"""Which frames of a long video or a large folder are used: sharp ones, well spread."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

_FLOW_SIDE = 128
"""Longer side in pixels of the frames whose motion is measured."""
_TIME_WEIGHT = 0.3
"""Share of time, as opposed to motion, in the length that bins divide evenly."""
_NEARLY_SHARPEST = 0.9
"""Of the frames at least this share as sharp as their bin's sharpest, the middle one is taken."""


@dataclass(frozen=True)
class FrameScores:
    """What is known of the frames that one can choose from, one number each."""

    sharpness: tuple[float, ...]
    """Share of fine detail in the frame's contrast."""
    motion: tuple[float, ...]
    """Mean optical flow since the frame before, as a share of the longer side; the first has 0."""


def score_frames(
    frames: Iterable[UInt8[np.ndarray, "height width"]], ordered: bool = True
) -> FrameScores:
    """Measure sharpness and motion of small grey frames, which are not kept.

    Args:
        frames: The frames, a few hundred pixels large.
        ordered: Whether they follow one another in time; else motion is taken to be even.

    Returns:
        The scores.
    """
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    sharpness: list[float] = []
    motion: list[float] = []
    before = None
    for frame in frames:
        detail = cv2.Laplacian(frame, cv2.CV_32F)
        sharpness.append(float(detail.std() / max(float(frame.std()), 1.0)))
        small = _small(frame) if ordered else None
        if before is None or small is None:
            motion.append(0.0)
        else:
            moved = flow.calc(before, small, None)
            motion.append(float(np.linalg.norm(moved, axis=-1).mean()) / max(small.shape))
        before = small
    return FrameScores(tuple(sharpness), tuple(motion))


def choose_frames(scores: FrameScores, most: int, kept: Sequence[int] = ()) -> list[int]:
    """Choose frames: one of the sharpest in each of `most` bins of equal motion and time.

    Args:
        scores: Of all frames.
        most: How many to choose, at most.
        kept: Indices of frames that are chosen in any case, instead of those of their bins.

    Returns:
        Indices of the chosen frames, rising.
    """
    count = len(scores.sharpness)
    if count <= most:
        return list(range(count))
    position = _positions(scores)
    bins = np.minimum((position * most).astype(int), most - 1)
    sharpness = np.array(scores.sharpness)
    taken = set(kept)
    filled = {int(bins[index]) for index in kept}
    for number in range(most):
        members = np.flatnonzero(bins == number)
        if len(members) == 0 or number in filled:
            continue
        sharp = members[sharpness[members] >= _NEARLY_SHARPEST * sharpness[members].max()]
        middle = np.abs(position[sharp] * most - (number + 0.5))
        taken.add(int(sharp[int(middle.argmin())]))
    return sorted(taken)


def _positions(scores: FrameScores) -> np.ndarray:
    """Where each frame lies between 0 and 1, by motion and time together."""
    time = np.arange(len(scores.motion)) / len(scores.motion)
    moved = np.cumsum(scores.motion)
    if moved[-1] <= 0:
        return time
    return _TIME_WEIGHT * time + (1 - _TIME_WEIGHT) * moved / (moved[-1] * (1 + 1e-9))


def _small(frame: UInt8[np.ndarray, "height width"]) -> np.ndarray:
    factor = _FLOW_SIDE / max(frame.shape)
    if factor >= 1:
        return frame
    height, width = frame.shape
    size = (max(16, round(width * factor)), max(16, round(height * factor)))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
