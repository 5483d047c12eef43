"""What goes into a sampled clip and what comes out of it."""

from torch import Tensor

from lift.geometry import transform_cameras
from lift.priors import ClipRequest
from lift.types import Cameras


def clip_path(request: ClipRequest) -> Cameras:
    """Return the cameras of a clip relative to the frame that it continues.

    Args:
        request: The clip.

    Returns:
        The camera of the continued frame, which becomes the origin, and those of the new frames.
    """
    source = request.cameras[request.clip.source]
    cameras = Cameras.cat([source, request.clip.cameras])
    origin = source.world_to_camera[0]
    return transform_cameras(cameras, 1.0, origin[:3, :3], origin[:3, 3])


def require_finite(values: Tensor) -> Tensor:
    """Check that a sample has neither NaN nor infinite values.

    Args:
        values: A sample of any shape.

    Returns:
        The same tensor.

    Raises:
        ValueError: If a value is NaN or infinite. The message names settings that help.
    """
    if not bool(values.isfinite().all()):
        raise ValueError(
            "the generator's numbers are NaN or infinite; "
            "choose prior.precision=bfloat16 or float32, or a smaller prior.guidance_scale"
        )
    return values
