"""Select sharp and evenly spaced frames of a long video or a large folder."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

_FLOW_SIDE = 128
"""Longer side in pixels of the frames for optical flow."""
_TIME_WEIGHT = 0.3
"""Weight of time in a frame's position. The rest is the weight of motion."""
_MIN_RELATIVE_SHARPNESS = 0.9
"""Minimum sharpness of a selected frame, relative to the sharpest frame of its bin."""


@dataclass(frozen=True)
class FrameScores:
    """Sharpness and motion of candidate frames, one number for each frame."""

    sharpness: tuple[float, ...]
    """Standard deviation of the Laplacian divided by that of the frame."""
    motion: tuple[float, ...]
    """Mean optical flow since the previous frame, divided by the longer side; 0 for frame 0."""


def score_frames(
    frames: Iterable[UInt8[np.ndarray, "height width"]], ordered: bool = True
) -> FrameScores:
    """Measure sharpness and motion of small grey frames.

    Args:
        frames: The frames, a few hundred pixels large. They are not kept in memory.
        ordered: Whether the frames follow one another in time. If not, the motion is 0.

    Returns:
        The scores.
    """
    preset = cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST
    flow = cv2.DISOpticalFlow_create(preset)  # pyright: ignore[reportAttributeAccessIssue]
    sharpness: list[float] = []
    motion: list[float] = []
    previous = None
    for frame in frames:
        detail = cv2.Laplacian(frame, cv2.CV_32F)
        sharpness.append(float(detail.std() / max(float(frame.std()), 1.0)))
        small = _shrink(frame) if ordered else None
        if previous is None or small is None:
            motion.append(0.0)
        else:
            displacement = flow.calc(previous, small, None)
            motion.append(float(np.linalg.norm(displacement, axis=-1).mean()) / max(small.shape))
        previous = small
    return FrameScores(tuple(sharpness), tuple(motion))


def choose_frames(scores: FrameScores, max_count: int, required: Sequence[int] = ()) -> list[int]:
    """Select one of the sharpest frames in each bin of equal motion and time.

    Args:
        scores: Scores of all frames.
        max_count: Largest number of frames, which is the number of bins.
        required: Indices of frames that are always selected, in place of a frame of their bins.

    Returns:
        Indices of the selected frames in ascending order.
    """
    count = len(scores.sharpness)
    if count <= max_count:
        return list(range(count))
    position = _positions(scores)
    bins = np.minimum((position * max_count).astype(int), max_count - 1)
    sharpness = np.array(scores.sharpness)
    selection = set(required)
    filled_bins = {int(bins[index]) for index in required}
    for number in range(max_count):
        members = np.flatnonzero(bins == number)
        if len(members) == 0 or number in filled_bins:
            continue
        sharp = members[sharpness[members] >= _MIN_RELATIVE_SHARPNESS * sharpness[members].max()]
        offset = np.abs(position[sharp] * max_count - (number + 0.5))
        selection.add(int(sharp[int(offset.argmin())]))
    return sorted(selection)


def _positions(scores: FrameScores) -> np.ndarray:
    """Compute the position of each frame in [0, 1] from motion and time."""
    time = np.arange(len(scores.motion)) / len(scores.motion)
    cumulative_motion = np.cumsum(scores.motion)
    if cumulative_motion[-1] <= 0:
        return time
    return _TIME_WEIGHT * time + (1 - _TIME_WEIGHT) * cumulative_motion / (
        cumulative_motion[-1] * (1 + 1e-9)
    )


def _shrink(frame: UInt8[np.ndarray, "height width"]) -> np.ndarray:
    """Resize a frame for optical flow."""
    factor = _FLOW_SIDE / max(frame.shape)
    if factor >= 1:
        return frame
    height, width = frame.shape
    size = (max(16, round(width * factor)), max(16, round(height * factor)))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
