"""Rays, and the shapes that they can hit: boxes, balls and columns."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

Vector = tuple[float | int, float | int, float | int]
"""x, y and z in scene units."""
Coordinates = tuple[Tensor, Tensor, Tensor]
"""x, y and z as separate tensors."""
Texture = Callable[[Tensor, Tensor], Tensor]
"""Linear colours [point, 3] at surface coordinates u [point] and v [point], in scene units."""
FAR = 1e6
"""Distance of a ray that hits nothing."""

T = TypeVar("T")
"""A coordinate: a tensor or a number."""


def triple(values: Iterable[T]) -> tuple[T, T, T]:
    """Unpack exactly three values.

    Args:
        values: Three values.

    Returns:
        The values as a tuple.
    """
    x, y, z = values
    return x, y, z


@dataclass(frozen=True)
class Rays:
    """Rays, stored coordinate by coordinate so that casting is fast."""

    origin: Coordinates
    """The common origin (three scalars), or one origin per ray."""
    directions: Coordinates
    """Directions of any length above 0."""

    @cached_property
    def inverse(self) -> Coordinates:
        """1 / direction. Values near 0 are clamped."""
        return triple(1 / torch.where(d.abs() < 1e-9, 1e-9, d) for d in self.directions)

    @cached_property
    def abs_inverse(self) -> Coordinates:
        """Absolute value of 1 / direction."""
        return triple(inverse.abs() for inverse in self.inverse)

    @cached_property
    def squared_length(self) -> Tensor:
        """Squared lengths of the directions."""
        x, y, z = self.directions
        return x * x + y * y + z * z

    def origin_from(self, center: Vector) -> Coordinates:
        """Return the origin relative to a point.

        Args:
            center: The point.

        Returns:
            Coordinates of the origin.
        """
        return triple(o - c for o, c in zip(self.origin, center, strict=True))

    def rotated(self, radians: float, about: Vector) -> "Rays":
        """Rotate the rays about the upright axis through a point.

        Args:
            radians: Angle by which the object is rotated. The rays are expressed in its frame.
            about: A point on the axis.

        Returns:
            The rays in the object's frame.
        """
        c = math.cos(radians)
        s = math.sin(radians)
        x, y, z = self.origin_from(about)
        a, b, d = self.directions
        origin = (c * x - s * z + about[0], y + about[1], s * x + c * z + about[2])
        return Rays(origin, (c * a - s * d, b, s * a + c * d))

    def at(self, distance: Tensor) -> Tensor:
        """Return points along the rays.

        Args:
            distance: Distances in lengths of the directions, [ray].

        Returns:
            Points, [ray, 3].
        """
        return torch.stack(
            [o + distance * d for o, d in zip(self.origin, self.directions, strict=True)], dim=-1
        )

    def __getitem__(self, index: Tensor) -> "Rays":
        """Select rays by index or mask."""
        return Rays(
            triple(o[index] if o.ndim else o for o in self.origin),
            triple(d[index] for d in self.directions),
        )


@dataclass(frozen=True)
class Box:
    """A solid box, or a room that is seen from inside."""

    center: Vector
    """Centre of the box."""
    size: Vector
    """Side lengths along x, y and z before the rotation."""
    texture: Texture
    """Colour of the faces."""
    yaw: float = 0.0
    """Rotation about the upright axis through the centre, in degrees."""
    hollow: bool = False
    """Whether the box is a room that is seen from inside."""
    glow: float = 0.0
    """Fraction of the colour that does not depend on light, in [0, 1]."""

    @property
    def extent(self) -> float:
        """Radius of the bounding ball about the centre. Every shape has one."""
        return 0.5 * math.hypot(*self.size)

    def hit(self, rays: Rays) -> Tensor:
        """Intersect rays with the box.

        Args:
            rays: The rays.

        Returns:
            Distances in lengths of the directions. FAR for a miss.
        """
        rays = self._to_local(rays)
        enter = []
        leave = []
        for o, inverse, abs_inverse, size in zip(
            rays.origin_from(self.center), rays.inverse, rays.abs_inverse, self.size, strict=True
        ):
            center = o * inverse
            half = 0.5 * size * abs_inverse
            enter.append(-center - half)
            leave.append(half - center)
        far = torch.minimum(torch.minimum(leave[0], leave[1]), leave[2])
        if self.hollow:
            return far
        near = torch.maximum(torch.maximum(enter[0], enter[1]), enter[2])
        return torch.where((near < far) & (near > 0), near, FAR)

    def _to_local(self, rays: Rays) -> Rays:
        """Rotate the rays into the frame of the box."""
        return rays.rotated(math.radians(self.yaw), self.center) if self.yaw else rays

    def surface(self, rays: Rays, distance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Describe the surface where rays hit it.

        Args:
            rays: The rays.
            distance: Distances of the hits.

        Returns:
            Unit normals in the world, and the texture coordinates u and v.
        """
        angle = math.radians(self.yaw)
        local = self._to_local(rays).at(distance) - distance.new_tensor(self.center)
        relative = local / (0.5 * local.new_tensor(self.size))
        axis = relative.abs().argmax(-1)
        normal = torch.nn.functional.one_hot(axis, 3) * relative.sign() * (-1 if self.hollow else 1)
        c = math.cos(angle)
        s = math.sin(angle)
        x, y, z = normal.unbind(-1)
        normal = torch.stack([c * x + s * z, y, c * z - s * x], dim=-1)
        u = torch.where(axis == 0, local[:, 2], local[:, 0])
        v = torch.where(axis == 1, local[:, 2], local[:, 1])
        return normal, u, v


@dataclass(frozen=True)
class Ball:
    """A sphere, or the sky that is seen from inside.

    The texture of a sphere is projected from the front. The sky's texture uses azimuth and
    elevation.
    """

    center: Vector
    """Centre of the sphere."""
    radius: float
    """Radius in scene units."""
    texture: Texture
    """Colour of the surface."""
    hollow: bool = False
    """Whether the sphere is the sky that is seen from inside."""
    glow: float = 0.0
    """Fraction of the colour that does not depend on light, in [0, 1]."""

    @property
    def extent(self) -> float:
        """Radius of the bounding ball."""
        return self.radius

    def hit(self, rays: Rays) -> Tensor:
        """Intersect rays with the sphere. See `Box.hit`.

        Args:
            rays: The rays.
        """
        x, y, z = rays.origin_from(self.center)
        a = rays.squared_length
        b = x * rays.directions[0] + y * rays.directions[1] + z * rays.directions[2]
        root = b * b - a * (x * x + y * y + z * z - self.radius**2)
        if self.hollow:
            return (root.sqrt() - b) / a
        distance = (-b - root.clamp(min=0).sqrt()) / a
        return torch.where((root > 0) & (distance > 0), distance, FAR)

    def surface(self, rays: Rays, distance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Describe the surface where rays hit it. See `Box.surface`.

        Args:
            rays: The rays.
            distance: Distances of the hits in lengths of the directions, [ray].
        """
        local = (rays.at(distance) - distance.new_tensor(self.center)) / self.radius
        if self.hollow:
            x, y, z = local.unbind(-1)
            return -local, torch.atan2(x, z), torch.asin(y.clamp(-1, 1))
        u = local[:, 0] + 0.45 * local[:, 2]
        v = local[:, 1] + 0.25 * local[:, 2]
        return local, self.radius * u, self.radius * v


@dataclass(frozen=True)
class Column:
    """An upright round column with closed ends."""

    center: Vector
    """Centre of the column."""
    radius: float
    """Radius in scene units."""
    height: float
    """Height in scene units."""
    texture: Texture
    """Colour of the surface."""
    hollow: ClassVar[bool] = False
    """Columns are solid."""
    glow: float = 0.0
    """Fraction of the colour that does not depend on light, in [0, 1]."""

    @property
    def extent(self) -> float:
        """Radius of the bounding ball."""
        return math.hypot(self.radius, 0.5 * self.height)

    def hit(self, rays: Rays) -> Tensor:
        """Intersect rays with the column. See `Box.hit`.

        Args:
            rays: The rays.
        """
        x, y, z = rays.origin_from(self.center)
        dx, _, dz = rays.directions
        a = (dx * dx + dz * dz).clamp(min=1e-12)
        b = x * dx + z * dz
        root = b * b - a * (x * x + z * z - self.radius**2)
        half = root.clamp(min=0).sqrt()
        center = -y * rays.inverse[1]
        half_height = 0.5 * self.height * rays.abs_inverse[1]
        near = torch.maximum((-b - half) / a, center - half_height)
        far = torch.minimum((half - b) / a, center + half_height)
        return torch.where((root > 0) & (near < far) & (near > 0), near, FAR)

    def surface(self, rays: Rays, distance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Describe the surface where rays hit it. See `Box.surface`.

        Args:
            rays: The rays.
            distance: Distances of the hits in lengths of the directions, [ray].
        """
        x, y, z = (rays.at(distance) - distance.new_tensor(self.center)).unbind(-1)
        end = y.abs() > 0.5 * self.height - 1e-4
        zero = torch.zeros_like(x)
        side = torch.stack([x / self.radius, zero, z / self.radius], dim=-1)
        normal = torch.where(end[:, None], torch.stack([zero, y.sign(), zero], dim=-1), side)
        arc = self.radius * torch.atan2(x, -z)  # the seam is on the side away from the input
        return normal, torch.where(end, x, arc), torch.where(end, z, y)


Shape = Box | Ball | Column
"""Any shape of a scene."""
