"""Estimate the depth of the input view."""

from lift.depths import DepthEstimator, depths
from lift.depths.edges import SharpenedDepth, sharpen_depth
from lift.io.capture import Capture
from lift.io.image import Picture
from lift.poses.sfm.depth_scale import scale_depth_to_cameras
from lift.runtime.session import Session
from lift.stages.checked import CheckedDepth
from lift.types import Depth


def build_depth_estimator(session: Session, picture: Picture) -> DepthEstimator:
    """Build the depth estimator, with checks of its depth and with sharpened depth edges.

    Args:
        session: The run.
        picture: The input, with its camera.
    """
    estimator = session.build(depths, camera=picture.cameras)
    return SharpenedDepth(CheckedDepth(estimator), session.config.edges.width, session.device)


def estimate_depth(
    session: Session, picture: Picture, estimator: DepthEstimator
) -> tuple[Depth, str]:
    """Estimate the depth of the picture. Its unit becomes the unit of the scene.

    Args:
        session: The run.
        picture: The input.
        estimator: The depth estimator.

    Returns:
        The depth and the stage's key.

    Raises:
        ValueError: No pixel has a depth.
    """
    cameras = picture.cameras
    key = session.key(
        "depth",
        picture.digest,
        cameras.intrinsics.tolist(),
        cameras.width,
        cameras.height,
        session.image,
        session.config.edges.width,
        slots=("depth",),
        code=(sharpen_depth,),
    )
    depth = session.value("depth", key, lambda: estimator(picture.frames.images[0]))
    if not depth.valid.any():
        raise ValueError(
            f"depth={session.config.depth.name} knows no pixel's depth of {picture.name}; "
            "choose another depth, or another picture"
        )
    return depth, key


def estimate_capture_depth(
    session: Session, picture: Picture, capture: Capture, estimator: DepthEstimator
) -> tuple[Depth, str]:
    """Estimate the depth of the input view of several frames, in the unit of known cameras.

    Args:
        session: The run.
        picture: The input view.
        capture: All frames.
        estimator: The depth estimator.

    Returns:
        The depth and the stage's key.

    Raises:
        ValueError: No pixel has a depth.
    """
    depth, key = estimate_depth(session, picture, estimator)
    if capture.trajectory.hint == "known":
        depth, key = align_depth(session, depth, capture, key)
    return depth, key


def align_depth(session: Session, depth: Depth, capture: Capture, key: str) -> tuple[Depth, str]:
    """Scale the input's depth to the unit of the supplied cameras, by triangulated points.

    Args:
        session: The run.
        depth: Depth of the input view.
        capture: All frames, with the supplied cameras.
        key: Key of the stage before.

    Returns:
        The depth, unchanged if too few points can be triangulated, and the stage's key.
    """
    key = session.key("depth", key, capture.digest, code=(scale_depth_to_cameras,))
    cameras = capture.trajectory.cameras

    def make() -> dict:
        aligned = scale_depth_to_cameras(depth, capture.frames, cameras, session.device)
        return {"aligned": aligned is not None, "depth": aligned or depth}

    result = session.value("depth", key, make, "aligned")
    if not result["aligned"]:
        session.note(
            "too few points of the input are found again with the given cameras, so its depth may "
            "have another unit than they have"
        )
    return result["depth"], key
