"""Planners: camera paths as pure geometry.

A planner turns the input camera and the depth of the picture into a tree of clips. Lengths in its
settings are in units of the scene's typical depth. So the same setting fits a flower and a street.
"""

from abc import ABC, abstractmethod

from lift.registry import Registry
from lift.types import Cameras, Depth, Trajectory


class Planner(ABC):
    """Plans a trajectory that starts at the input camera.

    The constructor reads files and checks the settings: it runs before the first stage. A class
    with settings that have no default declares `example_settings` for the contract tests
    (`lift.registry.Entry.example_settings`).
    """

    supports_magnitude: bool = True
    """Whether the motion can be scaled down. Then `lift.planners.motion_limit` may shrink it."""
    hints_recorded_frames: bool = False
    """Whether the path can be that of frames which exist already, as a file of cameras can.

    Then a prior with `has_recorded_frames` uses the plan, as a hint for the pose stage.
    """

    @abstractmethod
    def __call__(
        self, camera: Cameras, depth: Depth, clip_length: int | None, magnitude: float = 1.0
    ) -> Trajectory:
        """Plan the trajectory of one scene.

        Args:
            camera: The input view, one camera at the origin.
            depth: Depth of the input picture.
            clip_length: Number of new frames per clip of the prior. None: any number.
            magnitude: Fraction of the configured motion, in (0, 1].

        Returns:
            The input camera and the clips.

        Raises:
            ValueError: If the setting `num_frames` contradicts `clip_length`.
        """


planners: Registry[Planner] = Registry("planner", Planner)
"""The registry of planners."""
