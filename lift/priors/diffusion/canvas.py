"""Fit pictures of any shape into the sizes that a video model was trained with."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate, pad

from lift.io.image import resize_images
from lift.io.sizing import MULTIPLE, cropped_size
from lift.types import Cameras

ResizeMode = Literal["auto", "crop", "pad", "keep"]
"""What happens to a picture of another shape than the model's. See `DiffusionPrior`."""

Size = tuple[int, int]
"""Width and height in pixels."""

MIN_CROP_FRACTION = 2 / 3
"""`auto` crops if at least this fraction of the picture is left. Otherwise it pads."""


@dataclass(frozen=True)
class Canvas:
    """Where a picture lies in the pictures that a model generates."""

    width: int
    """Width of the generated pictures in pixels."""
    height: int
    """Height of the generated pictures in pixels."""
    left: int = 0
    """First column of the picture."""
    top: int = 0
    """First row of the picture."""
    right: int = 0
    """Number of columns to the right of the picture."""
    bottom: int = 0
    """Number of rows below the picture."""

    @classmethod
    def around(cls, size: Size, width: int, height: int) -> "Canvas":
        """Place a picture in the middle of a larger shape, as large as it fits.

        Args:
            size: Width and height of the generated pictures.
            width: Width of the picture in pixels.
            height: Height of the picture in pixels.
        """
        scale = min(size[0] / width, size[1] / height)
        columns = size[0] - min(size[0], max(1, round(width * scale)))
        rows = size[1] - min(size[1], max(1, round(height * scale)))
        left = columns // 2
        top = rows // 2
        return cls(*size, left, top, columns - left, rows - top)

    @property
    def inner(self) -> Size:
        """Width and height of the picture in the generated pictures."""
        return self.width - self.left - self.right, self.height - self.top - self.bottom

    @property
    def is_padded(self) -> bool:
        """Whether the picture has borders."""
        return self.inner != (self.width, self.height)

    def place(
        self, images: UInt8[Tensor, "frame y x 3"], border: Literal["mirror", "black"] = "mirror"
    ) -> UInt8[Tensor, "frame height width 3"]:
        """Resize pictures and add the borders.

        Args:
            images: Pictures, 0 to 255.
            border: `mirror` continues the picture by its mirror image, so that a generator sees a
                picture without bars. `black` is for models that complete black holes.

        Returns:
            Pictures of the size that the model generates.
        """
        inner = resize_images(images, *self.inner)
        if border == "mirror":
            return self._mirror(inner, 1)
        return pad(inner, (0, 0, self.left, self.right, self.top, self.bottom))

    def place_planes(
        self, planes: Float[Tensor, "frame channel y x"]
    ) -> Float[Tensor, "frame channel height width"]:
        """Resize planes by antialiased cubic interpolation, and mirror them in the borders.

        Args:
            planes: Planes of pictures. Values of the result may exceed their range a little.
        """
        columns, rows = self.inner
        inner = interpolate(
            planes, (rows, columns), mode="bicubic", antialias=True, align_corners=False
        )
        return self._mirror(inner, 2)

    def place_confidence(
        self, confidence: Float[Tensor, "frame 1 y x"]
    ) -> Float[Tensor, "frame 1 height width"]:
        """Add borders to maps of confidence. It is 0 there.

        Args:
            confidence: Values from 0 to 1.

        Returns:
            The maps at the size that the model generates; unchanged if there are no borders.
        """
        if not self.is_padded:
            return confidence
        columns, rows = self.inner
        inner = interpolate(confidence, (rows, columns), mode="nearest-exact")
        return pad(inner, (self.left, self.right, self.top, self.bottom))

    def _mirror(self, inner: Tensor, axis: int) -> Tensor:
        """Mirror pictures in the borders; `axis` is that of their rows, before the columns."""
        if not self.is_padded:
            return inner
        columns, rows = self.inner
        row_index = _mirrored(rows, self.top, self.bottom).to(inner.device)
        column_index = _mirrored(columns, self.left, self.right).to(inner.device)
        return inner.index_select(axis, row_index).index_select(axis + 1, column_index)

    def cut(
        self, images: UInt8[Tensor, "frame y x 3"], width: int, height: int
    ) -> UInt8[Tensor, "frame height width 3"]:
        """Cut the picture out of generated pictures, and resize it.

        Args:
            images: Generated pictures, 0 to 255.
            width: Width of the result in pixels.
            height: Height of the result in pixels.
        """
        columns, rows = self.inner
        window = images[:, self.top : self.top + rows, self.left : self.left + columns]
        return resize_images(window, width, height)

    def cameras(self, cameras: Cameras) -> Cameras:
        """Return the cameras of the generated pictures. Borders widen the field of view.

        Args:
            cameras: Cameras of the picture.
        """
        inner = cameras.resized(*self.inner)
        intrinsics = inner.intrinsics.clone()
        intrinsics[:, 0, 2] += self.left
        intrinsics[:, 1, 2] += self.top
        return replace(inner, intrinsics=intrinsics, width=self.width, height=self.height)


def _mirrored(length: int, before: int, after: int) -> Tensor:
    """Return indices of a mirrored continuation on both sides, repeated where it is longer."""
    index = torch.arange(-before, length + after) % (2 * length)
    return torch.minimum(index, 2 * length - 1 - index)


def is_close(width: int, height: int, size: Size) -> bool:
    """Tell whether a picture has the shape of a size, up to the rounding of its sides.

    Args:
        width: Width of the picture in pixels, a multiple of 8.
        height: Height of the picture in pixels.
        size: Width and height whose ratio counts.
    """
    columns, rows = cropped_size(width, height, size)
    return width - columns < MULTIPLE and height - rows < MULTIPLE


@dataclass(frozen=True)
class TrainedShapes:
    """The sizes that a model was trained with."""

    usual: Size
    """The usual size. Other sizes have as many pixels if `prior.size` is not set."""
    fixed: tuple[Size, ...]
    """All sizes of a model that was trained with few. Empty: many shapes."""
    multiple: int
    """Width and height are multiples of this number of pixels."""
    completes_holes: bool
    """Whether the model completes black holes, so that `auto` pads every picture."""

    def generated_size(
        self, longer_side: int | None, mode: ResizeMode, width: int, height: int
    ) -> Size:
        """Choose the size that the model generates for a picture.

        Args:
            longer_side: The setting `prior.size`. None: not set.
            mode: The setting `prior.resize_mode`.
            width: Width of the picture in pixels.
            height: Height of the picture in pixels.
        """
        size = self._nearest(longer_side, width, height) if mode != "keep" else None
        return size or self._scaled(longer_side, width, height)

    def _nearest(self, longer_side: int | None, width: int, height: int) -> Size | None:
        """Choose the trained size of the nearest shape; None if none has this longer side."""
        if longer_side is None:
            pixels = self.usual[0] * self.usual[1]
            sizes = [size for size in self.fixed if 0.9 < size[0] * size[1] / pixels < 1.1]
        else:
            sizes = [size for size in self.fixed if max(size) == longer_side]

        def distance(size: Size) -> float:
            return abs(math.log(size[0] * height / (size[1] * width)))

        return min(sizes, key=distance, default=None)

    def _scaled(self, longer_side: int | None, width: int, height: int) -> Size:
        """Choose a size of the picture's own shape."""
        if longer_side is None:
            scale = math.sqrt(self.usual[0] * self.usual[1] / (width * height))
        else:
            scale = longer_side / max(width, height)
        across, down = (
            max(self.multiple, round(side * scale / self.multiple) * self.multiple)
            for side in (width, height)
        )
        return across, down

    def choose(
        self, name: str, longer_side: int | None, mode: ResizeMode, width: int, height: int
    ) -> tuple[Size | None, str]:
        """Decide whether a picture of another shape is cropped or padded.

        Args:
            name: Name of the prior, for the sentence.
            longer_side: The setting `prior.size`. None: not set.
            mode: The setting `prior.resize_mode`.
            width: Width of the picture in pixels.
            height: Height of the picture in pixels.

        Returns:
            The size whose shape the picture is cropped to, or None, and a sentence for the user.
            It is empty if the picture has the model's shape.
        """
        size = self.generated_size(longer_side, mode, width, height)
        trained = " or ".join(f"{across} x {down}" for across, down in self.fixed)
        facts = f"prior={name} was trained with {trained} pixels"
        fits = mode == "keep" or is_close(width, height, size)
        if not self.fixed or (size in self.fixed and fits):
            return None, ""
        if size not in self.fixed:
            return None, f"{facts}; it generates {size[0]} x {size[1]}, which lowers its quality"
        columns, rows = cropped_size(width, height, size)
        fraction = columns * rows / (width * height)
        is_enough = fraction >= MIN_CROP_FRACTION and not self.completes_holes
        if mode == "crop" or (mode == "auto" and is_enough):
            return size, (
                f"{facts}; {1 - fraction:.0%} of the picture is cut off at its borders, and "
                "prior.resize_mode=pad would keep it"
            )
        inner = Canvas.around(size, width, height).inner
        return None, (
            f"{facts}; the picture takes {inner[0]} x {inner[1]} of them, and borders the rest; "
            f"prior.resize_mode=crop would cut off {1 - fraction:.0%} of the picture instead"
        )
