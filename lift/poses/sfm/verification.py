"""Geometric verification of matches."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lift.poses.sfm.state import MIN_FRAME_POINTS, SfmState
from lift.poses.sfm.tracks import Matches

MIN_CONSISTENT = 0.3
"""Fraction of a pair's matches that must agree with the estimated cameras."""
MAX_RANSAC_MATCHES = 400
"""Number of matches, best first, from which a pair's epipolar geometry is estimated."""
MIN_ITERATIONS = 100
"""Smallest number of iterations of RANSAC. With poselib's 1,000, good pairs take three times the
time and keep the same matches."""


def verify_matches(
    pair: Matches, keypoints: Sequence[Float[Tensor, "_ 2"]], max_error: float
) -> Matches | None:
    """Keep the matches that agree with one epipolar geometry.

    The focal length is not used, because it may be assumed wrongly.

    Args:
        pair: Matches of two frames.
        keypoints: Keypoints of each frame in pixels.
        max_error: Sampson error in pixels of a correct match.

    Returns:
        The matches that agree, or None if there are too few.
    """
    import poselib

    if len(pair.index) < MIN_FRAME_POINTS:
        return None
    a, b = (
        keypoints[frame][pair.index[:, side]].double().cpu()
        for side, frame in enumerate((pair.first, pair.second))
    )
    best = pair.score.cpu().argsort(descending=True)[:MAX_RANSAC_MATCHES]
    ransac = {
        "max_epipolar_error": max_error,
        "seed": 0,
        "min_iterations": MIN_ITERATIONS,
        "max_iterations": 10_000,
    }
    matrix, _ = poselib.estimate_fundamental(a[best].numpy(), b[best].numpy(), ransac, {})
    inlier = sampson_error(a, b, torch.from_numpy(matrix)) < max_error
    if int(inlier.sum()) < MIN_FRAME_POINTS:
        return None
    return Matches(pair.first, pair.second, pair.index[inlier], pair.score[inlier])


def sampson_error(
    first: Float[Tensor, "match 2"],
    second: Float[Tensor, "match 2"],
    matrix: Float[Tensor, "3 3"] | Float[Tensor, "match 3 3"],
) -> Float[Tensor, "match"]:
    """Return the distance of matches to the epipolar geometry, to first order.

    Args:
        first: Pixels in the first frame.
        second: Pixels in the second frame.
        matrix: Fundamental matrix, one for all matches or one per match.

    Returns:
        Errors in pixels.

    Reference:
        Sampson, "Fitting conic sections to very scattered data", 1982.
    """
    a, b = (torch.cat([points, torch.ones_like(points[:, :1])], -1) for points in (first, second))
    line = (matrix * a[:, None]).sum(-1)
    other = (matrix.mT * b[:, None]).sum(-1)
    return (b * line).sum(-1).abs() / (
        line[:, :2].square().sum(-1) + other[:, :2].square().sum(-1)
    ).sqrt().clamp(min=1e-12)


def inconsistent_pairs(
    state: SfmState, pairs: Sequence[Matches], keypoints: Sequence[Tensor], max_error: float
) -> list[tuple[int, int]]:
    """List pairs of registered frames whose matches do not agree with the cameras.

    Args:
        state: Estimated cameras.
        pairs: Matches of pairs of frames.
        keypoints: Keypoints of each frame in pixels.
        max_error: Sampson error in pixels of a correct match.

    Returns:
        Frame indices of the pairs.
    """
    registered = state.registered.tolist()
    pairs = [
        pair
        for pair in pairs
        if registered[pair.first] and registered[pair.second] and len(pair.index)
    ]
    if not pairs:
        return []
    device = state.points.device
    fundamental = _fundamental_matrices(state, pairs)
    counts = torch.tensor([len(pair.index) for pair in pairs])
    number = torch.arange(len(pairs)).repeat_interleave(counts).to(device)
    a, b = (
        torch.cat([keypoints[getattr(pair, side)][pair.index[:, k]].cpu() for pair in pairs])
        .to(device)
        .double()
        for k, side in enumerate(("first", "second"))
    )
    consistent = sampson_error(a, b, fundamental[number]) < max_error
    fractions = torch.bincount(number[consistent], minlength=len(pairs)).cpu() / counts
    return [
        (pair.first, pair.second)
        for pair, fraction in zip(pairs, fractions.tolist(), strict=True)
        if fraction < MIN_CONSISTENT
    ]


def _fundamental_matrices(state: SfmState, pairs: Sequence[Matches]) -> Float[Tensor, "pair 3 3"]:
    """Return the fundamental matrix of each pair of frames."""
    first, second = (
        torch.tensor([getattr(pair, side) for pair in pairs], device=state.points.device)
        for side in ("first", "second")
    )
    rotation = state.rotation[second] @ state.rotation[first].mT
    translation = (
        state.translation[second] - (rotation @ state.translation[first][..., None])[..., 0]
    )
    essential = torch.linalg.cross(translation[..., None].expand_as(rotation), rotation, dim=1)
    inverse = torch.eye(3).to(state.rotation).repeat(len(state.registered), 1, 1)
    inverse[:, [0, 1], [0, 1]] = (-state.log_focal).exp()[:, None]
    inverse[:, :2, 2] = -state.principal_point * (-state.log_focal).exp()[:, None]
    return inverse[second].mT @ essential @ inverse[first]
