"""The image model in plain torch, which all other renderers are compared with."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lift.geometry import quat_to_rotation
from lift.renderers import (
    EPS2D,
    MAX_ALPHA,
    MIN_ALPHA,
    MIN_TRANSMITTANCE,
    NEAR_PLANE,
    Renderer,
    Sums,
    renderers,
)
from lift.types import Cameras, Gaussians

TILE = 16
"""Side of a tile in pixels."""

_CLAMP_RANGE = (-0.15, 1.15)
"""Pixels that offsets are clamped to: 1.3 times the field of view, in units of its size."""


@renderers.register("reference")
class Reference(Renderer):
    """Render in plain torch on any device and in any precision: slow and exact.

    It is differentiable in everything. It works through tiles of 16 pixels. A tile's products
    are computed again in the backward pass, so memory grows with the number of (Gaussian, tile)
    pairs and not with the number of (Gaussian, pixel) pairs.
    """

    def __init__(self) -> None:
        pass

    def rasterize(
        self, gaussians: Gaussians, colors: Float[Tensor, "view gaussian 3"], cameras: Cameras
    ) -> Sums:
        """Sum colour, coverage and z-depth over black.

        Args:
            gaussians: The scene, shared by the views or one set a view.
            colors: Colours of the Gaussians in every view.
            cameras: The cameras, one a view.

        Returns:
            The sums, and a dictionary with `radii` in pixels.
        """
        splats, boxes, radii = project(gaussians, colors, cameras)
        sums = torch.stack(
            [
                _composite(*view, cameras.width, cameras.height)
                for view in zip(splats, boxes, radii > 0, strict=False)
            ]
        )
        return sums[..., :3], sums[..., 3], sums[..., 4], {"radii": radii}


def project(
    gaussians: Gaussians, colors: Float[Tensor, "view gaussian 3"], cameras: Cameras
) -> tuple[
    Float[Tensor, "view gaussian 10"],
    Int[Tensor, "view gaussian 4"],
    Float[Tensor, "view gaussian"],
]:
    """Project Gaussians to splats in every view.

    Args:
        gaussians: The scene, shared by the views or one set a view.
        colors: Colours of the Gaussians in every view.
        cameras: The cameras, one a view.

    Returns:
        Splats (x, y, conic xx, xy, yy, opacity, r, g, b, depth); the pixels left, top, right,
        bottom (inclusive) beyond which their alpha is below MIN_ALPHA; and radii in pixels, 0
        where culled.
    """
    rotation = cameras.world_to_camera[:, :3, :3]
    translation = cameras.world_to_camera[:, :3, 3]
    focal = cameras.intrinsics.diagonal(dim1=-2, dim2=-1)[:, None, :2]
    center = cameras.intrinsics[:, None, :2, 2]
    size = focal.new_tensor([cameras.width, cameras.height])

    local = gaussians.means @ rotation.mT + translation[:, None]
    in_front = local[..., 2] >= NEAR_PLANE
    depth = local[..., 2].where(in_front, torch.ones_like(local[..., 2]))
    means = focal * local[..., :2] / depth[..., None] + center
    offset = means.clamp(_CLAMP_RANGE[0] * size, _CLAMP_RANGE[1] * size) - center
    jacobian = _jacobian(focal, offset, depth)
    axes = quat_to_rotation(gaussians.quats) * gaussians.scales[..., None, :]
    # The Gaussian's three axes in the picture.
    x_axis, y_axis = (jacobian @ (rotation[:, None] @ axes)).unbind(-2)
    xx = (x_axis * x_axis).sum(-1)
    xy = (x_axis * y_axis).sum(-1)
    yy = (y_axis * y_axis).sum(-1)
    # By Cauchy-Binet, the determinant is a sum of squares. It stays exact and positive where
    # xx * yy - xy^2 would cancel, as for a needle.
    det = torch.linalg.cross(x_axis, y_axis).square().sum(-1) + EPS2D * (xx + yy) + EPS2D**2
    conic = torch.stack([(yy + EPS2D) / det, -xy / det, (xx + EPS2D) / det], dim=-1)
    opacities = gaussians.opacities.expand(depth.shape)
    splats = torch.cat([means, conic, opacities[..., None], colors, depth[..., None]], dim=-1)
    variances = torch.stack([xx, yy], dim=-1) + EPS2D
    boxes, radii = _bounds(means, variances, opacities, in_front, size)
    return splats, boxes, radii


def _jacobian(
    focal: Float[Tensor, "view 1 2"],
    offset: Float[Tensor, "view gaussian 2"],
    depth: Float[Tensor, "view gaussian"],
) -> Float[Tensor, "view gaussian 2 3"]:
    """Return the Jacobian of the projection at each Gaussian."""
    zero = torch.zeros_like(depth)
    return torch.stack(
        [
            focal[..., 0] / depth,
            zero,
            -offset[..., 0] / depth,
            zero,
            focal[..., 1] / depth,
            -offset[..., 1] / depth,
        ],
        dim=-1,
    ).unflatten(-1, (2, 3))


@torch.no_grad()
def _bounds(
    means: Float[Tensor, "view gaussian 2"],
    variances: Float[Tensor, "view gaussian 2"],
    opacities: Float[Tensor, "view gaussian"],
    in_front: Bool[Tensor, "view gaussian"],
    size: Float[Tensor, "2"],
) -> tuple[Int[Tensor, "view gaussian 4"], Float[Tensor, "view gaussian"]]:
    """Return the first and last pixels of each Gaussian, and its radius, 0 where culled."""
    cutoff = (2 * (opacities / MIN_ALPHA).log().clamp(min=0)).sqrt()  # in standard deviations
    extent = cutoff[..., None] * variances.sqrt()
    extent = extent * (1 + 1e-5) + 1e-3  # a rounding error must not cut off a pixel
    start = (means - extent - 0.5).ceil().maximum(torch.zeros_like(size))
    stop = (means + extent - 0.5).floor().minimum(size - 1)
    visible = in_front & (opacities >= MIN_ALPHA) & (start <= stop).all(-1)
    boxes = (
        torch.cat([start, stop], dim=-1)
        .where(visible[..., None], torch.zeros_like(start[..., :1]))
        .long()
    )
    radii = extent.amax(-1).ceil().where(visible, torch.zeros_like(opacities))
    return boxes, radii


def _composite(
    splats: Float[Tensor, "gaussian 10"],
    boxes: Int[Tensor, "gaussian 4"],
    visible: Bool[Tensor, "gaussian"],
    width: int,
    height: int,
) -> Float[Tensor, "height width 5"]:
    """Composite one view's splats to sums of colour, coverage and depth."""
    order = splats[:, 9].detach().argsort(stable=True)
    order = order[visible[order]]
    left, top, right, bottom = boxes[order].unbind(-1)
    corners = [(x, y) for y in range(0, height, TILE) for x in range(0, width, TILE)]
    lists = [
        order[(left < x + TILE) & (right >= x) & (top < y + TILE) & (bottom >= y)]
        for x, y in corners
    ]
    # One gather serves all tiles. A gather a tile would cost a gradient of the scene's size each.
    parts = splats[torch.cat(lists)].split([len(indices) for indices in lists])
    recompute = torch.is_grad_enabled() and splats.requires_grad
    tiles = []
    for (x, y), part in zip(corners, parts, strict=False):
        tile = (
            checkpoint(_composite_tile, part, x, y, use_reentrant=False, preserve_rng_state=False)
            if recompute
            else _composite_tile(part, x, y)
        )
        tiles.append(tile)
    across = -(-width // TILE)
    image = (
        torch.stack(tiles).unflatten(0, (-1, across)).transpose(1, 2).flatten(2, 3).flatten(0, 1)
    )
    return image[:height, :width]


def _composite_tile(
    splats: Float[Tensor, "gaussian 10"], x: int, y: int
) -> Float[Tensor, "16 16 5"]:
    """Composite splats, sorted by depth, onto the tile whose first pixel is (x, y)."""
    steps = torch.arange(TILE, device=splats.device, dtype=splats.dtype) + 0.5
    pixels = torch.cartesian_prod(y + steps, x + steps).flip(-1)
    mean_x, mean_y, xx, xy, yy, opacity = splats[:, :6].unbind(-1)
    dx = pixels[:, :1] - mean_x
    dy = pixels[:, 1:] - mean_y
    alpha = opacity * (-0.5 * (xx * dx * dx + yy * dy * dy) - xy * dx * dy).exp()
    alpha = alpha.clamp(max=MAX_ALPHA) * (alpha >= MIN_ALPHA)
    after = (1 - alpha).cumprod(-1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=-1)
    weights = alpha * before * (after > MIN_TRANSMITTANCE)
    values = torch.cat([splats[:, 6:9], torch.ones_like(splats[:, :1]), splats[:, 9:]], dim=-1)
    return (weights @ values).unflatten(0, (TILE, TILE))
