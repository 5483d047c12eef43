"""Which frames are worth comparing, from what was planned."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lift.geometry import inside, project, unproject
from lift.types import Cameras, Trajectory

GRID = (8, 6)
"""Rays across and down that stand for what a frame sees."""
DEPTHS = (0.6, 1.0, 2.0)
"""Where they end, in units of the typical depth."""
ASKANCE = 60.0
"""Degrees between two rays from which on a point looks too different."""
LAGS = (1, 2, 4, 8)
"""Frames along a branch that each is compared with."""


def overlap(cameras: Cameras, typical: float) -> Float[Tensor, "view view"]:
    """Share of what one planned camera sees, on shells around the typical depth, that another sees too, from a like direction; the smaller of
    both ways.
    """
    small = cameras.resized(*GRID)
    near = torch.cos(torch.deg2rad(torch.tensor(ASKANCE)))
    centers = small.centers
    away = (
        unproject(torch.ones(len(small), GRID[1], GRID[0]).to(centers), small).flatten(1, 2)
        - centers[:, None]
    )
    depths = typical * away.new_tensor(DEPTHS)[:, None, None]
    rows = []
    for view in range(len(small)):
        points = (centers[view] + depths * away[view]).flatten(0, 1)
        pixels, z = project(points, small)
        rays = torch.nn.functional.normalize(points - centers[:, None], dim=-1)
        alike = (rays * rays[view]).sum(-1) > near
        rows.append((inside(pixels, small) & (z > 0) & alike).float().mean(-1))
    share = torch.stack(rows)
    return torch.minimum(share, share.T)


def select(
    trajectory: Trajectory, typical: float, exhaustive: int, closures: int = 6, least: float = 0.15
) -> Int[Tensor, "pair 2"]:
    """Pairs of frames, lower index first, as many as grow with the frames.

    Up to `exhaustive` frames: all whose planned overlap is at least `least`. Beyond: each frame with those LAGS before it in the tree, with the
    input, and with the frame of each of `closures` other clips that it shares most with, if that is at least `least`.
    """
    share = overlap(trajectory.cameras, typical)
    count, before = len(share), continued(trajectory)
    if count <= exhaustive:
        chosen = (share >= least).triu(1)
    else:
        chosen = torch.zeros(count, count, dtype=torch.bool, device=share.device)
        chosen[0, 1:] = share[0, 1:] >= least
        for view in range(1, count):
            line = [view]  # and what comes before it, along its branch of the tree
            while line[-1] and len(line) <= max(LAGS):
                line.append(before[line[-1]])
            for lag in LAGS:
                if lag < len(line):
                    chosen[line[lag], view] = True
            found = []
            for span in trajectory.spans:
                if view not in span:
                    best = span[int(share[view, span.start : span.stop].argmax())]
                    found.append((float(share[view, best]), best))
            for much, best in sorted(found, reverse=True)[:closures]:
                chosen[min(best, view), max(best, view)] |= much >= least
    for view in range(1, count):  # what follows on one another is always compared
        chosen[before[view], view] = True
    return chosen.triu(1).nonzero()


SEQUENCE_LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Frames back in time that a frame of a sequence without a plan is compared with."""


def compared(
    trajectory: Trajectory, typical: float, exhaustive: int, closures: int, planned: bool
) -> Int[Tensor, "pair 2"]:
    """Pairs of frames to match, lower index first.

    Args:
        trajectory: One camera per frame.
        typical: Typical depth of the input, in units of the world.
        exhaustive: Up to this number of frames, all pairs are matched if there is no plan.
        closures: Number of frames far away in time that each frame is matched with.
        planned: Whether the cameras of the trajectory are a plan that can be believed, or known.

    Returns:
        Frame indices of the pairs.
    """
    count = len(trajectory.cameras)
    if trajectory.hint == "known" and count > exhaustive:
        return _overlapping(trajectory, typical)
    if planned:
        return select(trajectory, typical, exhaustive, closures)
    if count <= exhaustive or trajectory.hint == "unordered":
        return torch.ones(count, count).triu(1).nonzero()
    return _sequential(trajectory, closures)


def _overlapping(
    trajectory: Trajectory, typical: float, least: float = 0.15
) -> Int[Tensor, "pair 2"]:
    """Pairs of known cameras by overlap alone, since photographs come in any order.

    Each is paired with those that share most with it and, ever more sparsely, with those that share
    less, whose parallax is larger.
    """
    share = overlap(trajectory.cameras, typical)
    chosen = torch.zeros(share.shape, dtype=torch.bool, device=share.device)
    share.fill_diagonal_(-1)
    best = share.sort(dim=1, descending=True, stable=True)
    for rank in SEQUENCE_LAGS:
        if rank < len(share):
            there = best.values[:, rank - 1] >= least
            chosen[there.nonzero()[:, 0], best.indices[there, rank - 1]] = True
    return (chosen | chosen.T).triu(1).nonzero()


def _sequential(trajectory: Trajectory, closures: int) -> Int[Tensor, "pair 2"]:
    """Pairs of a sequence: close in time along each clip, and with keyframes spread over all of it."""
    count = len(trajectory.cameras)
    chosen = torch.zeros(count, count, dtype=torch.bool)
    before = continued(trajectory)
    for frame in range(1, count):
        line = [frame]
        while line[-1] and len(line) <= max(SEQUENCE_LAGS):
            line.append(before[line[-1]])
        for lag in SEQUENCE_LAGS:
            if lag < len(line):
                chosen[line[lag], frame] = True
    for key in range(0, count, max(1, count // (closures + 1))):
        chosen[:key, key] = True
        chosen[key, key + 1 :] = True
    return chosen.triu(1).nonzero()


def continued(trajectory: Trajectory) -> list[int]:
    """The frame that each frame goes on from; the input goes on from itself."""
    before = [0]
    for clip, span in zip(trajectory.clips, trajectory.spans, strict=True):
        before += [own - 1 if own > span.start else clip.source for own in span]
    return before
