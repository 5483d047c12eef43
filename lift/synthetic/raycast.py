"""Pictures and exact depth of scenes made of boxes, balls and columns, by casting rays.

It stands in for the real world: no Gaussians, no view dependence, the same on every machine. Axes as in `lift.types`: y is down.
Surfaces scatter light evenly (Lambert) from one lamp, with its shadows, and from all around.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from lift.geometry import pixel_centers
from lift.runtime.parallel import each
from lift.types import Cameras, Frames

Vector = tuple[float | int, float | int, float | int]
Coordinates = tuple[Tensor, Tensor, Tensor]
Texture = Callable[[Tensor, Tensor], Tensor]
"""Linear colours [point 3] at surface coordinates u [point] and v [point], in scene units."""

FAR = 1e6
_SKIN = 2e-3
"""How far off its surface a shadow ray starts."""
_AROUND = ((0.125, 0.375), (-0.375, 0.125), (0.375, -0.125), (-0.125, -0.375))
"""Further rays of a pixel, from its centre: a rotated grid."""
_CONTRAST = 0.03
"""Difference to a neighbour from which on a pixel gets them."""
_TILE = 128
"""Side in pixels of the squares that a picture is cast in: most shapes cannot be met in one, and its numbers fit the cache."""


@dataclass(frozen=True)
class Rays:
    """Coordinate by coordinate, which keeps casting fast: the origin of all (three scalars) or of each, and the directions."""

    origin: Coordinates
    toward: Coordinates

    @cached_property
    def inverse(self) -> Coordinates:
        return tuple(1 / torch.where(d.abs() < 1e-9, 1e-9, d) for d in self.toward)

    @cached_property
    def steepness(self) -> Coordinates:
        return tuple(inverse.abs() for inverse in self.inverse)

    @cached_property
    def square(self) -> Tensor:
        x, y, z = self.toward
        return x * x + y * y + z * z

    def local(self, center: Vector) -> Coordinates:
        """The origin as seen from `center`."""
        return tuple(o - c for o, c in zip(self.origin, center, strict=True))

    def turned(self, radians: float, about: Vector) -> "Rays":
        """As seen by an object that was turned about the upright axis through `about`."""
        c, s = math.cos(radians), math.sin(radians)
        (x, y, z), (a, b, d) = self.local(about), self.toward
        origin = (c * x - s * z + about[0], y + about[1], s * x + c * z + about[2])
        return Rays(origin, (c * a - s * d, b, s * a + c * d))

    def at(self, distance: Tensor) -> Tensor:
        return torch.stack(
            [o + distance * d for o, d in zip(self.origin, self.toward, strict=True)], dim=-1
        )

    def __getitem__(self, index: Tensor) -> "Rays":
        return Rays(
            tuple(o[index] if o.ndim else o for o in self.origin),
            tuple(d[index] for d in self.toward),
        )


@dataclass(frozen=True)
class Box:
    """Solid, or `hollow`: a room seen from within. `turn`: degrees about the upright axis through its centre."""

    center: Vector
    size: Vector
    texture: Texture
    turn: float = 0.0
    hollow: bool = False
    glow: float = 0.0
    """Share of its colour that it shows whatever the light."""

    @property
    def extent(self) -> float:
        """Radius of a ball about its centre that holds it; every shape has one."""
        return 0.5 * math.hypot(*self.size)

    def hit(self, rays: Rays) -> Tensor:
        """Distances along the rays in lengths of their directions; FAR where they miss."""
        rays = self._own(rays)
        enter, leave = [], []
        for o, inverse, steepness, size in zip(
            rays.local(self.center), rays.inverse, rays.steepness, self.size, strict=True
        ):
            middle, half = o * inverse, 0.5 * size * steepness
            enter.append(-middle - half)
            leave.append(half - middle)
        far = torch.minimum(torch.minimum(leave[0], leave[1]), leave[2])
        if self.hollow:
            return far
        near = torch.maximum(torch.maximum(enter[0], enter[1]), enter[2])
        return torch.where((near < far) & (near > 0), near, FAR)

    def _own(self, rays: Rays) -> Rays:
        return rays.turned(math.radians(self.turn), self.center) if self.turn else rays

    def surface(self, rays: Rays, distance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unit normals in the world, u and v."""
        angle = math.radians(self.turn)
        local = self._own(rays).at(distance) - distance.new_tensor(self.center)
        share = local / (0.5 * local.new_tensor(self.size))
        axis = share.abs().argmax(-1)
        normal = torch.nn.functional.one_hot(axis, 3) * share.sign() * (-1 if self.hollow else 1)
        c, s = math.cos(angle), math.sin(angle)
        x, y, z = normal.unbind(-1)
        normal = torch.stack([c * x + s * z, y, c * z - s * x], dim=-1)
        u = torch.where(axis == 0, local[:, 2], local[:, 0])
        v = torch.where(axis == 1, local[:, 2], local[:, 1])
        return normal, u, v


@dataclass(frozen=True)
class Ball:
    """A sphere, or `hollow`: the sky. Its texture lies on it like light from a projector in front, or by azimuth and elevation."""

    center: Vector
    radius: float
    texture: Texture
    hollow: bool = False
    glow: float = 0.0

    @property
    def extent(self) -> float:
        return self.radius

    def hit(self, rays: Rays) -> Tensor:
        (x, y, z), a = rays.local(self.center), rays.square
        b = x * rays.toward[0] + y * rays.toward[1] + z * rays.toward[2]
        root = b * b - a * (x * x + y * y + z * z - self.radius**2)
        if self.hollow:
            return (root.sqrt() - b) / a
        distance = (-b - root.clamp(min=0).sqrt()) / a
        return torch.where((root > 0) & (distance > 0), distance, FAR)

    def surface(self, rays: Rays, distance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        local = (rays.at(distance) - distance.new_tensor(self.center)) / self.radius
        if self.hollow:
            x, y, z = local.unbind(-1)
            return -local, torch.atan2(x, z), torch.asin(y.clamp(-1, 1))
        u = local[:, 0] + 0.45 * local[:, 2]
        v = local[:, 1] + 0.25 * local[:, 2]
        return local, self.radius * u, self.radius * v


@dataclass(frozen=True)
class Column:
    """An upright round column, closed above."""

    center: Vector
    radius: float
    height: float
    texture: Texture
    hollow: ClassVar[bool] = False
    glow: float = 0.0

    @property
    def extent(self) -> float:
        return math.hypot(self.radius, 0.5 * self.height)

    def hit(self, rays: Rays) -> Tensor:
        (x, y, z), (dx, _, dz) = rays.local(self.center), rays.toward
        a = (dx * dx + dz * dz).clamp(min=1e-12)
        b = x * dx + z * dz
        root = b * b - a * (x * x + z * z - self.radius**2)
        half = root.clamp(min=0).sqrt()
        middle, tall = -y * rays.inverse[1], 0.5 * self.height * rays.steepness[1]
        near, far = (
            torch.maximum((-b - half) / a, middle - tall),
            torch.minimum((half - b) / a, middle + tall),
        )
        return torch.where((root > 0) & (near < far) & (near > 0), near, FAR)

    def surface(self, rays: Rays, distance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, y, z = (rays.at(distance) - distance.new_tensor(self.center)).unbind(-1)
        end = y.abs() > 0.5 * self.height - 1e-4
        none = torch.zeros_like(x)
        side = torch.stack([x / self.radius, none, z / self.radius], dim=-1)
        normal = torch.where(end[:, None], torch.stack([none, y.sign(), none], dim=-1), side)
        around = self.radius * torch.atan2(x, -z)  # the seam is behind, as seen from the input
        return normal, torch.where(end, x, around), torch.where(end, z, y)


Shape = Box | Ball | Column


@dataclass(frozen=True)
class Scene:
    """`shapes` must enclose the cameras, so that every ray ends somewhere. `lamp`: where the light is. `warmth`: its colour.
    `ambient`: the share of light that comes from all around.
    """

    shapes: tuple[Shape, ...]
    lamp: Vector
    warmth: Vector = (1.0, 1.0, 1.0)
    ambient: float = 0.4

    def within(self, origin: Vector, directions: Float[Tensor, "ray 3"]) -> list[int]:
        """The shapes that rays from one point can meet: those whose ball the cone about the rays touches, and the hollow ones."""
        directions = normalize(directions, dim=-1)
        axis = normalize(directions.mean(0), dim=-1)
        widest = (directions @ axis).min().clamp(-1, 1).acos() + 1e-3
        centers, extents = self._balls
        offsets = centers - centers.new_tensor(origin)
        far = offsets.norm(dim=-1)
        angle = (offsets @ axis / far).clamp(-1, 1).acos() - (extents / far).clamp(max=1).asin()
        return ((angle <= widest) | (far <= extents)).nonzero()[:, 0].tolist()

    @cached_property
    def _balls(self) -> tuple[Tensor, Tensor]:
        extents = [math.inf if shape.hollow else shape.extent for shape in self.shapes]
        centers = torch.tensor([shape.center for shape in self.shapes], dtype=torch.float32)
        return centers, torch.tensor(extents, dtype=torch.float32)

    def cast(self, rays: Rays, shapes: list[int]) -> tuple[Tensor, Int64[Tensor, "ray"]]:
        """Distance to the nearest surface and the index of its shape."""
        nearest, which = (
            torch.full_like(rays.square, FAR),
            torch.zeros_like(rays.square, dtype=torch.int64),
        )
        for index in shapes:
            distance = self.shapes[index].hit(rays)
            which.masked_fill_(distance < nearest, index)
            nearest = torch.minimum(nearest, distance)
        return nearest, which

    def lit(self, points: Tensor, normals: Tensor) -> Tensor:
        """Share of the lamp's light that arrives."""
        start = points + _SKIN * normals
        to_lamp = start.new_tensor(self.lamp) - start
        slant = (normalize(to_lamp, dim=-1) * normals).sum(-1).clamp(min=0)
        facing = (slant > 0).nonzero()[:, 0]
        if len(facing) == 0:
            return slant
        start, to_lamp = start[facing], to_lamp[facing]
        rays = Rays(tuple(start.T.contiguous()), tuple(to_lamp.T.contiguous()))
        blocked = torch.zeros_like(facing, dtype=torch.bool)
        for index in self.within(self.lamp, -to_lamp):
            shape = self.shapes[index]
            if not shape.hollow and shape.glow == 0:
                blocked |= shape.hit(rays) < 1
        slant[facing] *= ~blocked
        return slant

    def colors(
        self, rays: Rays
    ) -> tuple[Float[Tensor, "ray 3"], Float[Tensor, "ray"], Int64[Tensor, "ray"]]:
        """Colours in [0, 1], ready to show, distances, and the shapes' indices."""
        origin = tuple(float(o) for o in rays.origin)
        distance, which = self.cast(rays, self.within(origin, torch.stack(rays.toward, dim=-1)))
        albedo = torch.empty(len(distance), 3)
        normals = torch.empty(len(distance), 3)
        glow = torch.empty(len(distance), 1)
        for index in which.unique().tolist():
            shape = self.shapes[index]
            mine = (which == index).nonzero()[:, 0]
            normals[mine], u, v = shape.surface(rays[mine], distance[mine])
            albedo[mine] = shape.texture(u, v)
            glow[mine] = shape.glow
        light = torch.zeros(len(distance), 1)
        dim = (glow[:, 0] < 1).nonzero()[:, 0]
        light[dim, 0] = self.lit(rays[dim].at(distance[dim]), normals[dim])
        light = light * albedo.new_tensor(self.warmth)
        sky = self.ambient * (1 - 0.25 * normals[:, 1:2])  # more from above: y is down
        shown = albedo * (glow + (1 - glow) * (sky + (1 - self.ambient) * light))
        return shown.clamp(0, 1) ** (1 / 2.2), distance, which


def picture(
    scene: Scene, camera: Cameras
) -> tuple[Float[Tensor, "height width 3"], Float[Tensor, "height width"]]:
    """Colours averaged over each pixel, and z-depth along the ray through its centre, as one camera sees them.

    Every pixel gets one ray; those that differ from a neighbour in colour or in what they show get four more.
    """
    size = (camera.height, camera.width)
    to_world = camera.camera_to_world[0].double().cpu()
    directions = (to_world[:3, :3] @ torch.linalg.inv(camera.intrinsics[0].double().cpu())).float()
    origin = tuple(to_world[:3, 3].float().unbind())

    def cast(pixels: Float[Tensor, "ray 2"]) -> tuple[Tensor, Tensor, Tensor]:
        x, y = pixels.T.contiguous()
        return scene.colors(Rays(origin, tuple(d[0] * x + d[1] * y + d[2] for d in directions)))

    pixels = pixel_centers(camera.width, camera.height)
    colors, depth, which = (
        torch.empty(*size, 3),
        torch.empty(size),
        torch.empty(size, dtype=torch.int64),
    )
    tiles = [
        (slice(y, y + _TILE), slice(x, x + _TILE))
        for y in range(0, size[0], _TILE)
        for x in range(0, size[1], _TILE)
    ]
    for tile in tiles:
        block = pixels[tile]
        shown, distance, index = cast(block.reshape(-1, 2))
        colors[tile], which[tile] = shown.view(block.shape[:2] + (3,)), index.view(block.shape[:2])
        depth[tile] = distance.view(
            block.shape[:2]
        )  # directions have length 1 along the axis: distance along them is z-depth
    busy = _differs(colors, which)
    for tile in tiles:
        chosen = busy[tile].nonzero(as_tuple=True)
        if len(chosen[0]):
            around = pixels[tile][chosen] + torch.tensor(_AROUND)[:, None]
            shown = cast(around.reshape(-1, 2))[0].view(len(_AROUND), -1, 3)
            colors[tile][chosen] = (colors[tile][chosen] + shown.sum(0)) / (1 + len(_AROUND))
    return colors, depth


def _differs(
    colors: Float[Tensor, "height width 3"], which: Int64[Tensor, "height width"]
) -> Bool[Tensor, "height width"]:
    """Whether a pixel differs from one beside, above or below it."""
    busy = torch.zeros_like(which, dtype=torch.bool)
    for axis in (0, 1):
        changed = (colors.diff(dim=axis).abs().amax(-1) > _CONTRAST) | (which.diff(dim=axis) != 0)
        count = changed.shape[axis]
        busy.narrow(axis, 0, count).logical_or_(changed)
        busy.narrow(axis, 1, count).logical_or_(changed)
    return busy


def render(scene: Scene, cameras: Cameras) -> Frames:
    """What the cameras see, with exact depth. On the CPU, whatever the device of `cameras`."""
    pictures = each(lambda index: picture(scene, cameras[index]), range(len(cameras)))
    images = torch.stack([(255 * colors).round().to(torch.uint8) for colors, _ in pictures])
    return Frames(images, torch.stack([depth for _, depth in pictures]))
