"""Depth estimators: z-depth of every pixel of one picture."""

from abc import ABC, abstractmethod

from jaxtyping import UInt8
from torch import Tensor

from lift.registry import Registry
from lift.types import Depth
from lift.weights import UsesWeights


class DepthEstimator(UsesWeights, ABC):
    """Estimates z-depth of one picture.

    A constructor may ask for these keyword-only arguments: `image` (str: the run's `image`
    setting), `device` (torch.device), `camera` (Cameras: the input camera).
    """

    edge_width: float = 2.5
    """Half width of soft depth steps, in pixels of a picture 400 pixels long.

    `lift.depths.edges` sharpens steps of this width.
    """

    @abstractmethod
    def __call__(self, image: UInt8[Tensor, "height width 3"]) -> Depth:
        """Estimate depth at the picture's own size.

        Args:
            image: The picture, 0 to 255.

        Returns:
            Depth that is finite and positive where valid.
        """

    def draft(self, image: UInt8[Tensor, "height width 3"]) -> Depth:
        """Estimate depth more cheaply, for frames that neighbouring frames correct.

        Args:
            image: The picture, 0 to 255.

        Returns:
            Depth. By default the full estimate.
        """
        return self(image)


depths: Registry[DepthEstimator] = Registry("depth", DepthEstimator)
"""The registry of depth estimators."""
