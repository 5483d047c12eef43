"""Checks of what components return, at the boundaries of the stages.

Each function takes a component's output and returns it unchanged. A check costs about as much as
one pass over the values. It runs before a stage is cached, so nothing is kept of a wrong output.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor

from lift.depths import DepthEstimator
from lift.planners import Planner
from lift.poses import PoseEstimator
from lift.priors import ClipRequest, VideoPrior
from lift.registry import ComponentError, catalogue
from lift.types import (
    Cameras,
    Clip,
    Depth,
    Frames,
    PointCloud,
    Reconstruction,
    Trajectory,
)

T = TypeVar("T")

_ROTATION_TOLERANCE = 1e-3
"""Largest deviation of a rotation times its transpose from the identity."""

RANGE_TOLERANCE = 1e-3
"""Rounding that colours, coverage and confidences may leave [0, 1] by."""

_CONTEXTS = ("all", "ancestors")
_KINDS = ("metric", "scale", "affine-invariant")


class OutputError(ComponentError):
    """A component returned something that the protocol of its slot does not allow."""


@dataclass(frozen=True)
class Output:
    """Checks the output of one component, and names it in messages."""

    component: str
    """Slot, name and class of the component."""

    @classmethod
    def of(cls, slot: str, component: Any) -> "Output":
        """Name a component by its slot, by the name that it is registered with and by its class.

        Args:
            slot: Slot of the component.
            component: The component.
        """
        kind = type(component)
        place = f"{kind.__module__}.{kind.__qualname__}"
        entries = catalogue().entries[slot].values()
        names = [e.name for e in entries if f"{e.module}.{e.qualname}" == place]
        return cls(f"{slot} {names[0]} ({place})" if names else f"{slot} {place}")

    def fail(self, field: str, found: str, expected: str) -> NoReturn:
        """Raise the error for a field.

        Args:
            field: What is wrong, such as `frames.images`.
            found: What it is, as the rest of `returned FIELD ...`.
            expected: What it should be.
        """
        raise OutputError(f"{self.component} returned {field} {found}; expected {expected}")

    def instance(self, value: Any, kind: type[T], field: str) -> T:
        """Check the type of a value.

        Args:
            value: The value.
            kind: The expected class.
            field: Name of the value.
        """
        if not isinstance(value, kind):
            self.fail(field, f"as {_describe(value)}", _type_name(kind))
        return value

    def integer(self, value: Any, low: int, field: str) -> None:
        """Check a whole number.

        Args:
            value: The value.
            low: Its smallest value.
            field: Name of the value.
        """
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            self.fail(field, f"as {value!r}", f"a whole number of at least {low}")

    def tensor(
        self,
        value: Any,
        shape: Sequence[int | str],
        field: str,
        dtype: torch.dtype = torch.float32,
        bounds: tuple[float, float] = (-math.inf, math.inf),
    ) -> None:
        """Check dtype, shape and values of a tensor. Floating-point values must be finite.

        Args:
            value: The value.
            shape: Expected shape. A name stands for any length.
            field: Name of the value.
            dtype: Expected dtype.
            bounds: Smallest and largest value.
        """
        expected = f"{_dtype_name(dtype)} {_format_shape(shape)}"
        if not isinstance(value, Tensor) or value.dtype != dtype or len(value.shape) != len(shape):
            self.fail(field, f"as {_describe(value)}", expected)
        if any(isinstance(e, int) and e != f for e, f in zip(shape, value.shape, strict=True)):
            self.fail(field, f"as {_describe(value)}", expected)
        if dtype.is_floating_point and value.numel():
            self._check_values(value.detach(), field, bounds)

    def _check_values(self, value: Tensor, field: str, bounds: tuple[float, float]) -> None:
        """Check that all values are finite and in range."""
        low, high = torch.stack(value.aminmax()).tolist()  # NaN and infinite if any value is
        if not (math.isfinite(low) and math.isfinite(high)):
            count = int((~value.isfinite()).sum())
            found = f"with {count} of {value.numel()} values NaN or infinite"
            self.fail(field, found, "finite values")
        if low < bounds[0] or high > bounds[1]:
            self.fail(field, f"with values from {low:g} to {high:g}", _format_bounds(bounds))


def check_prior(prior: VideoPrior) -> None:
    """Check the attributes of a prior that the stages read.

    Args:
        prior: The prior.
    """
    output = Output.of("prior", prior)
    if prior.clip_length is not None:
        output.integer(prior.clip_length, 1, "clip_length")
    output.integer(prior.input_multiple, 1, "input_multiple")
    output.integer(prior.num_recorded, 0, "num_recorded")
    output.integer(prior.batch_size, 1, "batch_size")
    if prior.context not in _CONTEXTS:
        output.fail("context", f"as {prior.context!r}", " or ".join(map(repr, _CONTEXTS)))


def check_trajectory(
    planner: Planner, trajectory: Any, camera: Cameras, clip_length: int | None
) -> Trajectory:
    """Check a planned trajectory.

    Args:
        planner: The planner.
        trajectory: What it returned.
        camera: The input camera.
        clip_length: Number of new frames per clip of the prior. None: any number.
    """
    output = Output.of("planner", planner)
    output.instance(trajectory, Trajectory, "a value")
    size = (camera.width, camera.height)
    check_cameras(output, trajectory.start, 1, size, "trajectory.start")
    for name, value in camera.tensors().items():
        if not getattr(trajectory.start, name).allclose(value):
            output.fail(f"trajectory.start.{name}", "that differs", "that of the input camera")
    output.instance(trajectory.clips, tuple, "trajectory.clips")
    if not trajectory.clips:
        output.fail("trajectory.clips", "without a clip", "at least one")
    for clip in trajectory.clips:
        output.instance(clip, Clip, "a clip")
        field = f"clip {clip.name!r}.cameras"
        count = "frame" if clip_length is None else clip_length
        check_cameras(output, clip.cameras, count, size, field)
    return trajectory


def check_cameras(
    output: Output, cameras: Any, count: int | str, size: tuple[int, int], field: str
) -> None:
    """Check the number, the size, the rotations and the focal lengths of cameras.

    Args:
        output: The component's output.
        cameras: The cameras.
        count: Expected number, or a name for any number of at least 1.
        size: Expected width and height of the pictures in pixels.
        field: Name of the cameras.
    """
    output.instance(cameras, Cameras, field)
    output.tensor(cameras.world_to_camera, (count, 4, 4), f"{field}.world_to_camera")
    number = len(cameras.world_to_camera)
    if not number:
        output.fail(field, "without a camera", "at least one")
    output.tensor(cameras.intrinsics, (number, 3, 3), f"{field}.intrinsics")
    if (cameras.width, cameras.height) != size:
        found = f"of pictures of {cameras.width} x {cameras.height} pixels"
        output.fail(field, found, f"{size[0]} x {size[1]}")
    _check_matrices(output, cameras, field)


def _check_matrices(output: Output, cameras: Cameras, field: str) -> None:
    """Check the rotations and the focal lengths of cameras of the right shape."""
    matrices = cameras.world_to_camera.detach()
    rotations = matrices[:, :3, :3]
    identity = torch.eye(3, device=rotations.device)
    deviation = (rotations @ rotations.mT - identity).abs().amax((1, 2))
    last_row = matrices.new_tensor([0.0, 0.0, 0.0, 1.0])
    is_rigid = (deviation <= _ROTATION_TOLERANCE) & (torch.linalg.det(rotations) > 0)
    is_rigid &= (matrices[:, 3] == last_row).all(-1)
    if not is_rigid.all():
        found = f"that is no rigid transform at camera {int((~is_rigid).nonzero()[0])}"
        output.fail(f"{field}.world_to_camera", found, "a rotation, a translation and 0 0 0 1")
    focal = cameras.intrinsics.detach()[:, [0, 1], [0, 1]]
    if not (focal > 0).all():
        found = f"with a focal length of {float(focal.min()):g} pixels"
        output.fail(f"{field}.intrinsics", found, "more than 0")


def check_depth(estimator: DepthEstimator, depth: Any, image: Tensor) -> Depth:
    """Check the depth of a picture. It must be finite and positive where it is valid.

    Args:
        estimator: The depth estimator.
        depth: What it returned.
        image: The picture [height width 3].
    """
    output = Output.of("depth", estimator)
    output.instance(depth, Depth, "a value")
    size = tuple(image.shape[:2])
    output.tensor(depth.valid, size, "depth.valid", torch.bool)
    valid = depth.valid
    values = depth.depth
    if isinstance(values, Tensor) and values.shape == valid.shape:  # others are named below
        values = values.where(valid, torch.ones_like(values))
    output.tensor(values, size, "depth.depth")
    if not (values > 0).all():
        found = f"with values down to {float(values.min()):g} where it is valid"
        output.fail("depth.depth", found, "more than 0")
    if depth.kind not in _KINDS:
        output.fail("depth.kind", f"as {depth.kind!r}", f"one of {', '.join(_KINDS)}")
    return depth


def check_clips(prior: VideoPrior, clips: Any, requests: Sequence[ClipRequest]) -> list[Frames]:
    """Check generated clips.

    Args:
        prior: The prior.
        clips: What `generate_batch` returned.
        requests: What it was called with.
    """
    output = Output.of("prior", prior)
    if not isinstance(clips, (list, tuple)):
        output.fail("a batch", f"as {_describe(clips)}", "a list of Frames")
    if len(clips) != len(requests):
        output.fail("a batch", f"of {len(clips)} clips", f"{len(requests)}, as it was called with")
    for frames, request in zip(clips, requests, strict=True):
        output.instance(frames, Frames, "a value")
        count = len(request.clip.cameras)
        height, width = request.frames.images.shape[1:3]
        output.tensor(frames.images, (count, height, width, 3), "frames.images", torch.uint8)
        if frames.depth is not None:
            bounds = (0.0, math.inf)
            output.tensor(frames.depth, (count, height, width), "frames.depth", bounds=bounds)
    return list(clips)


def check_true_cameras(prior: VideoPrior, cameras: Any, clip: Clip) -> Cameras | None:
    """Check the cameras that a prior says its frames really show.

    Args:
        prior: The prior.
        cameras: What `true_cameras` returned.
        clip: The clip.
    """
    if cameras is not None:
        size = (clip.cameras.width, clip.cameras.height)
        output = Output.of("prior", prior)
        check_cameras(output, cameras, len(clip.cameras), size, "true_cameras")
    return cameras


def check_reconstruction(
    pose: PoseEstimator, result: Any, frames: Frames, trajectory: Trajectory
) -> Reconstruction:
    """Check estimated cameras, depth and points.

    Args:
        pose: The pose estimator.
        result: What it returned.
        frames: All frames.
        trajectory: Their planned cameras.
    """
    output = Output.of("pose", pose)
    output.instance(result, Reconstruction, "a value")
    start = trajectory.start
    check_cameras(output, result.cameras, len(frames), (start.width, start.height), "cameras")
    first = result.cameras.world_to_camera[:1].to(start.world_to_camera)
    if not first.allclose(start.world_to_camera, atol=1e-5):
        expected = "the pose of the trajectory's start"
        output.fail("cameras.world_to_camera", "with another pose for camera 0", expected)
    shape = (len(frames), start.height, start.width)
    bounds = (-RANGE_TOLERANCE, 1 + RANGE_TOLERANCE)
    output.tensor(result.depth, shape, "depth", bounds=(0.0, math.inf))
    output.tensor(result.confidence, shape, "confidence", bounds=bounds)
    if result.tracks is not None:
        output.tensor(result.tracks, shape, "tracks", bounds=(0.0, math.inf))
    output.instance(result.points, PointCloud, "points")
    output.tensor(result.points.points, ("point", 3), "points.points")
    count = len(result.points.points)
    if not count:
        output.fail("points.points", "without a point", "at least one")
    output.tensor(result.points.colors, (count, 3), "points.colors", bounds=bounds)
    return result


def _describe(value: Any) -> str:
    """Describe a value in a few words: a tensor or an array by dtype and shape, others by type."""
    if isinstance(value, Tensor):
        return f"{_dtype_name(value.dtype)} {_format_shape(value.shape)}"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
        return f"{kind} {value.dtype} {_format_shape(value.shape)}"
    return "None" if value is None else _type_name(type(value))


def _type_name(kind: type) -> str:
    """Name a type, with its module unless that is `builtins` or belongs to `lift`."""
    module = kind.__module__
    own = module == "builtins" or module.partition(".")[0] == "lift"
    return kind.__qualname__ if own else f"{module}.{kind.__qualname__}"


def _dtype_name(dtype: torch.dtype) -> str:
    """Name a dtype as users know it."""
    return str(dtype).removeprefix("torch.")


def _format_shape(shape: Sequence[int | str]) -> str:
    """Format a shape as in `[16, 96, 96, 3]`."""
    return f"[{', '.join(map(str, shape))}]"


def _format_bounds(bounds: tuple[float, float]) -> str:
    """Format the range of values that is allowed."""
    low, high = (round(bound, 2) + 0.0 for bound in bounds)
    return f"at least {low:g}" if math.isinf(high) else f"values from {low:g} to {high:g}"
