"""Cut the pictures of a film to an aspect so that the subject stays in them."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lift.types import Cameras

_CENTER_WEIGHT = 0.6
"""Weight of the picture's centre, relative to the nearest objects, where a crop is placed."""

_MAX_PROMINENCE = 1.0
"""Largest relative nearness of an object that counts."""


@dataclass(frozen=True)
class Frame:
    """A part of the input's picture, and the size of the film."""

    left: float
    """Left edge in pixels of the input's picture."""
    top: float
    """Upper edge in pixels of the input's picture."""
    crop_width: float
    """Width in pixels of the input's picture."""
    crop_height: float
    """Height in pixels of the input's picture."""
    width: int
    """Width of the film in pixels."""
    height: int
    """Height of the film in pixels."""

    @property
    def center(self) -> tuple[float, float]:
        """Centre of the part in pixels of the input's picture."""
        return self.left + self.crop_width / 2, self.top + self.crop_height / 2

    def cut(self, cameras: Cameras) -> Cameras:
        """Return cameras that see this part alone, at the size of the film.

        Args:
            cameras: Cameras with the size of the input's picture.
        """
        factor_x = self.width / self.crop_width
        factor_y = self.height / self.crop_height
        change = cameras.intrinsics.new_tensor(
            [
                [factor_x, 0.0, -factor_x * self.left],
                [0.0, factor_y, -factor_y * self.top],
                [0.0, 0.0, 1.0],
            ]
        )
        return replace(
            cameras,
            intrinsics=change @ cameras.intrinsics,
            width=self.width,
            height=self.height,
        )


def choose_frame(
    width: int,
    height: int,
    aspect: float | None,
    size: int | None,
    depth: Float[Tensor, "row column"] | None = None,
    opaque: Bool[Tensor, "row column"] | None = None,
) -> Frame:
    """Choose the largest part of the input's picture that has the aspect and keeps the subject.

    A portrait film of a landscape picture has a narrower field of view. It never looks outside.

    Args:
        width: Width of the input's picture in pixels.
        height: Height of the input's picture in pixels.
        aspect: Width divided by height. None: that of the picture.
        size: Shorter side of the film in pixels. None: that of the part.
        depth: z-depth of the picture, of any size. None: the part is central.
        opaque: Pixels of the depth with a surface.

    Returns:
        The part and the film's size. Sizes are even, because videos need that, unless neither
        aspect nor size is chosen.
    """
    if aspect is None and size is None:
        return Frame(0.0, 0.0, float(width), float(height), width, height)
    crop_width = min(float(width), height * aspect) if aspect else float(width)
    crop_height = min(float(height), width / aspect) if aspect else float(height)
    factor = 1.0 if size is None else size / min(crop_width, crop_height)
    left, top = (width - crop_width) / 2, (height - crop_height) / 2
    if depth is not None and opaque is not None and opaque.any():
        prominence = _prominence(depth, opaque, axis=1 if crop_width < width else 0)
        left = (width - crop_width) * _position(prominence.sum(0), crop_width / width)
        top = (height - crop_height) * _position(prominence.sum(1), crop_height / height)
    return Frame(
        left, top, crop_width, crop_height, _even(factor * crop_width), _even(factor * crop_height)
    )


def _even(length: float) -> int:
    """Round to an even number of pixels."""
    return max(2, 2 * round(length / 2))


def _prominence(
    depth: Float[Tensor, "row column"], opaque: Bool[Tensor, "row column"], axis: int
) -> Float[Tensor, "row column"]:
    """Measure how much nearer each pixel is than most of its row (axis 1) or column (axis 0).

    The ground is as near as the rest of its row, so it does not stand out.
    """
    nearness = torch.where(opaque, 1 / depth.clamp(min=1e-6), torch.zeros_like(depth))
    usual = nearness.median(dim=axis, keepdim=True).values.clamp(min=1e-6)
    return (nearness / usual - 1).clamp(0, _MAX_PROMINENCE)


def _position(values: Float[Tensor, "pixel"], part: float) -> float:
    """Find where a window shows the most.

    Args:
        values: What each row or column has.
        part: Length of the window, as a fraction of all.

    Returns:
        Position of the window in [0, 1]: 0 at the start, 1 at the end, 0.5 if all is alike.
    """
    count = len(values)
    window = max(1, round(part * count))
    if window >= count:
        return 0.5
    total = float(values.sum())
    shown = values.double().unfold(0, window, 1).sum(-1) / max(total, 1e-9)
    positions = torch.linspace(0, 1, len(shown), dtype=torch.float64)
    # Few prominent pixels say little: noise must not pull the window to a border.
    weight = min(1.0, total / (0.05 * count * count))
    score = weight * shown - _CENTER_WEIGHT * (2 * (positions - 0.5)).square()
    best = score >= score.max() - 1e-9
    return float(positions[best].mean())
