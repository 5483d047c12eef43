"""How far away everything in a single picture is."""

from abc import ABC, abstractmethod

from jaxtyping import UInt8
from torch import Tensor

from lift.registry import Registry
from lift.types import Depth


class DepthEstimator(ABC):
    """Estimates z-depth of one picture. A constructor may ask for (keyword-only): `image` (str: the run's `image` setting),
    `device` (torch.device).
    """

    soft: float = 2.5
    """Pixels of a picture 400 long, to either side, over which its steps are soft: within them they are made hard (lift/depths/edges.py)."""

    @abstractmethod
    def __call__(self, image: UInt8[Tensor, "height width 3"]) -> Depth:
        """Depth at the picture's own size, finite and positive where valid."""

    def draft(self, image: UInt8[Tensor, "height width 3"]) -> Depth:
        """A cheaper estimate for frames whose neighbours will correct it; the full one by default."""
        return self(image)


depths: Registry[DepthEstimator] = Registry("depth", DepthEstimator)
