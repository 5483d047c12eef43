"""Depth estimators: z-depth of every pixel of one picture."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from lift.registry import Registry
from lift.types import Depth
from lift.weights import Weights


class DepthEstimator(ABC):
    """Estimates z-depth of one picture.

    A constructor may ask for these keyword-only arguments: `image` (str: the run's `image`
    setting), `device` (torch.device), `camera` (Cameras: the input camera).
    """

    edge_width: float = 2.5
    """Half width of soft depth steps, in pixels of a picture 400 pixels long.

    `lift.depths.edges` sharpens steps of this width.
    """

    @classmethod
    def required_weights(cls, settings: Mapping[str, Any], half: bool) -> tuple[Weights, ...]:
        """List the published files that a component with these settings downloads.

        `lift download` fetches them ahead of time. The component itself is not built for that, and
        what it requires need not be installed.

        Args:
            settings: All settings of the component by name, defaults included.
            half: Whether the run computes in half precision, on a GPU.

        Returns:
            The files; none by default, and none for models in a folder.
        """
        return ()

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
