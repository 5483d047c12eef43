"""Base class of priors that generate pictures of the sizes that they were trained with."""

from collections.abc import Mapping
from typing import Any

from lift.priors import VideoPrior
from lift.priors.diffusion.canvas import Canvas, ResizeMode, TrainedShapes, is_close


class SizedPrior(VideoPrior):
    """Choose the size of generated pictures, and what happens to pictures of another shape."""

    trained_size: tuple[int, int] = (1024, 576)
    """Width and height in pixels that the model was trained with."""
    trained_sizes: tuple[tuple[int, int], ...] = ()
    """All sizes of a model that was trained with few. The first one is `trained_size`.

    Empty: it was trained with many shapes, so it generates the picture's own.
    """
    completes_holes: bool = False
    """Whether it completes black holes. Then `resize_mode=auto` pads every picture."""
    size_multiple: int = 64
    """Width and height are multiples of this number of pixels."""

    longer_side: int | None
    """The setting `prior.size`."""
    resize_mode: ResizeMode
    """The setting `prior.resize_mode`."""

    def generated_size(self, width: int, height: int) -> tuple[int, int]:
        """Choose the size that the model generates for a picture.

        Args:
            width: Pixels across the picture.
            height: Pixels down the picture.

        Returns:
            Width and height, multiples of `size_multiple`: a trained size if the model has few and
            `prior.size` allows one, else as near to the picture's aspect ratio as possible.
        """
        shapes = self._trained_shapes()
        return shapes.generated_size(self.longer_side, self.resize_mode, width, height)

    def canvas(self, width: int, height: int) -> Canvas:
        """Say where a picture lies in the pictures that the model generates.

        Args:
            width: Pixels across the picture.
            height: Pixels down the picture.
        """
        size = self.generated_size(width, height)
        is_own_shape = size not in self.trained_sizes or self.resize_mode == "keep"
        if is_own_shape or is_close(width, height, size):
            return Canvas(*size)
        return Canvas.around(size, width, height)

    @classmethod
    def choose_shape(
        cls, settings: Mapping[str, Any], width: int, height: int
    ) -> tuple[tuple[int, int] | None, str]:
        """Decide what happens to a picture of another shape, as `VideoPrior` says.

        Args:
            settings: Settings of the prior.
            width: Width of the picture in pixels.
            height: Height of the picture in pixels.
        """
        return cls._trained_shapes().choose(
            settings.get("name", cls.__name__),
            settings.get("size"),
            settings.get("resize_mode", "auto"),
            width,
            height,
        )

    @classmethod
    def _trained_shapes(cls) -> TrainedShapes:
        return TrainedShapes(
            cls.trained_size, cls.trained_sizes, cls.size_multiple, cls.completes_holes
        )
