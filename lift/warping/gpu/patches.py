"""Fill holes with patches of the picture that surrounds them, on tensors of any device.

`lift.warping.patches` is the reference on the CPU. Here the search updates all pixels at once.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import interpolate, pad

from lift.runtime.jit import can_use_triton
from lift.warping.gpu.masks import CHUNK_ELEMENTS, Mask, Pixels, dilate, nearest_source
from lift.warping.patches import PATCH_RADIUS

JUMPS = (8, 4, 2, 1)
"""Distances in pixels of the neighbours whose matches a pixel tries, one after another."""
PADDING = JUMPS[0] + PATCH_RADIUS
"""Pixels around each picture. No shifted patch reaches beyond them."""
RANDOM_STEPS = 2
"""Number of groups of random matches. A group starts from the best match of the group before."""
MAX_LEVELS = 4
"""Largest number of resolutions."""
NEARER_FACTOR = 3.0
"""Factor of the squared difference of depth to a candidate that is nearer."""
SEED = 12345
"""Seed of the random matches."""

Picture = Float[Tensor, "height width 3"]
Map = Float[Tensor, "height width"]
_Halves = tuple[
    Float[Tensor, "half_height half_width 3"],
    Float[Tensor, "half_height half_width"],
    Bool[Tensor, "half_height half_width"],
    Bool[Tensor, "half_height half_width"],
]
"""Colours, logarithm of inverse depth, gaps and nearer pixels at half resolution."""


def fill_with_patches(
    rgb: Picture,
    inverse: Map,
    hole: Mask,
    nearer: Mask,
    start_match: Int[Tensor, "height width 2"] | None = None,
    sweeps: tuple[int, int] = (6, 3),
) -> Picture:
    """Fill holes from coarse to fine with patches of the picture at similar depth.

    Every patch that overlaps the hole becomes similar to some patch of the picture. The result
    depends on the kind of device, but not on the run.

    Args:
        rgb: Colours in 0..255 with holes smoothly filled.
        inverse: Inverse depth with holes filled.
        hole: Pixels to fill.
        nearer: Pixels that no patch may copy.
        start_match: Row and column of the pixel that the search starts from.
            None: the nearest known pixel.
        sweeps: Number of sweeps of the search at the coarsest level, and at each finer one.

    Returns:
        Colours with the holes filled.

    Reference:
        Wexler et al., "Space-time completion of video", PAMI 2007. The search is PatchMatch
        (Barnes et al., SIGGRAPH 2009) with the jumps of Rong and Tan, "Jump flooding in GPU",
        I3D 2006.
    """
    generator = torch.Generator(rgb.device).manual_seed(SEED)
    scales = _build_pyramid(rgb, inverse.log(), hole, nearer)
    level = match = None
    for number, scale in enumerate(reversed(scales)):
        if not scale.has_source:
            continue
        coarser, level = level, _Level.build(scale)
        color = level.color
        if coarser is None or match is None:
            match = level.flatten(_first_match(scale, level.pixels, start_match))
            if start_match is not None:
                color = _vote(level, color, match)
        else:
            match = level.flatten(_finer_match(coarser, level, match))
            color = _vote(level, color, match)
        for _ in range(sweeps[min(number, 1)]):
            _search(level, color, match, generator)
            color = _vote(level, color, match)
        if scale is scales[0]:
            return level.crop(color)
    return rgb


@dataclass(frozen=True)
class _PatchScale:
    """The picture at one resolution."""

    color: Picture
    """Colours in 0..255."""
    log: Map
    """Logarithm of inverse depth."""
    gap: Mask
    """Pixels to fill."""
    near: Mask
    """Pixels that no patch may copy."""
    source: Mask
    """Centres of the patches that may be copied."""
    has_source: bool
    """Whether there is a source pixel."""


def _build_pyramid(rgb: Picture, log: Map, hole: Mask, nearer: Mask) -> list[_PatchScale]:
    """Halve colours, logarithm of inverse depth and masks until the holes are small."""
    maps = [(rgb.float(), log.float(), hole, nearer)]
    while len(maps) < MAX_LEVELS and min(maps[-1][2].shape) >= 16 * PATCH_RADIUS:
        maps.append(_halve(*maps[-1]))
    sources = [_find_source(gap, near) for _, _, gap, near in maps]
    flags = [
        torch.stack([dilate(~gap, 2).all(), source.any()])
        for (_, _, gap, _), source in zip(maps, sources, strict=True)
    ]
    # The only synchronization of the pyramid.
    flags = torch.stack(flags).tolist()
    scales = []
    for values, source, (is_thin, has_source) in zip(maps, sources, flags, strict=True):
        scales.append(_PatchScale(*values, source, has_source))
        if is_thin:
            break
    return scales


def _halve(color: Picture, log: Map, gap: Mask, near: Mask) -> _Halves:
    """Halve the resolution. A small pixel is a gap if any of its pixels is one."""
    height, width = gap.shape
    planes = torch.stack([*color.unbind(2), log, gap.float(), near.float()])
    small = interpolate(planes[None], (height // 2, width // 2), mode="area")[0]
    small_gap = small[4] > 0
    return small[:3].permute(1, 2, 0), small[3], small_gap, (small[5] > 0) & ~small_gap


def _find_source(gap: Mask, near: Mask) -> Mask:
    """Find the centres of patches that lie within the picture and contain no gap."""
    height, width = gap.shape
    source = torch.zeros_like(gap)
    inside = slice(PATCH_RADIUS, height - PATCH_RADIUS), slice(PATCH_RADIUS, width - PATCH_RADIUS)
    source[inside] = ~dilate(gap | near, PATCH_RADIUS)[inside]
    return source


@dataclass(frozen=True)
class _Level:
    """What the search needs at one resolution. Pictures are padded and flat.

    A match is the flat index of a source pixel. Pixels that are not to be filled have the match
    `empty`, which is no source.
    """

    height: int
    width: int
    pixels: Pixels
    """Row and column of the pixels to fill."""
    targets: Int[Tensor, "target"]
    """Their flat indices."""
    color: Float[Tensor, "pixel 3"]
    """Colours at the start. Patches of sources keep them."""
    key: Float[Tensor, "pixel 3"]
    """Weighted logarithm of inverse depth, row and column."""
    source: Bool[Tensor, "pixel"]
    """Centres of the patches that may be copied."""
    offsets: Int[Tensor, "patch"]
    """Flat offsets of the pixels of a patch."""
    cost_weight: Float[Tensor, "target patch 1"]
    """Square root of the weight of each pixel of a target's patch in its cost."""
    vote_weight: Float[Tensor, "target patch 1"]
    """Weight of the patch around each pixel of a target's patch in its colour."""
    shifts: Int[Tensor, "jump 5"]
    """Flat offsets of a pixel itself and of the neighbours at each distance of `JUMPS`."""
    radii: tuple[Int[Tensor, "_"], ...]
    """Radii of the random candidates that are tried together. The first is 0."""
    near_penalty: Float[Tensor, "3"]
    """Factor of each key where the candidate's is larger. A nearer candidate costs more."""

    @property
    def stride(self) -> int:
        """Flat offset of the next row."""
        return self.width + 2 * PADDING

    @property
    def empty(self) -> int:
        """Flat index of the first pixel, which is no source."""
        return PADDING * (self.stride + 1)

    @classmethod
    def build(cls, scale: _PatchScale) -> "_Level":
        """Prepare the search at one resolution."""
        height, width = scale.gap.shape
        stride = width + 2 * PADDING
        pixels = scale.gap.nonzero()
        targets = (pixels[:, 0] + PADDING) * stride + pixels[:, 1] + PADDING
        device = targets.device
        steps = torch.arange(-PATCH_RADIUS, PATCH_RADIUS + 1, device=device)
        offsets = (steps[:, None] * stride + steps).flatten()
        patch = targets[:, None] + offsets
        gap = _flatten(scale.gap)
        weight = torch.where(gap, math.sqrt(0.6), math.sqrt(1.5)) * _flatten(~scale.near)
        squared = (steps[:, None].square() + steps.square()).flatten()
        vote = gap[patch] / (1.0 + squared.square())
        rows, columns = (
            torch.arange(n, device=device, dtype=torch.float32) * math.sqrt(200 * 49) / width
            for n in (height, width)
        )
        key = [
            math.sqrt(3000 * 49) * scale.log,
            rows[:, None].expand(height, width),
            columns.expand(height, width),
        ]
        return cls(
            height=height,
            width=width,
            pixels=pixels,
            targets=targets,
            color=_flatten(scale.color),
            key=_flatten(torch.stack(key, 2)),
            source=_flatten(scale.source),
            offsets=offsets.int(),
            cost_weight=weight[patch][..., None],
            vote_weight=(vote / vote.sum(1, keepdim=True))[..., None],
            shifts=targets.new_tensor(
                [(0, -n * stride, n * stride, -n, n) for n in JUMPS], dtype=torch.int32
            ),
            radii=tuple(
                targets.new_tensor(radii, dtype=torch.int32)
                for radii in _random_radii(max(height, width))
            ),
            near_penalty=weight.new_tensor([math.sqrt(NEARER_FACTOR), 1, 1]),
        )

    def flatten(self, match: Pixels) -> Int[Tensor, "pixel"]:
        """Convert row and column of the targets' matches to a map of flat indices."""
        flat = self.source.new_full(self.source.shape, self.empty, dtype=torch.int32)
        flat[self.targets] = ((match[:, 0] + PADDING) * self.stride + match[:, 1] + PADDING).int()
        return flat

    def unflatten(self, match: Int[Tensor, "*any"]) -> tuple[Tensor, Tensor]:
        """Convert flat indices to rows and columns."""
        row = match // self.stride
        return row - PADDING, match - row * self.stride - PADDING

    def crop(self, color: Float[Tensor, "pixel 3"]) -> Picture:
        """Remove the padding of a flat picture."""
        picture = color.reshape(-1, self.stride, 3)
        return picture[PADDING:-PADDING, PADDING:-PADDING].contiguous()


def _random_radii(side: int) -> list[list[int]]:
    """Halve half of `side` down to 1, in groups that are tried together. Each starts with 0."""
    radii = [side >> n for n in range(1, side.bit_length())]
    size = -(-len(radii) // RANDOM_STEPS)
    return [[0, *radii[n : n + size]] for n in range(0, len(radii), size)]


def _flatten(picture: Tensor) -> Tensor:
    """Pad and flatten a picture, [height, width] or [height, width, channel]."""
    margin = (0, 0) * (picture.dim() - 2) + (PADDING,) * 4
    return pad(picture, margin).flatten(0, 1)


def _first_match(
    scale: _PatchScale, pixels: Pixels, start_match: Int[Tensor, "full_height full_width 2"] | None
) -> Pixels:
    """Choose the first match of each pixel: that of `start_match`, or else the nearest source."""
    nearest = nearest_source(scale.source, pixels)
    if start_match is None:
        return nearest
    small, full = (pixels.new_tensor(n) for n in (scale.gap.shape, start_match.shape[:2]))
    row, column = (pixels * full // small).unbind(1)
    coarse = start_match[row, column] * small // full
    coarse = torch.minimum(coarse.clamp(min=0), small - 1)
    valid = scale.source[coarse[:, 0], coarse[:, 1]]
    return torch.where(valid[:, None], coarse, nearest)


def _finer_match(coarser: _Level, level: _Level, match: Int[Tensor, "coarse_pixel"]) -> Pixels:
    """Double the matches of the coarser level.

    They are sources again: the patch around a source is twice as wide at the coarser level.
    """
    i, j = level.pixels.unbind(1)
    coarse_i = i * coarser.height // level.height
    coarse_j = j * coarser.width // level.width
    flat = match[(coarse_i + PADDING) * coarser.stride + coarse_j + PADDING]
    return 2 * torch.stack(coarser.unflatten(flat), 1)


def _search(
    level: _Level,
    color: Float[Tensor, "pixel 3"],
    match: Int[Tensor, "pixel"],
    generator: torch.Generator,
) -> None:
    """Sweep once over the hole: try the matches of neighbours, then random matches."""
    for shift in level.shifts:
        candidates = match[level.targets[:, None] + shift] - shift
        _keep_best(level, color, match, candidates)
    # Small radii search around the best match of the large radii.
    for radii in level.radii:
        _keep_best(level, color, match, _random_candidates(level, match, radii, generator))


def _random_candidates(
    level: _Level,
    match: Int[Tensor, "pixel"],
    radii: Int[Tensor, "candidate"],
    generator: torch.Generator,
) -> Int[Tensor, "target candidate"]:
    """Choose random positions around the matches, one for each of the radii."""
    own = match[level.targets][:, None]
    random = torch.rand((2, len(own), len(radii)), generator=generator, device=match.device)
    step = (random * (2 * radii + 1)).int() - radii
    row, column = level.unflatten(own)
    # The picture's border is no source, so that positions outside are not accepted.
    row = (row + step[0]).clamp_(0, level.height - 1)
    column = (column + step[1]).clamp_(0, level.width - 1)
    return (row + PADDING) * level.stride + column + PADDING


def _keep_best(
    level: _Level,
    color: Float[Tensor, "pixel 3"],
    match: Int[Tensor, "pixel"],
    candidates: Int[Tensor, "target candidate"],
) -> None:
    """Set each match to the best candidate. The first candidate must be a source.

    The square root of the cost decides. The cost is the squared difference of two patches, plus
    costs of depth and distance.
    """
    if can_use_triton(color, level.color, level.key):
        from lift.warping.gpu.patches_triton import best_candidates

        match[level.targets] = best_candidates(
            color.contiguous(),
            level.color,
            level.key,
            level.source,
            level.targets,
            level.cost_weight,
            candidates.contiguous(),
            level.stride,
        )
        return
    count = candidates.shape[1]
    size = max(CHUNK_ELEMENTS // (count * level.cost_weight.shape[1] * 3), 1)
    best = []
    for targets, weight, options in zip(
        *(a.split(size) for a in (level.targets, level.cost_weight, candidates)), strict=True
    ):
        own = color[targets[:, None] + level.offsets]
        flat = (options[..., None] + level.offsets).flatten()
        other = level.color.index_select(0, flat).view(*options.shape, len(level.offsets), 3)
        other = other.sub_(own[:, None]).mul_(weight[:, None])
        key = level.key[options] - level.key[targets][:, None]
        key = torch.maximum(key, key * level.near_penalty)
        cost = torch.hypot(
            torch.linalg.vector_norm(other.flatten(2), dim=2), torch.linalg.vector_norm(key, dim=2)
        )
        cost = torch.where(level.source[options], cost, math.inf)
        best.append(options.gather(1, cost.argmin(1, keepdim=True))[:, 0])
    if best:
        match[level.targets] = torch.cat(best)


def _vote(
    level: _Level, color: Float[Tensor, "pixel 3"], match: Int[Tensor, "pixel"]
) -> Float[Tensor, "pixel 3"]:
    """Set every hole pixel to the weighted mean of the patches that overlap it."""
    filled = color.clone()
    size = max(CHUNK_ELEMENTS // (len(level.offsets) * 3), 1)
    for targets, weight in zip(
        *(a.split(size) for a in (level.targets, level.vote_weight)), strict=True
    ):
        copied = level.color[match[targets[:, None] + level.offsets] - level.offsets]
        filled[targets] = copied.mul_(weight).sum(1)
    return filled
