"""The value that the stages before the fit hand over to it."""

from dataclasses import dataclass

from lift.types import Cameras, Depth, Frames, Reconstruction, Trajectory


@dataclass(frozen=True)
class Views:
    """Frames with their cameras and depth, from which a scene is fitted."""

    depth: Depth
    """Depth of the input view."""
    trajectory: Trajectory
    """Planned cameras of the frames."""
    frames: Frames
    """All frames, the input first."""
    reconstruction: Reconstruction
    """Estimated cameras, depth and points of the frames."""
    key: str
    """Key of the last stage."""
    multiview_consistent: bool = False
    """Whether all frames show one scene from exactly the cameras of the reconstruction."""
    true_cameras: Cameras | None = None
    """The cameras that the frames really show, if the prior knows them."""
