"""Split a long path into windows of views that are sampled together."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class WindowView:
    """A view of a window."""

    kind: str
    """`reference` (a picture), `anchor` (a view that bounds windows) or `frame` (a new frame)."""
    index: int
    """Its index among the views of this kind."""


Window = tuple[WindowView, ...]
"""Views that are sampled together."""


def max_new_frames(size: int, num_references: int) -> int:
    """Return how many new frames a clip can have, with one window of anchors.

    Args:
        size: Views of a window.
        num_references: Number of reference views.
    """
    one_pass = max(0, size - num_references)
    between = max(0, _views_between_anchors(size, num_references))
    return max(one_pass, (one_pass - 1) * between)


def _views_between_anchors(size: int, num_references: int) -> int:
    # As in the authors' demo: a single reference view is in no window of the second pass, several
    # are in all of them.
    return size - 2 - (num_references if num_references > 1 else 0)


def single_window(num_frames: int, num_references: int, size: int) -> Window | None:
    """Return the window of a clip that needs no anchors.

    Args:
        num_frames: New frames of the clip.
        num_references: Number of reference views.
        size: Views of a window.

    Returns:
        The reference views, then the new frames, or None if they do not fit.
    """
    if num_references + num_frames > size:
        return None
    references = [WindowView("reference", k) for k in range(num_references)]
    return _pad([*references, *(WindowView("frame", k) for k in range(num_frames))], size)


def anchor_positions(num_frames: int, num_references: int, size: int) -> list[float]:
    """Spread anchors over the new frames of a clip.

    Args:
        num_frames: New frames of the clip.
        num_references: Number of reference views.
        size: Views of a window.

    Returns:
        Positions in the clip, 1 for the first new frame and `num_frames` for the last one. As many
        as fit in a window beside the reference views.
    """
    return np.linspace(1, num_frames, size - num_references).tolist()


def anchor_window(num_anchors: int, num_references: int) -> Window:
    """Return the window of the first pass: the reference views, then all anchors.

    Args:
        num_anchors: Number of anchors.
        num_references: Number of reference views.
    """
    references = [WindowView("reference", k) for k in range(num_references)]
    return (*references, *(WindowView("anchor", k) for k in range(num_anchors)))


def windows_between(
    positions: list[float], num_frames: int, num_references: int, size: int
) -> list[Window]:
    """Return the windows of the second pass: new frames between anchors.

    Args:
        positions: Positions of the anchors, ascending.
        num_frames: New frames of the clip.
        num_references: Number of reference views. Several are part of every window.
        size: Views of a window.

    Returns:
        Windows that begin with an anchor, after the reference views. Each new frame is in one.
    """
    references = (
        [WindowView("reference", k) for k in range(num_references)] if num_references > 1 else []
    )
    ends = [*positions[1:-1], math.inf]
    between = [
        [WindowView("frame", k) for k in range(num_frames) if start <= k + 1 < end]
        for start, end in zip(positions[:-1], ends, strict=True)
    ]
    windows = []
    window = [*references, WindowView("anchor", 0)]
    for k, frames in enumerate(between):
        if len(window) + len(frames) + 1 > size:
            windows.append(_pad(window, size))
            window = [*references, WindowView("anchor", k)]
        window += [*frames, WindowView("anchor", k + 1)]
    return [*windows, _pad(window, size)]


def _pad(window: list[WindowView], size: int) -> Window:
    """Repeat the last view up to the size of a window."""
    return (*window, *[window[-1]] * (size - len(window)))


def count_windows(num_frames: int, num_references: int, size: int) -> int:
    """Return how many windows a clip takes.

    Args:
        num_frames: New frames of the clip.
        num_references: Number of reference views.
        size: Views of a window.
    """
    if single_window(num_frames, num_references, size):
        return 1
    positions = anchor_positions(num_frames, num_references, size)
    return 1 + len(windows_between(positions, num_frames, num_references, size))
