"""Multi-view stereo: the depth that neighbouring frames prove together."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from lift.geometry import inside, project
from lift.multiview.depth_alignment import merged
from lift.multiview.stereo.fusion import CERTAIN, ENOUGH, completed, confirmed, in_front
from lift.multiview.stereo.sweep import plane_geometry, sweep
from lift.types import Cameras, Frames, Reconstruction

BEST_ANGLE = 6.0
"""Degrees between the rays of two views at which depth is told best: wide, yet still alike."""
MARGIN = 1.3
"""Factor by which the searched depths reach beyond those of the triangulated points."""
PLANES = (32, 160)
"""Fewest and most planes."""
NEIGHBOURS = 6
"""Views that each view is compared with."""
TELLING = (1.0, 4.0)
"""Pixels by which a pixel moves between the searched depths, in the neighbour where it moves most: up
to the first number the match tells nothing of depth, from the second on all that it can."""
UNPROVEN = 0.15
"""Confidence of depth that no neighbour confirms."""
UNSCALED = 0.02
"""Confidence of depth in a view of which nothing tells the unit: less than SHOWN."""
SHOWN = 0.1
"""Confidence from which on a pixel is a point of the cloud."""


def neighbours_of(
    cameras: Cameras, typical: Float[Tensor, "view"], count: int = NEIGHBOURS
) -> Int[Tensor, "view neighbour"]:
    """The views that tell most about each view's depth.

    Args:
        cameras: One per view.
        typical: Typical depth in each view.
        count: Number of neighbours; fewer if there are not so many views.

    Returns:
        Indices of views, for each view.
    """
    centers, forward = cameras.centers, cameras.camera_to_world[:, :3, 2]
    focus = centers + typical[:, None] * forward
    scores = []
    for k in range(len(cameras)):
        rays = torch.nn.functional.normalize(focus[k] - centers, dim=-1)
        angle = torch.rad2deg(torch.acos((rays * rays[k]).sum(-1).clamp(-1, 1)))
        turned = torch.rad2deg(torch.acos((forward * forward[k]).sum(-1).clamp(-1, 1)))
        pixels, _ = project(focus[k : k + 1], cameras)
        ratio = angle / BEST_ANGLE
        score = ratio / (0.25 + ratio**2) * (turned < 45) * inside(pixels[:, 0], cameras)
        score[k] = -1
        scores.append(score)
    return torch.stack(scores).topk(min(count, len(cameras) - 1)).indices


def plane_depths(
    cameras: Cameras,
    neighbours: Int[Tensor, "view neighbour"],
    nearest: Float[Tensor, "view"],
    farthest: Float[Tensor, "view"],
) -> Float[Tensor, "view plane"]:
    """Inverse depths whose steps move a pixel by about one in the neighbour that moves most."""
    moved = moved_pixels(cameras, neighbours, nearest, farthest)
    count = int(moved.median(dim=1).values.median().clamp(*PLANES))
    steps = torch.linspace(0, 1, count, device=nearest.device)
    return (1 / farthest)[:, None] + steps * (1 / nearest - 1 / farthest)[:, None]


def moved_pixels(
    cameras: Cameras,
    neighbours: Int[Tensor, "view neighbour"],
    nearest: Float[Tensor, "view"],
    farthest: Float[Tensor, "view"],
) -> Float[Tensor, "view neighbour"]:
    """Pixels by which the middle of a view moves in each neighbour between both ends of depth."""
    homographies, offsets = plane_geometry(cameras, neighbours)
    middle = cameras.intrinsics.new_tensor([cameras.width / 2, cameras.height / 2, 1])
    ends = []
    for inverse in (1 / farthest, 1 / nearest):
        inverse = inverse.to(homographies)[:, None, None]
        at = homographies @ middle.to(homographies) + inverse * offsets
        ends.append(at[..., :2] / at[..., 2:].clamp(min=1e-6))
    return (ends[1] - ends[0]).norm(dim=-1)


def refine(
    frames: Frames,
    reconstruction: Reconstruction,
    long_side: int = 192,
    most_points: int = 2_000_000,
    device: torch.device | str = "cpu",
) -> Reconstruction:
    """Depth that the frames prove, in place of each picture's own estimate.

    Args:
        frames: The pictures.
        reconstruction: Cameras, each picture's depth, and triangulated points (`tracks`).
        long_side: Longer side, in pixels, of the pictures that are compared.
        most_points: Largest number of points in the cloud.
        device: Where views are compared; all else stays where it is.

    Returns:
        The reconstruction with depth, confidence in [0, 1] and cloud of every placed frame.
        Confidence is 1 where two neighbours confirm a depth (of two views, the other one), and
        UNPROVEN where none does. Depth stays as it is if there are no two placed frames, no
        triangulated points, or too little parallax to tell depth (TELLING).
    """
    placed = reconstruction.confidence.flatten(1).any(1).nonzero()[:, 0]
    known = reconstruction.depth if reconstruction.tracks is None else reconstruction.tracks
    if len(placed) < 2 or not bool((known[placed] > 0).any()):
        return _unrefined(frames, reconstruction, placed, most_points)
    height, width = frames.images.shape[1:3]
    scale = min(1.0, long_side / max(height, width))
    size = (round(height * scale), round(width * scale))
    grey = frames.images[placed].float().mean(-1)[:, None] / 255
    grey = interpolate(grey, size, mode="area")[:, 0].to(device)
    cameras = reconstruction.cameras[placed].resized(size[1], size[0]).to(device)
    nearest, farthest, typical = (value.to(device) for value in _ranges(known[placed]))
    neighbours = neighbours_of(cameras, typical)
    moved = moved_pixels(cameras, neighbours, nearest, farthest).amax(1)
    telling = ((moved - TELLING[0]) / (TELLING[1] - TELLING[0])).clamp(0, 1)
    if not bool((telling > 0).any()):
        return _unrefined(frames, reconstruction, placed, most_points)
    planes = plane_depths(cameras, neighbours, nearest, farthest)
    inverse, cost = sweep(grey, cameras, neighbours, planes)
    depth = 1 / inverse.clamp(min=1e-9)
    agreed = confirmed(depth, cameras, neighbours)
    enough = min(ENOUGH, neighbours.shape[1])
    weight = (agreed / enough).clamp(max=1) * (1 - cost / 1.2).clamp(0, 1).sqrt()
    weight = weight * telling[:, None, None]
    single = interpolate(reconstruction.depth[placed][:, None], size, mode="nearest")[:, 0]
    single = single.to(device)
    whole = completed(depth, weight, single)
    against = in_front(whole, weight, cameras, neighbours)
    scaled = (known[placed] > 0).flatten(1).any(1).to(device)
    scaled |= (weight > CERTAIN).flatten(1).any(1)
    least = torch.where(scaled[:, None, None], UNPROVEN * (1 - against), UNSCALED)
    confidence = torch.maximum(weight, least * (whole > 0))
    maps = _resized(reconstruction, placed, whole, confidence)
    cloud = merged(frames, reconstruction.cameras, *maps, most_points, least=SHOWN)
    return replace(reconstruction, points=cloud, depth=maps[0], confidence=maps[1])


def _unrefined(
    frames: Frames, reconstruction: Reconstruction, placed: Tensor, most_points: int
) -> Reconstruction:
    """Depth as it is; every pixel of a placed frame with any depth is a point of the cloud."""
    confidence = reconstruction.confidence.clone()
    least = UNPROVEN * (reconstruction.depth[placed] > 0)
    confidence[placed] = torch.maximum(confidence[placed], least.to(confidence))
    cameras, depth = reconstruction.cameras, reconstruction.depth
    cloud = merged(frames, cameras, depth, confidence, most_points, least=SHOWN)
    return replace(reconstruction, points=cloud, confidence=confidence)


def _ranges(tracks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Nearest, farthest and typical depth of each view, from its triangulated points."""
    known = torch.where(tracks > 0, tracks, torch.nan).flatten(1)
    low = known.nanquantile(0.01, dim=1)
    high = known.nanquantile(0.99, dim=1)
    typical = known.nanmedian(dim=1).values
    low = low.nan_to_num(float(low.nanmedian()))
    high = high.nan_to_num(float(high.nanmedian()))
    typical = typical.nan_to_num(float(typical.nanmedian()))
    return low / MARGIN, high * MARGIN, typical


def _resized(
    reconstruction: Reconstruction, placed: Tensor, depth: Tensor, confidence: Tensor
) -> tuple[Tensor, Tensor]:
    """Depth and confidence of the placed frames at the frames' size, in their places."""
    size = reconstruction.depth.shape[1:]
    maps = []
    for small in (depth, confidence):
        new = torch.zeros_like(reconstruction.depth)
        new[placed] = interpolate(small[:, None], size, mode="nearest")[:, 0].to(new)
        maps.append(new)
    return maps[0], maps[1]
