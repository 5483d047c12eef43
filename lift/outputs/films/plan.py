"""Plan the cameras of a film: framed, closed and within what frames observed."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from lift.camera_paths import scale_motion
from lift.config.film_schema import parse_aspect
from lift.geometry import quat_to_rotation, rigid, rotation_to_quat
from lift.outputs.films.framing import Frame, choose_frame
from lift.outputs.films.motions import Amplitude, Motion, describe_extent, extent, move
from lift.outputs.films.options import FilmOptions
from lift.outputs.view_region import (
    REQUIRED_COVERAGE,
    CoverageMeasure,
    ViewRegion,
    largest_fraction,
    measure_region,
)
from lift.types import Cameras

FLY_THROUGH = "fly-through"
"""Preset that follows the stored fly-through of the run."""

MEASURED_VIEWS = 16
"""Approximate number of views of a film whose coverage is measured."""

BISECTIONS = 5
"""Number of bisection steps for the factor on the motion."""

MAX_HOLES = 0.001
"""Largest part of a view without any surface, beyond that of the input view.

Holes open at the borders first, where they show as black corners.
"""

NOTED_FRACTION = 0.7
"""Fraction of the usual motion below which a note says that the motion was shrunk."""


@dataclass(frozen=True)
class FilmPlan:
    """The cameras of a film."""

    cameras: Cameras
    """One view for each frame of the film, with the film's size."""
    note: str | None = None
    """A sentence that says how much the motion was shrunk. None if it was hardly shrunk."""


def plan_film(
    options: FilmOptions,
    input_camera: Cameras,
    fly_through: Cameras,
    measure: CoverageMeasure,
    typical_depth: float,
) -> FilmPlan:
    """Plan a closed loop that starts near the input view and stays covered.

    Args:
        options: Preset, aspect, duration and size.
        input_camera: The input camera, one view.
        fly_through: Cameras of the stored fly-through. The first is the input's.
        measure: Measures the coverage of views of the scene.
        typical_depth: Distance of the subject if the input view shows no surface in its centre.

    Returns:
        The cameras, and a note if the motion had to be shrunk much.
    """
    frame = frame_of(options, input_camera, measure)
    start = frame.cut(input_camera)
    if options.preset == FLY_THROUGH:
        loop = frame.cut(resample_loop(fly_through, options.count))
        motion = min(options.motion, 1.0)  # frames observed nothing beyond its ends
        if options.aspect == "input" and motion == 1:
            return FilmPlan(loop)  # it was covered when the run made it
        factor = _covered_factor(
            measure, start, lambda factor: scale_motion(start, loop, factor * motion)
        )
        text = f"{100 * factor * motion:.0f} % of the run's"
        cameras = scale_motion(start, loop, factor * motion) if factor * motion < 1 else loop
        return FilmPlan(cameras, _note(FLY_THROUGH, factor, text))
    region = measure_region(measure, start, typical_depth, (start.width / 2, start.height / 2))
    amplitude = Amplitude.within(region, options.motion)

    def at(factor: float) -> Cameras:
        motion = move(options.preset, options.count, amplitude, factor)
        return _place(start, region, motion)

    factor = _covered_factor(measure, start, at)
    usual = extent(options.preset, Amplitude.full(min(options.motion, 1.0)), 1.0)
    fraction = extent(options.preset, amplitude, factor) / usual
    text = describe_extent(options.preset, amplitude, factor)
    return FilmPlan(at(factor), _note(options.preset, fraction, text))


def frame_of(options: FilmOptions, camera: Cameras, measure: CoverageMeasure | None) -> Frame:
    """Choose the part of the pictures that a film shows.

    Args:
        options: Aspect and size.
        camera: A camera with the size of the pictures, one view.
        measure: Gives the depth that tells the subject. None: the part is central.
    """
    aspect = parse_aspect(options.aspect)
    depth, opaque = None, None
    if aspect is not None and measure is not None:
        depth, opaque = (value[0].cpu() for value in measure.surface(camera))
    return choose_frame(camera.width, camera.height, aspect, options.size, depth, opaque)


def resample_loop(cameras: Cameras, count: int) -> Cameras:
    """Interpolate a closed path at evenly spaced times, smoothly (Catmull-Rom).

    Args:
        cameras: Views of the loop. The last leads to the first.
        count: New number of views.

    Returns:
        Cameras of the loop. The first stays. Intrinsics are those of the first.
    """
    total = len(cameras)
    if count == total:
        return cameras
    position = torch.arange(count, dtype=torch.float64) * total / count
    index = position.floor().long()
    weights = _catmull_rom(position - index)
    neighbours = (index[:, None] + torch.arange(-1, 3)) % total
    poses = cameras.camera_to_world.double()
    quats = rotation_to_quat(poses[:, :3, :3])[neighbours]
    # A quaternion and its negative are one rotation.
    sign = (quats * quats[:, 1:2]).sum(-1, keepdim=True).sign()
    quats = normalize((weights[..., None] * sign * quats).sum(1), dim=-1)
    centers = (weights[..., None] * poses[neighbours, :3, 3]).sum(1)
    rotation = quat_to_rotation(quats).mT
    views = rigid(rotation, -(rotation @ centers[..., None])[..., 0])
    return replace(
        cameras,
        world_to_camera=views.to(cameras.world_to_camera),
        intrinsics=cameras.intrinsics[:1].expand(count, 3, 3).clone(),
    )


def _catmull_rom(t: Float[Tensor, "view"]) -> Float[Tensor, "view 4"]:
    """Return the weights of the four views around a fraction of the way between two of them."""
    return 0.5 * torch.stack(
        [
            -t + 2 * t**2 - t**3,
            2 - 5 * t**2 + 3 * t**3,
            t + 4 * t**2 - 3 * t**3,
            -(t**2) + t**3,
        ],
        dim=-1,
    )


def _place(start: Cameras, region: ViewRegion, motion: Motion) -> Cameras:
    """Place the cameras of a motion. A zoom keeps the centre of the film."""
    cameras = region.cameras(
        start, motion.azimuth, motion.elevation, motion.distance * region.input_distance
    )
    zoom = torch.eye(3).repeat(len(motion.focal), 1, 1)
    zoom[:, 0, 0] = zoom[:, 1, 1] = motion.focal.float()
    zoom[:, 0, 2] = (1 - motion.focal.float()) * start.width / 2
    zoom[:, 1, 2] = (1 - motion.focal.float()) * start.height / 2
    return replace(cameras, intrinsics=zoom @ cameras.intrinsics)


def _covered_factor(
    measure: CoverageMeasure, start: Cameras, at: Callable[[float], Cameras]
) -> float:
    """Bisect the largest factor on a motion that keeps all views covered."""
    required = REQUIRED_COVERAGE * float(measure(start)[0])
    max_holes = _holes(measure, start) + MAX_HOLES

    def is_covered(factor: float) -> bool:
        cameras = at(factor)
        views = cameras[:: max(1, len(cameras) // MEASURED_VIEWS)]
        if float(measure(views).min()) < required:
            return False
        return all(_holes(measure, views[view]) <= max_holes for view in range(len(views)))

    return largest_fraction(is_covered, BISECTIONS)


def _holes(measure: CoverageMeasure, camera: Cameras) -> float:
    """Return the fraction of a view without any surface."""
    return 1 - float(measure.surface(camera)[1].float().mean())


def _note(preset: str, fraction: float, extent_text: str) -> str | None:
    """Say how much of the usual motion is left, if it is not most of it."""
    if fraction >= NOTED_FRACTION:
        return None
    return (
        f"the motion of {preset} is {100 * fraction:.0f} % of the usual one ({extent_text}), "
        "because views farther away show what no frame observed"
    )
