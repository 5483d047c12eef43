"""Where the camera shall go: pure geometry.

A planner turns the input camera and the depth of the picture into a tree of clips. Lengths among its settings are in units of the
scene's typical depth, so that one setting suits a flower and a street.
"""

from abc import ABC, abstractmethod

from lift.registry import Registry
from lift.types import Cameras, Depth, Trajectory


class Planner(ABC):
    """Plans a trajectory that starts at the input camera.

    `scales` says whether a smaller motion is still the same plan: then the reach check may shrink it (`lift.planners.reach`).
    """

    scales = True

    @abstractmethod
    def __call__(
        self, camera: Cameras, depth: Depth, clip_length: int | None, magnitude: float = 1.0
    ) -> Trajectory:
        """camera: the input view, one camera at the origin. clip_length: how many new frames the prior adds in a clip; None = any
        number. magnitude in (0, 1]: the share of the configured motion to make. Raises ValueError if the setting `frames`
        contradicts `clip_length`.
        """


planners: Registry[Planner] = Registry("planner", Planner)
