"""Find the region about the input view in which views stay covered by what frames observed.

A viewer limits its camera to the region, and films move within it. Outside, views show surfaces
that no frame observed: holes, smears and guesses.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lift.geometry import inverse_intrinsics, rigid, rotation_from_vector
from lift.outputs.coverage import Coverage
from lift.renderers import Renderer
from lift.types import Cameras, Gaussians

REQUIRED_COVERAGE = 0.92
"""Smallest coverage at a limit of one direction, as a fraction of the input view's coverage."""

REQUIRED_AT_CORNERS = 0.85
"""Smallest coverage where several limits meet, as a fraction of the input view's coverage."""

MAX_AZIMUTH = 60.0
"""Largest azimuth in degrees to either side, if views stay covered."""

MAX_ELEVATION = 45.0
"""Largest elevation in degrees, up or down, if views stay covered."""

DISTANCE_FACTORS = (0.4, 1.6)
"""Smallest and largest distance as a fraction of the input's, if views stay covered."""

BISECTIONS = 5
"""Number of bisection steps for each limit, after the measurement at the largest value."""

CORNER_BISECTIONS = 4
"""Number of bisection steps for the common factor that corners need."""

CENTRAL_PART = 0.5
"""Part of the input's width and height whose median depth is the distance of the target."""

CLEARANCE = 0.8
"""Largest forward motion as a fraction of the way to the nearest surfaces in front."""

NEAREST_QUANTILE = 0.02
"""Quantile of the input's depth that counts as that of the nearest surfaces."""

REGION_FRAMES = 24
"""Largest number of frames that the region is measured with, where no coverage is given."""

Range = tuple[float, float]
"""Smallest and largest value."""


@runtime_checkable
class CoverageMeasure(Protocol):
    """Measures views of one scene. `Coverage` is one."""

    def __call__(self, cameras: Cameras) -> Float[Tensor, "view"]:
        """Measure the coverage of views in [0, 1]."""
        ...

    def surface(self, camera: Cameras) -> tuple[Tensor, Tensor]:
        """Render the depth [1 height width] of one view, and where it is opaque."""
        ...


@dataclass(frozen=True)
class ViewRegion:
    """Limits of a camera that orbits a target, relative to the input camera.

    The camera moves rigidly about the target, which keeps its place in the picture. Azimuth turns
    about the y axis of the input camera, elevation about the x axis of the turned camera. Azimuth
    0, elevation 0 and `input_distance` give the input view.
    """

    target: tuple[float, float, float]
    """Point on the optical axis of the input camera, in scene units in the world."""
    input_distance: float
    """Distance of the input camera from the target in scene units."""
    azimuth: Range
    """Limits in degrees, with 0 between them. Positive values move the camera to its right."""
    elevation: Range
    """Limits in degrees, with 0 between them. Positive values move the camera up."""
    distance: Range
    """Limits of the distance from the target in scene units, `input_distance` between them."""
    coverage: float
    """Smallest coverage in [0, 1] where limits meet."""

    def cameras(
        self,
        input_camera: Cameras,
        azimuth: Float[Tensor, "view"],
        elevation: Float[Tensor, "view"],
        distance: Float[Tensor, "view"],
    ) -> Cameras:
        """Place cameras about the target.

        Args:
            input_camera: The input camera, one view. Its intrinsics are used.
            azimuth: Degrees to the right.
            elevation: Degrees up.
            distance: Distance from the target in scene units, above 0.

        Returns:
            One camera for each value. Values outside of the limits are not changed.
        """
        target = torch.tensor(self.target, dtype=torch.float64)
        return orbit_about(input_camera, target, azimuth, elevation, distance / self.input_distance)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of view_region.json: numbers, and lists of numbers."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "ViewRegion":
        """Read what `to_dict` returned.

        Args:
            content: The content of view_region.json.

        Raises:
            ValueError: A value is missing, or is not as many finite numbers as it has to be.
        """
        lengths = {"target": 3, "azimuth": 2, "elevation": 2, "distance": 2}
        values: dict[str, Any] = {}
        for name in cls.__dataclass_fields__:
            count = lengths.get(name)
            value = content.get(name)
            numbers: Any = value if count else [value]
            if not isinstance(numbers, list) or len(numbers) != (count or 1):
                raise ValueError(f"{name} is {value!r}; a view region has {count or 1} numbers")
            if not all(map(_is_finite, numbers)):
                raise ValueError(f"{name} is {value!r}; a view region has finite numbers")
            values[name] = tuple(map(float, numbers)) if count else float(numbers[0])
        return cls(**values)


def covered_region(
    renderer: Renderer,
    gaussians: Gaussians,
    cameras: Cameras,
    typical_depth: float,
    coverage: CoverageMeasure | None = None,
    input_camera: Cameras | None = None,
) -> ViewRegion:
    """Find how far a camera can orbit the scene's subject before views lose coverage.

    Each direction is bisected on its own until the coverage falls below `REQUIRED_COVERAGE` of the
    input view's. Then the limits shrink together until all corners of the region keep
    `REQUIRED_AT_CORNERS`. A scene without motion has a region without extent.

    Args:
        renderer: Renders the scene's depth.
        gaussians: The canonical scene.
        cameras: Cameras of the training frames, the input first.
        typical_depth: Depth of the target where the input view shows no surface in its centre.
        coverage: Measures views of this scene. None: made from the arguments above.
        input_camera: The view to start from, one view. None: the first of `cameras`.

    Returns:
        The region.
    """
    measure = coverage or Coverage(
        renderer, gaussians, cameras, long_side=64, max_frames=REGION_FRAMES
    )
    camera = cameras[:1] if input_camera is None else input_camera
    return measure_region(measure, camera, typical_depth)


def measure_region(
    measure: CoverageMeasure,
    camera: Cameras,
    typical_depth: float,
    target_pixel: tuple[float, float] | None = None,
) -> ViewRegion:
    """Find how far a camera can orbit a point before views lose coverage. See `covered_region`.

    Args:
        measure: Measures views of the scene.
        camera: The view to start from, one view.
        typical_depth: Depth of the target where the view shows no surface in its centre.
        target_pixel: Position (x, y) in the view at which the target lies. None: on the optical
            axis.

    Returns:
        The region.
    """
    camera = camera.to("cpu")
    depth, nearest = _subject_depth(measure, camera, typical_depth)
    target = _point_at(camera, target_pixel, depth)
    target_distance = float((target - camera.centers[0]).norm())
    start = ViewRegion(
        (float(target[0]), float(target[1]), float(target[2])),
        target_distance,
        (0.0, 0.0),
        (0.0, 0.0),
        (target_distance, target_distance),
        float(measure(camera)[0]),
    )
    closest = max(DISTANCE_FACTORS[0], 1 - CLEARANCE * nearest / depth)
    reach = {
        "azimuth": (-MAX_AZIMUTH, MAX_AZIMUTH),
        "elevation": (-MAX_ELEVATION, MAX_ELEVATION),
        "distance": (min(closest, 1.0) - 1, DISTANCE_FACTORS[1] - 1),
    }
    limits = {
        name: (
            _limit(measure, camera, start, name, low),
            _limit(measure, camera, start, name, high),
        )
        for name, (low, high) in reach.items()
    }
    return _fit_corners(measure, camera, start, limits)


def orbit_about(
    camera: Cameras,
    target: Float[Tensor, "3"],
    azimuth: Float[Tensor, "view"],
    elevation: Float[Tensor, "view"],
    distance_factor: Float[Tensor, "view"],
) -> Cameras:
    """Move a camera rigidly about a point, which keeps its place in the picture.

    Args:
        camera: The camera, one view.
        target: The point in the world.
        azimuth: Degrees to the right, about the camera's y axis.
        elevation: Degrees up, about the x axis of the turned camera.
        distance_factor: New distance from the point as a fraction of the camera's own, above 0.

    Returns:
        One camera for each value, with the camera's intrinsics and float type.
    """
    pose = camera.world_to_camera[0].double().cpu()
    pivot = pose[:3, :3] @ target.double().cpu() + pose[:3, 3]
    zero = torch.zeros_like(azimuth, dtype=torch.float64)
    turn = torch.stack([zero, azimuth.double().deg2rad(), zero], dim=-1)
    climb = torch.stack([elevation.double().deg2rad(), zero, zero], dim=-1)
    # Camera coordinates of a world that turns against the motion of the camera.
    rotation = rotation_from_vector(climb) @ rotation_from_vector(turn)
    translation = distance_factor.double()[:, None] * pivot - rotation @ pivot
    count = len(azimuth)
    return replace(
        camera,
        world_to_camera=(rigid(rotation, translation) @ pose).to(camera.world_to_camera),
        intrinsics=camera.intrinsics.expand(count, 3, 3).clone(),
    )


def _is_finite(value: Any) -> bool:
    """Whether a value of a JSON file is a finite number."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and abs(value) < float("inf")
    )


def _point_at(
    camera: Cameras, pixel: tuple[float, float] | None, depth: float
) -> Float[Tensor, "3"]:
    """Return the point in the world at a pixel and a depth. Without a pixel, on the axis."""
    ray = torch.tensor([0.0, 0.0, 1.0])
    if pixel is not None:
        ray = inverse_intrinsics(camera)[0] @ ray.new_tensor([*pixel, 1.0])
    pose = camera.camera_to_world[0]
    return pose[:3, :3] @ (depth * ray) + pose[:3, 3]


def _subject_depth(
    measure: CoverageMeasure, camera: Cameras, typical_depth: float
) -> tuple[float, float]:
    """Return the median depth of the picture's centre and the depth of the nearest surfaces."""
    depth, opaque = (value[0].cpu() for value in measure.surface(camera))
    height, width = depth.shape
    rows, columns = (
        slice(round(side * (1 - CENTRAL_PART) / 2), round(side * (1 + CENTRAL_PART) / 2))
        for side in (height, width)
    )
    central = depth[rows, columns][opaque[rows, columns]]
    subject = float(central.median()) if len(central) else typical_depth
    surfaces = depth[opaque].numpy()
    nearest = float(np.quantile(surfaces, NEAREST_QUANTILE)) if len(surfaces) else typical_depth
    return subject, nearest


def _view(
    camera: Cameras, start: ViewRegion, azimuth: float, elevation: float, distance: float
) -> Cameras:
    """Place one camera. `distance` is relative: -0.5 is half of the input's distance."""
    angles = torch.tensor([azimuth, elevation], dtype=torch.float64)
    length = torch.tensor([start.input_distance * (1 + distance)], dtype=torch.float64)
    return start.cameras(camera, angles[:1], angles[1:], length)


def _limit(
    measure: CoverageMeasure, camera: Cameras, start: ViewRegion, name: str, reach: float
) -> float:
    """Bisect how far one of azimuth, elevation and relative distance may go towards `reach`."""

    def is_covered(fraction: float) -> bool:
        step = {"azimuth": 0.0, "elevation": 0.0, "distance": 0.0, name: fraction * reach}
        view = _view(camera, start, **step)
        return float(measure(view)[0]) >= REQUIRED_COVERAGE * start.coverage

    return reach * largest_fraction(is_covered, BISECTIONS)


def _fit_corners(
    measure: CoverageMeasure, camera: Cameras, start: ViewRegion, limits: dict[str, Range]
) -> ViewRegion:
    """Shrink all limits by one factor until views are covered where three limits meet."""
    corners = [
        (azimuth, elevation, distance)
        for azimuth in limits["azimuth"]
        for elevation in limits["elevation"]
        for distance in limits["distance"]
    ]
    smallest = start.coverage

    def are_covered(factor: float) -> bool:
        nonlocal smallest
        values = []
        for corner in corners:
            view = _view(camera, start, *(factor * value for value in corner))
            values.append(float(measure(view)[0]))
            if values[-1] < REQUIRED_AT_CORNERS * start.coverage:
                return False
        smallest = min(values)
        return True

    factor = largest_fraction(are_covered, CORNER_BISECTIONS)
    scaled = {name: (factor * low, factor * high) for name, (low, high) in limits.items()}
    near, far = (start.input_distance * (1 + value) for value in scaled["distance"])
    return replace(
        start,
        azimuth=scaled["azimuth"],
        elevation=scaled["elevation"],
        distance=(near, far),
        coverage=smallest,
    )


def largest_fraction(is_covered: Callable[[float], bool], steps: int) -> float:
    """Bisect the largest fraction in [0, 1] that is covered, if smaller ones are covered, too.

    Args:
        is_covered: Tells whether views are covered at a fraction of the motion.
        steps: Number of bisection steps after the measurement at 1.

    Returns:
        A fraction that is covered, at most 2^-steps below the largest. 0 is not measured.
    """
    if is_covered(1.0):
        return 1.0
    low = 0.0
    high = 1.0
    for _ in range(steps):
        middle = (low + high) / 2
        if is_covered(middle):
            low = middle
        else:
            high = middle
    return low
