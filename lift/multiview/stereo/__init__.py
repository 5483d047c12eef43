"""Multi-view stereo: depth that neighbouring frames confirm."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from lift.geometry import inside, project
from lift.multiview.depth_alignment import merge_points
from lift.multiview.stereo.fusion import (
    FULL_CONFIRMATIONS,
    MIN_STEREO_WEIGHT,
    complete_depth,
    count_confirmations,
    find_contradictions,
)
from lift.multiview.stereo.sweep import plane_geometry, sweep
from lift.runtime.parallel import parallel_map
from lift.types import Cameras, Frames, Reconstruction

BEST_ANGLE = 6.0
"""Best angle in degrees between the rays of two views: wide, but the pictures are still similar."""
MARGIN = 1.3
"""The searched range of depth extends that of the triangulated points by this factor."""
PLANE_COUNT_RANGE = (32, 160)
"""Smallest and largest number of depth planes."""
NUM_NEIGHBOURS = 6
"""Number of views that each view is compared with."""
PARALLAX_RANGE = (1.0, 4.0)
"""Parallax in pixels at which stereo starts to count, and at which it counts fully.

Parallax is how far a pixel moves between the ends of the searched depth, in the neighbour where it
moves most.
"""
UNCONFIRMED_CONFIDENCE = 0.15
"""Confidence of depth that no neighbour confirms."""
UNSCALED_CONFIDENCE = 0.02
"""Confidence of depth in a view of unknown scale. Below MIN_POINT_CONFIDENCE."""
MIN_POINT_CONFIDENCE = 0.1
"""Smallest confidence of a pixel that becomes a point of the cloud."""


def select_neighbours(
    cameras: Cameras, typical: Float[Tensor, "view"], count: int = NUM_NEIGHBOURS
) -> Int[Tensor, "view neighbour"]:
    """Select the views that best determine each view's depth.

    Args:
        cameras: One per view.
        typical: Typical depth in each view, in world units.
        count: Number of neighbours. Fewer if there are not enough views.

    Returns:
        Indices of views, for each view.
    """
    centers = cameras.centers
    forward = cameras.camera_to_world[:, :3, 2]
    focus = centers + typical[:, None] * forward
    scores = []
    for k in range(len(cameras)):
        rays = torch.nn.functional.normalize(focus[k] - centers, dim=-1)
        angle = torch.rad2deg(torch.acos((rays * rays[k]).sum(-1).clamp(-1, 1)))
        rotation = torch.rad2deg(torch.acos((forward * forward[k]).sum(-1).clamp(-1, 1)))
        pixels, _ = project(focus[k : k + 1], cameras)
        ratio = angle / BEST_ANGLE
        score = ratio / (0.25 + ratio**2) * (rotation < 45) * inside(pixels[:, 0], cameras)
        score[k] = -1
        scores.append(score)
    return torch.stack(scores).topk(min(count, len(cameras) - 1)).indices


def plane_depths(
    cameras: Cameras,
    neighbours: Int[Tensor, "view neighbour"],
    nearest: Float[Tensor, "view"],
    farthest: Float[Tensor, "view"],
) -> Float[Tensor, "view plane"]:
    """Space the depth planes of each view.

    A step between planes moves a pixel by about one pixel in the neighbour where it moves most.

    Args:
        cameras: One per view.
        neighbours: Indices of the views that each view is compared with.
        nearest: Smallest depth of each view.
        farthest: Largest depth of each view.

    Returns:
        Inverse depths that rise in equal steps.
    """
    parallax = parallax_pixels(cameras, neighbours, nearest, farthest)
    count = int(parallax.median(dim=1).values.median().clamp(*PLANE_COUNT_RANGE))
    steps = torch.linspace(0, 1, count, device=nearest.device)
    return (1 / farthest)[:, None] + steps * (1 / nearest - 1 / farthest)[:, None]


def parallax_pixels(
    cameras: Cameras,
    neighbours: Int[Tensor, "view neighbour"],
    nearest: Float[Tensor, "view"],
    farthest: Float[Tensor, "view"],
) -> Float[Tensor, "view neighbour"]:
    """Measure how far the central pixel moves in each neighbour between both ends of depth.

    Args:
        cameras: One per view.
        neighbours: Indices of the views that each view is compared with.
        nearest: Smallest depth of each view.
        farthest: Largest depth of each view.

    Returns:
        Distances in pixels.
    """
    homographies, offsets = plane_geometry(cameras, neighbours)
    center = cameras.intrinsics.new_tensor([cameras.width / 2, cameras.height / 2, 1])
    ends = []
    for inverse in (1 / farthest, 1 / nearest):
        inverse = inverse.to(homographies)[:, None, None]
        image = homographies @ center.to(homographies) + inverse * offsets
        ends.append(image[..., :2] / image[..., 2:].clamp(min=1e-6))
    return (ends[1] - ends[0]).norm(dim=-1)


def refine_depth(
    frames: Frames,
    reconstruction: Reconstruction,
    long_side: int = 192,
    max_points: int = 2_000_000,
    device: torch.device | str = "cpu",
) -> Reconstruction:
    """Replace each picture's own depth by depth that the frames confirm.

    Depth stays as it is with fewer than two registered frames, without triangulated points, or with
    too little parallax (see PARALLAX_RANGE).

    Args:
        frames: The pictures.
        reconstruction: Cameras, each picture's depth, and triangulated points (`tracks`).
        long_side: Longer side in pixels of the pictures that are compared.
        max_points: Largest number of points in the cloud.
        device: Device of the comparison and the fusion. The result is where the depth is.

    Returns:
        The reconstruction with new depth, confidence in [0, 1], and point cloud. Confidence is 1
        where two neighbours confirm a depth (of two views, the other one). It is
        UNCONFIRMED_CONFIDENCE where none does.
    """
    registered = reconstruction.registered.nonzero()[:, 0]
    reference = reconstruction.depth if reconstruction.tracks is None else reconstruction.tracks
    reference = _select(reference, registered)
    has_points = reference.flatten(1).amax(1) > 0
    if len(registered) < 2 or not bool(has_points.any()):
        return _keep_depth(frames, reconstruction, registered, max_points)
    height, width = frames.images.shape[1:3]
    scale = min(1.0, long_side / max(height, width))
    size = (round(height * scale), round(width * scale))

    def shrink(image: Tensor) -> Tensor:
        grey = image.to(device).float().mean(-1)[None, None] / 255
        return interpolate(grey, size, mode="area")[0, 0]

    apply = parallel_map if torch.device(device).type == "cpu" else map
    grey = torch.stack(list(apply(shrink, (frames.images[k] for k in registered.tolist()))))
    cameras = reconstruction.cameras[registered].resized(size[1], size[0]).to(device)
    nearest, farthest, typical = (value.to(device) for value in _ranges(reference))
    neighbours = select_neighbours(cameras, typical)
    parallax = parallax_pixels(cameras, neighbours, nearest, farthest).amax(1)
    low, high = PARALLAX_RANGE
    parallax_weight = ((parallax - low) / (high - low)).clamp(0, 1)
    if not bool((parallax_weight > 0).any()):
        return _keep_depth(frames, reconstruction, registered, max_points)
    planes = plane_depths(cameras, neighbours, nearest, farthest)
    inverse, cost = sweep(grey, cameras, neighbours, planes)
    single = _select(reconstruction.depth, registered)
    single = interpolate(single[:, None], size, mode="nearest")[:, 0].to(device)
    depth, confidence = _combine(
        inverse, cost, single, cameras, neighbours, parallax_weight, has_points.to(device)
    )
    maps = _resize_maps(reconstruction, registered, depth, confidence)
    cloud = merge_points(
        frames, reconstruction.cameras, *maps, max_points, min_confidence=MIN_POINT_CONFIDENCE
    )
    return replace(reconstruction, points=cloud, depth=maps[0], confidence=maps[1])


def _select(maps: Float[Tensor, "view ..."], views: Tensor) -> Float[Tensor, "_ ..."]:
    """Return the maps of some views, without a copy if these are all views."""
    return maps if len(views) == len(maps) else maps[views]


def _combine(
    inverse: Float[Tensor, "view height width"],
    cost: Float[Tensor, "view height width"],
    single: Float[Tensor, "view height width"],
    cameras: Cameras,
    neighbours: Int[Tensor, "view neighbour"],
    parallax_weight: Float[Tensor, "view"],
    has_points: Bool[Tensor, "view"],
) -> tuple[Float[Tensor, "view height width"], Float[Tensor, "view height width"]]:
    """Combine the sweep's depth with that of single pictures, and weigh both.

    Args:
        inverse: Inverse depth of the sweep.
        cost: Its matching cost, in [0, 2].
        single: z-depth of each picture by itself, 0 where unknown.
        cameras: One per view, of the maps' size.
        neighbours: Indices of the views that each view is compared with.
        parallax_weight: How much parallax each view has, in [0, 1].
        has_points: Whether each view has triangulated points, which determine its scale.

    Returns:
        z-depth and confidence.
    """
    depth = 1 / inverse.clamp(min=1e-9)
    confirmations = count_confirmations(depth, cameras, neighbours)
    required = min(FULL_CONFIRMATIONS, neighbours.shape[1])
    weight = (confirmations / required).clamp(max=1) * (1 - cost / 1.2).clamp(0, 1).sqrt()
    weight = weight * parallax_weight[:, None, None]
    complete = complete_depth(depth, weight, single)
    contradiction = find_contradictions(complete, weight, cameras, neighbours)
    has_scale = has_points | (weight > MIN_STEREO_WEIGHT).flatten(1).any(1)
    min_confidence = torch.where(
        has_scale[:, None, None], UNCONFIRMED_CONFIDENCE * (1 - contradiction), UNSCALED_CONFIDENCE
    )
    return complete, torch.maximum(weight, min_confidence * (complete > 0))


def _keep_depth(
    frames: Frames, reconstruction: Reconstruction, registered: Tensor, max_points: int
) -> Reconstruction:
    """Keep the depth. Every pixel of a registered frame with depth becomes a point."""
    confidence = reconstruction.confidence.clone()
    min_confidence = UNCONFIRMED_CONFIDENCE * (reconstruction.depth[registered] > 0)
    confidence[registered] = torch.maximum(confidence[registered], min_confidence.to(confidence))
    cameras = reconstruction.cameras
    depth = reconstruction.depth
    cloud = merge_points(
        frames, cameras, depth, confidence, max_points, min_confidence=MIN_POINT_CONFIDENCE
    )
    return replace(reconstruction, points=cloud, confidence=confidence)


def _ranges(tracks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute nearest, farthest and typical depth of each view from its triangulated points."""
    # A quantile sorts, so the many pixels without a point are left out first.
    low, high, typical = torch.stack(list(_map_items(_view_range, tracks))).unbind(1)
    low = low.nan_to_num(float(low.nanmedian()))
    high = high.nan_to_num(float(high.nanmedian()))
    typical = typical.nan_to_num(float(typical.nanmedian()))
    return low / MARGIN, high * MARGIN, typical


def _view_range(tracks: Float[Tensor, "height width"]) -> Float[Tensor, "3"]:
    """Compute nearest, farthest and typical depth of a view's points, NaN without a point."""
    depth = tracks[tracks > 0]
    if not len(depth):
        return tracks.new_full((3,), torch.nan)
    ends = depth.quantile(torch.tensor([0.01, 0.99], device=depth.device, dtype=depth.dtype))
    return torch.cat([ends, depth.median()[None]])


def _map_items(function: Callable[[Any], Tensor], items: Tensor) -> Iterable[Tensor]:
    """Apply a function to the items of a tensor, in parallel on a CPU."""
    return parallel_map(function, items) if items.device.type == "cpu" else map(function, items)


def _resize_maps(
    reconstruction: Reconstruction, registered: Tensor, depth: Tensor, confidence: Tensor
) -> tuple[Tensor, Tensor]:
    """Resize depth and confidence of the registered frames to the frames' size."""
    size = reconstruction.depth.shape[1:]
    maps = []
    for small in (depth, confidence):
        new = interpolate(small[:, None], size, mode="nearest")[:, 0].to(reconstruction.depth)
        if len(registered) < len(reconstruction.depth):
            full = torch.zeros_like(reconstruction.depth)
            full[registered] = new
            new = full
        maps.append(new)
    return maps[0], maps[1]
