"""Continue a picture beyond its border, on tensors of any device.

`lift.warping.border` is the reference on the CPU.
"""

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import pad

from lift.warping.border import MAX_DEPTH_RATIO, MEDIAN_SIZE, RINGS, SWEEPS
from lift.warping.gpu.fill import push_pull
from lift.warping.gpu.patches import fill_with_patches
from lift.warping.patches import PATCH_RADIUS


def extend_picture(
    image: UInt8[Tensor, "height width 3"], depth: Float[Tensor, "height width"], margin: int
) -> tuple[UInt8[Tensor, "wide_height wide_width 3"], Float[Tensor, "wide_height wide_width"]]:
    """Continue a picture and its depth beyond all four borders.

    Depth keeps the value that it has at the border. Colours come from patches of the picture at
    similar depth, ring by ring, so that lines continue. The search for patches starts from the
    mirrored picture where its depth is similar, so that large structures continue, too.

    Args:
        image: Colours in 0..255.
        depth: z-depth without gaps.
        margin: Number of new pixels on each side, less than either side of the picture.

    Returns:
        Colours and z-depth, [height + 2 margin, width + 2 margin]. The picture is unchanged.
    """
    planes = image.permute(2, 0, 1)[None].float()
    rgb = pad(planes, (margin,) * 4, mode="replicate")[0].permute(1, 2, 0).contiguous()
    wide_depth = _extend_depth(depth, margin)
    inverse = 1 / wide_depth
    height, width = wide_depth.shape
    mirrored, is_good = _mirrored_matches(inverse, depth.shape, margin)
    for ring in range(RINGS):
        outer = margin - margin * (ring + 1) // RINGS
        inner = margin - margin * ring // RINGS
        if inner == outer:
            continue
        part = slice(outer, height - outer), slice(outer, width - outer)
        hole = torch.ones((height, width), dtype=torch.bool, device=image.device)
        hole[inner : height - inner, inner : width - inner] = False
        hole = hole[part]
        smooth = torch.where(hole[..., None], push_pull(rgb[part], ~hole), rgb[part])
        nearest = _nearest_match(hole, inner - outer)
        match = torch.where(is_good[part][..., None], mirrored[part] - outer, nearest)
        rgb[part] = fill_with_patches(
            smooth, inverse[part], hole, torch.zeros_like(hole), match, SWEEPS
        )
    return rgb.round().clamp(0, 255).to(torch.uint8), wide_depth


def _mirrored_matches(
    inverse: Float[Tensor, "wide_height wide_width"], shape: tuple[int, ...], margin: int
) -> tuple[Int[Tensor, "wide_height wide_width 2"], Bool[Tensor, "wide_height wide_width"]]:
    """Find the mirrored pixel of each pixel, and whether its depth is similar.

    Args:
        inverse: Inverse depth of the extended picture.
        shape: Height and width of the picture.
        margin: Number of new pixels on each side.

    Returns:
        Row and column, and a mask, all of the extended picture.
    """
    rows, columns = (_mirrored(side, margin, inverse.device) + margin for side in shape)
    match = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1)
    log = inverse.log()
    return match, (log[rows][:, columns] - log).abs() < MAX_DEPTH_RATIO


def _nearest_match(hole: Bool[Tensor, "height width"], ring: int) -> Int[Tensor, "height width 2"]:
    """Find the nearest known pixel whose patch lies within the picture.

    Args:
        hole: Pixels to fill: a frame along the border.
        ring: Width of the frame.

    Returns:
        Row and column of that pixel.
    """
    inside = max(ring, PATCH_RADIUS)
    if min(hole.shape) <= 2 * inside:
        inside = ring
    rows, columns = (
        torch.arange(side, device=hole.device).clamp(inside, side - 1 - inside)
        for side in hole.shape
    )
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1)


def _mirrored(side: int, margin: int, device: torch.device) -> Int[Tensor, "wide_side"]:
    """Return the row or column of the picture that each one of the extended picture shows."""
    index = torch.arange(-margin, side + margin, device=device).abs()
    return torch.where(index < side, index, 2 * (side - 1) - index)


def _extend_depth(
    depth: Float[Tensor, "height width"], margin: int
) -> Float[Tensor, "wide_height wide_width"]:
    """Continue depth at a right angle to the border. Single pixels at the border do not count."""
    height, width = depth.shape
    radius = MEDIAN_SIZE // 2
    padded = pad(depth.float()[None], (radius,) * 4, mode="replicate")[0]
    top, bottom = _median_line(padded[:MEDIAN_SIZE]), _median_line(padded[-MEDIAN_SIZE:])
    left, right = (
        _median_line(padded[:, part].T) for part in (slice(MEDIAN_SIZE), slice(-MEDIAN_SIZE, None))
    )
    wide = depth.new_empty((height + 2 * margin, width + 2 * margin), dtype=torch.float32)
    rows, columns = slice(margin, margin + height), slice(margin, margin + width)
    wide[:margin], wide[margin + height :] = (
        pad(line[None], (margin, margin), mode="replicate")[0] for line in (top, bottom)
    )
    wide[rows, :margin] = left[:, None]
    wide[rows, margin + width :] = right[:, None]
    wide[rows, columns] = depth
    return wide


def _median_line(strip: Float[Tensor, "size long_side"]) -> Float[Tensor, "side"]:
    """Compute the median of each square window along a strip of that width."""
    windows = strip.unfold(1, MEDIAN_SIZE, 1).permute(1, 0, 2).flatten(1)
    return windows.sort(1).values[:, windows.shape[1] // 2]
