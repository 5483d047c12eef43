"""Pad frames to an aspect ratio that a network was trained with."""

from dataclasses import dataclass
from typing import Literal, TypeVar

from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import pad

MapT = TypeVar("MapT", bound=Tensor)


@dataclass(frozen=True)
class Padding:
    """Rows and columns around a frame. Each side gets as many as the opposite one.

    So the centre of the picture stays the centre, and focal lengths in pixels do not change.
    """

    rows: int = 0
    """Rows above the frame, and below it."""
    columns: int = 0
    """Columns to the left of the frame, and to its right."""

    @classmethod
    def to_aspect(cls, height: int, width: int, least: float, most: float) -> "Padding":
        """Choose the smallest padding whose ratio of longer to shorter side is in a range.

        Args:
            height: Rows of the frame, an even number.
            width: Columns of the frame, an even number.
            least: Smallest ratio of the longer side to the shorter one, at least 1.
            most: Largest ratio.
        """
        longer = max(height, width)
        shorter = min(height, width)
        along = max(0.0, least * shorter - longer)
        across = max(0.0, longer / most - shorter)
        if width >= height:
            return cls(_half(across), _half(along))
        return cls(_half(along), _half(across))

    @classmethod
    def to_landscape(cls, height: int, width: int) -> "Padding":
        """Choose the smallest padding that makes a frame at least as wide as high.

        Args:
            height: Rows of the frame, an even number.
            width: Columns of the frame, an even number.
        """
        return cls(0, max(0, height - width) // 2)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and the width with the padding.

        Args:
            height: Rows of the frame.
            width: Columns of the frame.
        """
        return height + 2 * self.rows, width + 2 * self.columns

    def rounded(self, multiple: int) -> "Padding":
        """Return a padding whose sums of both sides are multiples of a number, an even one.

        Args:
            multiple: The number of pixels.
        """
        half = multiple // 2
        return Padding(round(self.rows / half) * half, round(self.columns / half) * half)

    def apply(
        self, images: UInt8[Tensor, "frame y x 3"], border: Literal["mirror", "white"]
    ) -> UInt8[Tensor, "frame height width 3"]:
        """Add the borders.

        Args:
            images: Frames, 0 to 255.
            border: `mirror` continues a frame by its mirror image. `white` is white.
        """
        if self == Padding():
            return images
        sides = (self.columns, self.columns, self.rows, self.rows)
        planes = images.permute(0, 3, 1, 2)
        if border == "white":
            return pad(planes, sides, value=255).permute(0, 2, 3, 1)
        padded = pad(planes.float(), sides, mode="reflect").to(images.dtype)
        return padded.permute(0, 2, 3, 1)

    def crop(self, maps: MapT) -> MapT:
        """Remove the borders of maps.

        Args:
            maps: Values of pixels, [frame height width ...].
        """
        height, width = maps.shape[1:3]
        return maps[:, self.rows : height - self.rows, self.columns : width - self.columns]  # pyright: ignore[reportReturnType]


def _half(pixels: float) -> int:
    """Return the number of pixels of one side, rounded to whole ones."""
    return round(pixels / 2)
