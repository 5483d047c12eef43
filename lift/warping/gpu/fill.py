"""Fill holes from the background, on a CUDA device. Twin of `lift.warping.fill`."""

import cv2
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from lift.runtime.cuda_graphs import cuda_graph
from lift.types import Depth
from lift.warping import fill_network
from lift.warping.fill import MIN_GAP_RADIUS, FillMethod
from lift.warping.fill import fill_behind as fill_on_cpu
from lift.warping.gpu.components import label_components
from lift.warping.gpu.masks import dilate
from lift.warping.gpu.patches import fill_with_patches
from lift.warping.patches import PATCH_RADIUS

_STRAIGHT, _DIAGONAL = 0.955, 1.3693
"""Lengths of steps to neighbouring pixels, as OpenCV's DIST_L2 of size 3 counts them."""


def fill_behind(
    rgb: Float[Tensor, "height width 3"],
    inverse: Float[Tensor, "height width"],
    hole: Bool[Tensor, "height width"],
    front: Bool[Tensor, "height width"],
    texture: FillMethod,
) -> tuple[Float[Tensor, "height width 3"], Float[Tensor, "height width"]]:
    """Fill holes from the background. At least one pixel must be known.

    Args:
        rgb: Colours in 0..255.
        inverse: Inverse depth.
        hole: Pixels to fill.
        front: Known pixels of a surface that ends at a hole because it is in front of it. They do
            not contribute to the filling.
        texture: As in `lift.warping.fill.fill_behind`. `telea` is computed on the CPU.

    Returns:
        Colours and inverse depth with the holes filled.
    """
    if texture == "telea":
        arrays = [value.cpu().numpy() for value in (rgb, inverse, hole, front)]
        filled, depth = fill_on_cpu(arrays[0], arrays[1], arrays[2], arrays[3], texture)
        return torch.from_numpy(filled).to(rgb), torch.from_numpy(depth).to(rgb)
    if not hole.any():
        return rgb, inverse
    if hole.all():
        raise ValueError("nothing of the view is known, so its holes cannot be filled")
    label = label_components(hole)
    smooth, inverse, seeds = _fill_smoothly(rgb.float(), inverse, hole, front, label)
    if texture == "smooth":
        return smooth, inverse
    if texture == "network":
        # A hole at the picture's border is bounded on one side only, and the network blurs it.
        inner = _without_border(hole, label)
        filled = fill_with_network(smooth, inverse, inner)
        outer = hole & ~inner
        if bool(hole_radius(outer, MIN_GAP_RADIUS) < MIN_GAP_RADIUS):
            return filled, inverse
        nearer = _nearer(inverse, hole, front, seeds) | inner
        return fill_with_patches(filled, inverse, outer, nearer), inverse
    nearer = _nearer(inverse, hole, front, seeds)
    return fill_with_patches(smooth, inverse, hole, nearer), inverse


def interior_holes(hole: Bool[Tensor, "height width"]) -> Bool[Tensor, "height width"]:
    """Select the holes that do not touch the picture's border.

    Args:
        hole: Mask of holes.

    Returns:
        Mask of interior holes.
    """
    return _without_border(hole, label_components(hole))


def fill_with_network(
    smooth: Float[Tensor, "height width 3"],
    inverse: Float[Tensor, "height width"],
    hole: Bool[Tensor, "height width"],
) -> Float[Tensor, "height width 3"]:
    """Fill smoothly filled holes with the shipped network. Skip it if all holes are thin.

    Args:
        smooth: Colours in 0..255 with holes smoothly filled.
        inverse: Inverse depth with holes filled.
        hole: Pixels to fill.

    Returns:
        Colours in 0..255.
    """
    if bool(hole_radius(pad(hole, (1, 1, 1, 1)), MIN_GAP_RADIUS) < MIN_GAP_RADIUS):
        return smooth
    network = fill_network.load_shipped(smooth.device)
    return _run_network(smooth.float(), inverse.float(), hole, network=network)[0]


@cuda_graph
@torch.no_grad()
def _run_network(
    smooth: Tensor, inverse: Tensor, hole: Tensor, *, network: fill_network.FillNetwork
) -> tuple[Tensor]:
    """Fill holes with the network."""
    picture = (smooth.permute(2, 0, 1)[None] / 255).contiguous()
    filled = fill_network.fill_holes(network, picture, inverse[None], hole[None])[0]
    return ((255 * filled.permute(1, 2, 0)).where(hole[..., None], smooth),)


def close_gaps(depth: Depth, device: torch.device) -> Float[Tensor, "height width"]:
    """Fill the invalid pixels of a depth map from the background.

    Args:
        depth: Depth with at least one valid pixel.
        device: Device of the computation and of the result.

    Returns:
        z-depth.
    """
    values = depth.depth.to(device).float()
    valid = depth.valid.to(device)
    if valid.all():
        return values
    inverse = 1 / values.where(valid, torch.full_like(values, depth.typical))
    nothing = torch.zeros((*values.shape, 3), device=device)
    return 1 / fill_behind(nothing, inverse, ~valid, torch.zeros_like(valid), "smooth")[1]


def push_pull(
    values: Float[Tensor, "height width channel"],
    valid: Bool[Tensor, "height width"],
    blend: bool = False,
) -> Float[Tensor, "height width channel"]:
    """Interpolate valid pixels smoothly to all pixels.

    Args:
        values: Values.
        valid: Mask of valid pixels.
        blend: Whether valid pixels are replaced by the mean of their surroundings too.

    Returns:
        Values everywhere.
    """
    planes = values.permute(2, 0, 1)[None].float()
    filled = fill_network.diffuse_pyramid(planes, valid[None], blend_levels=3 if blend else 0)
    return filled[0].permute(1, 2, 0)


def hole_radius(hole: Bool[Tensor, "height width"], limit: float) -> Tensor:
    """Return the largest distance of a hole's pixel to the nearest known pixel.

    Args:
        hole: The holes.
        limit: Distances above are not told apart.

    Returns:
        A number, exact up to `limit` pixels, 0 without holes.
    """
    return _hole_radius(hole, limit=limit)[0]


@cuda_graph
def _hole_radius(hole: Tensor, *, limit: float) -> tuple[Tensor]:
    far = 2 * limit + 2
    distance = hole.float() * far
    rows, columns = distance.shape
    for _ in range(int(limit / _STRAIGHT) + 1):
        around = pad(distance, (1, 1, 1, 1), value=far)
        steps = [
            around[i : i + rows, j : j + columns] + (_STRAIGHT if 1 in (i, j) else _DIAGONAL)
            for i in range(3)
            for j in range(3)
            if (i, j) != (1, 1)
        ]
        distance = torch.stack([distance, *steps]).amin(0)
    return (distance.max(),)


@cuda_graph
def _fill_smoothly(
    rgb: Tensor, inverse: Tensor, hole: Tensor, front: Tensor, label: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Fill holes without texture. Return colours, inverse depth, and what they continue."""
    seeds = _find_seeds(inverse, hole, front, label)
    known = torch.cat([rgb, inverse[..., None]], -1)
    filled = push_pull(known, seeds).where(hole[..., None], known)
    return filled[..., :3], filled[..., 3], seeds


def _find_seeds(inverse: Tensor, hole: Tensor, front: Tensor, label: Tensor) -> Tensor:
    """Find the background pixels beside holes, from which depth and colour continue."""
    ring = dilate(hole, 1) & ~hole
    beside = max_pool2d(label[None, None].float(), 3, 1, 1)[0, 0].long()
    seeds = ring & ~front
    has_seed = torch.zeros(hole.numel() + 1, dtype=torch.bool, device=hole.device)
    has_seed.index_fill_(0, beside.where(seeds, torch.zeros_like(beside)).flatten(), True)
    seeds = seeds | (ring & ~has_seed[beside])  # a gap within the foreground
    # A seed that is much nearer than the seeds around it is foreground too.
    for _ in range(2):
        mean = push_pull(inverse[..., None], seeds, blend=True)[..., 0]
        background = seeds & (inverse <= 1.05 * mean)
        seeds = background.where(background.any(), seeds)
    return seeds


def _nearer(inverse: Tensor, hole: Tensor, front: Tensor, seeds: Tensor) -> Tensor:
    """Find the foreground at holes, as far away as it could be mistaken for their surroundings."""
    distance = cv2.distanceTransform(hole.byte().cpu().numpy(), cv2.DIST_L2, 3)
    thickness = int(2 * distance.max()) + 2
    surroundings = dilate(hole, max(2 * PATCH_RADIUS, thickness)) & ~hole
    background = push_pull(inverse[..., None], seeds)[..., 0]
    return surroundings & (front | (inverse > 1.1 * background))


def _without_border(hole: Tensor, label: Tensor) -> Tensor:
    """Return the holes that do not touch the border."""
    at_border = torch.zeros(hole.numel() + 1, dtype=torch.bool, device=hole.device)
    for line in (label[0], label[-1], label[:, 0], label[:, -1]):
        at_border[line] = True
    return hole & ~at_border[label]
