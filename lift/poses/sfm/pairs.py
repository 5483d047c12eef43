"""Which pairs of frames to match."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from lift.geometry import inside, project, unproject
from lift.types import Cameras, Trajectory

GRID = (8, 6)
"""Number of rays across and down that represent a frame's view."""
DEPTHS = (0.6, 1.0, 2.0)
"""Depths of the points on these rays, in units of the typical depth."""
MAX_VIEW_ANGLE = 60.0
"""Angle between two rays, in degrees, above which a point looks too different to match."""
MIN_OVERLAP = 0.15
"""Overlap from which on two frames are matched."""
TREE_LAGS = (1, 2, 4, 8)
"""Distances along a planned branch at which frames are matched."""
SEQUENCE_LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Distances in time at which frames of a sequence without a plan are matched."""


def view_overlap(cameras: Cameras, typical: float) -> Float[Tensor, "view view"]:
    """Compute the fraction of one camera's view that another camera sees from a similar angle.

    Args:
        cameras: Cameras of all frames.
        typical: Typical depth in units of the world.

    Returns:
        Overlap of each pair in [0, 1]: the smaller of both directions.
    """
    small = cameras.resized(*GRID)
    min_cosine = torch.cos(torch.deg2rad(torch.tensor(MAX_VIEW_ANGLE)))
    centers = small.centers
    rays = (
        unproject(torch.ones(len(small), GRID[1], GRID[0]).to(centers), small).flatten(1, 2)
        - centers[:, None]
    )
    depths = typical * rays.new_tensor(DEPTHS)[:, None, None]
    rows = []
    for view in range(len(small)):
        points = (centers[view] + depths * rays[view]).flatten(0, 1)
        pixels, z = project(points, small)
        directions = normalize(points - centers[:, None], dim=-1)
        similar = (directions * directions[view]).sum(-1) > min_cosine
        rows.append((inside(pixels, small) & (z > 0) & similar).float().mean(-1))
    fraction = torch.stack(rows)
    return torch.minimum(fraction, fraction.T)


def planned_pairs(
    trajectory: Trajectory,
    typical: float,
    exhaustive_limit: int,
    loop_closures: int = 6,
    min_overlap: float = MIN_OVERLAP,
) -> Int[Tensor, "pair 2"]:
    """Select pairs by the overlap of planned cameras; their number grows linearly with the frames.

    Up to `exhaustive_limit` frames, all pairs with enough overlap are selected. Beyond, a frame is
    paired with the input, with TREE_LAGS of its ancestors, and with frames of other clips.

    Args:
        trajectory: The plan.
        typical: Typical depth of the input in units of the world.
        exhaustive_limit: Number of frames up to which all pairs are considered.
        loop_closures: Number of other clips with which a frame is paired.
        min_overlap: Smallest overlap of a pair.

    Returns:
        Frame indices of the pairs, the lower one first.
    """
    overlap = view_overlap(trajectory.cameras, typical)
    parents = parent_frames(trajectory)
    count = len(overlap)
    if count <= exhaustive_limit:
        chosen = (overlap >= min_overlap).triu(1)
    else:
        chosen = torch.zeros(count, count, dtype=torch.bool, device=overlap.device)
        chosen[0, 1:] = overlap[0, 1:] >= min_overlap
        _add_ancestors(chosen, parents, TREE_LAGS)
        for view in range(1, count):
            best = _best_of_other_clips(trajectory, overlap, view)[:loop_closures]
            for fraction, other in best:
                chosen[min(other, view), max(other, view)] |= fraction >= min_overlap
    for view in range(1, count):
        chosen[parents[view], view] = True
    return chosen.triu(1).nonzero()


def _best_of_other_clips(
    trajectory: Trajectory, overlap: Float[Tensor, "view view"], view: int
) -> list[tuple[float, int]]:
    """Return the frame of each other clip with the largest overlap, and that overlap, sorted."""
    best = []
    for span in trajectory.spans:
        if view not in span:
            frame = span[int(overlap[view, span.start : span.stop].argmax())]
            best.append((float(overlap[view, frame]), frame))
    return sorted(best, reverse=True)


def matching_pairs(
    trajectory: Trajectory, typical: float, exhaustive_limit: int, loop_closures: int, planned: bool
) -> Int[Tensor, "pair 2"]:
    """Select the pairs of frames to match.

    Args:
        trajectory: One camera per frame.
        typical: Typical depth of the input in units of the world.
        exhaustive_limit: Number of frames up to which all pairs are matched if there is no plan.
        loop_closures: Number of distant frames with which each frame is matched.
        planned: Whether the trajectory's cameras are measured, or a plan with some weight.

    Returns:
        Frame indices of the pairs, the lower one first.
    """
    count = len(trajectory.cameras)
    if trajectory.hint == "known" and count > exhaustive_limit:
        return _overlapping_pairs(trajectory, typical)
    if planned:
        return planned_pairs(trajectory, typical, exhaustive_limit, loop_closures)
    if count <= exhaustive_limit or trajectory.hint == "unordered":
        return torch.ones(count, count).triu(1).nonzero()
    return _sequential_pairs(trajectory, loop_closures)


def _overlapping_pairs(
    trajectory: Trajectory, typical: float, min_overlap: float = MIN_OVERLAP
) -> Int[Tensor, "pair 2"]:
    """Select pairs of measured cameras by overlap alone, because photographs have no order.

    A frame is paired with the frames of largest overlap. It is also paired, more and more sparsely,
    with frames of less overlap, which have more parallax.
    """
    overlap = view_overlap(trajectory.cameras, typical)
    chosen = torch.zeros(overlap.shape, dtype=torch.bool, device=overlap.device)
    overlap.fill_diagonal_(-1)
    best = overlap.sort(dim=1, descending=True, stable=True)
    for rank in SEQUENCE_LAGS:
        if rank < len(overlap):
            enough = best.values[:, rank - 1] >= min_overlap
            chosen[enough.nonzero()[:, 0], best.indices[enough, rank - 1]] = True
    return (chosen | chosen.T).triu(1).nonzero()


def _sequential_pairs(trajectory: Trajectory, loop_closures: int) -> Int[Tensor, "pair 2"]:
    """Select pairs that are close in time along each clip, and pairs with distributed keyframes."""
    count = len(trajectory.cameras)
    chosen = torch.zeros(count, count, dtype=torch.bool)
    _add_ancestors(chosen, parent_frames(trajectory), SEQUENCE_LAGS)
    for key in range(0, count, max(1, count // (loop_closures + 1))):
        chosen[:key, key] = True
        chosen[key, key + 1 :] = True
    return chosen.triu(1).nonzero()


def _add_ancestors(
    chosen: Bool[Tensor, "view view"], parents: list[int], lags: tuple[int, ...]
) -> None:
    """Pair every frame with its ancestors at some distances."""
    for frame in range(1, len(parents)):
        branch = [frame]
        while branch[-1] and len(branch) <= max(lags):
            branch.append(parents[branch[-1]])
        for lag in lags:
            if lag < len(branch):
                chosen[branch[lag], frame] = True


def parent_frames(trajectory: Trajectory) -> list[int]:
    """List the frame that each frame continues; the input continues itself.

    Args:
        trajectory: A tree of clips.

    Returns:
        Index of each frame's parent.
    """
    parents = [0]
    for clip, span in zip(trajectory.clips, trajectory.spans, strict=True):
        parents += [frame - 1 if frame > span.start else clip.source for frame in span]
    return parents
