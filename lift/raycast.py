"""Pictures and exact depth of scenes made of boxes, balls and columns, by casting rays.

It stands in for the real world: no Gaussians, no view dependence, the same on every machine. Axes as in `lift.types`: y is down.
Surfaces scatter light evenly (Lambert) from one lamp, with its shadows, and from all around.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from lift.types import Cameras, Frames

Vector = tuple[float, float, float]
Texture = Callable[[Tensor, Tensor], Tensor]
"""Linear colours [point 3] at surface coordinates u [point] and v [point], in scene units."""

FAR = 1e6
_SKIN = 2e-3
"""How far off its surface a shadow ray starts."""
_SAMPLES = ((0.0, 0.0), (0.125, 0.375), (-0.375, 0.125), (0.375, -0.125), (-0.125, -0.375))
"""Rays of a pixel, from its centre: the centre, whose depth is the pixel's, and a rotated grid."""
_TILE = 64
"""Side in pixels of the squares that a picture is cast in: small enough that most shapes cannot be met in one."""


@dataclass(frozen=True)
class Rays:
    """One origin, many directions, as separate coordinates: that is what keeps casting fast."""

    origin: tuple[Tensor, Tensor, Tensor]
    x: Tensor
    y: Tensor
    z: Tensor

    def turned(self, radians: float, about: Vector) -> "Rays":
        """As seen from an object at `about` that was turned about the upright axis."""
        x, y, z = (o - a for o, a in zip(self.origin, about, strict=True))
        if radians == 0:
            return Rays((x, y, z), self.x, self.y, self.z)
        c, s = math.cos(radians), math.sin(radians)
        return Rays((c * x - s * z, y, s * x + c * z), c * self.x - s * self.z, self.y, s * self.x + c * self.z)

    def at(self, distance: Tensor) -> Tensor:
        o = self.origin
        return torch.stack([o[0] + distance * self.x, o[1] + distance * self.y, o[2] + distance * self.z], dim=-1)

    def __getitem__(self, index: Tensor) -> "Rays":
        origin = tuple(o[index] if o.ndim else o for o in self.origin)
        return Rays(origin, self.x[index], self.y[index], self.z[index])


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
        local = rays.turned(math.radians(self.turn), self.center)
        near, far = None, None
        for o, d, size in zip(local.origin, (local.x, local.y, local.z), self.size, strict=True):
            inverse = 1 / torch.where(d.abs() < 1e-9, 1e-9, d)
            middle, half = -o * inverse, 0.5 * size * inverse.abs()
            first, last = middle - half, middle + half
            near = first if near is None else torch.maximum(near, first)
            far = last if far is None else torch.minimum(far, last)
        if self.hollow:
            return far
        return torch.where((near < far) & (near > 0), near, FAR)

    def surface(self, rays: Rays, distance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unit normals in the world, u and v."""
        angle = math.radians(self.turn)
        local = rays.turned(angle, self.center).at(distance)
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
        x, y, z = (o - c for o, c in zip(rays.origin, self.center, strict=True))
        a = rays.x * rays.x + rays.y * rays.y + rays.z * rays.z
        b = x * rays.x + y * rays.y + z * rays.z
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
        x, y, z = (o - c for o, c in zip(rays.origin, self.center, strict=True))
        a = (rays.x * rays.x + rays.z * rays.z).clamp(min=1e-12)
        b = x * rays.x + z * rays.z
        root = b * b - a * (x * x + z * z - self.radius**2)
        half = root.clamp(min=0).sqrt()
        inverse = 1 / torch.where(rays.y.abs() < 1e-9, 1e-9, rays.y)
        middle, tall = -y * inverse, 0.5 * self.height * inverse.abs()
        near, far = torch.maximum((-b - half) / a, middle - tall), torch.minimum((half - b) / a, middle + tall)
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
    `ambient`: the share of light that comes from all around."""

    shapes: tuple[Shape, ...]
    lamp: Vector
    warmth: Vector = (1.0, 1.0, 1.0)
    ambient: float = 0.4

    def within(self, origin: Vector, directions: Float[Tensor, "ray 3"]) -> list[int]:
        """The shapes that rays from one point can meet: those whose ball the cone about the rays touches, and the hollow ones."""
        directions = normalize(directions, dim=-1)
        axis = normalize(directions.mean(0), dim=-1)
        widest = math.acos(min(1.0, float((directions @ axis).min()))) + 1e-3
        found = []
        for index, shape in enumerate(self.shapes):
            offset = axis.new_tensor(shape.center) - axis.new_tensor(origin)
            far = float(offset.norm())
            if not shape.hollow and far > shape.extent:
                angle = math.acos(max(-1.0, min(1.0, float(offset @ axis) / far)))
                if angle > widest + math.asin(shape.extent / far):
                    continue
            found.append(index)
        return found

    def cast(self, rays: Rays, shapes: list[int]) -> tuple[Tensor, Int64[Tensor, "ray"]]:
        """Distance to the nearest surface and the index of its shape."""
        nearest, which = torch.full_like(rays.x, FAR), torch.zeros_like(rays.x, dtype=torch.int64)
        for index in shapes:
            distance = self.shapes[index].hit(rays)
            which.masked_fill_(distance < nearest, index)
            nearest = torch.minimum(nearest, distance)
        return nearest, which

    def lit(self, points: Tensor, normals: Tensor) -> Tensor:
        """Share of the lamp's light that arrives."""
        start = points + _SKIN * normals
        to_lamp = start.new_tensor(self.lamp) - start
        rays = Rays(tuple(start.unbind(-1)), *(c.contiguous() for c in to_lamp.unbind(-1)))
        slant = (normalize(to_lamp, dim=-1) * normals).sum(-1).clamp(min=0)
        blocked = torch.zeros_like(slant, dtype=torch.bool)
        for index in self.within(self.lamp, -to_lamp):
            shape = self.shapes[index]
            if not shape.hollow and shape.glow == 0:
                blocked |= shape.hit(rays) < 1
        return slant * ~blocked

    def colors(self, rays: Rays) -> tuple[Tensor, Tensor]:
        """Colours [ray 3] in [0, 1], ready to show, and distances."""
        origin = tuple(float(o) for o in rays.origin)
        distance, which = self.cast(rays, self.within(origin, torch.stack([rays.x, rays.y, rays.z], dim=-1)))
        albedo = torch.empty(len(distance), 3)
        normals = torch.empty(len(distance), 3)
        glow = torch.empty(len(distance), 1)
        for index in which.unique().tolist():
            shape = self.shapes[index]
            mine = (which == index).nonzero()[:, 0]
            normals[mine], u, v = shape.surface(rays[mine], distance[mine])
            albedo[mine] = shape.texture(u, v)
            glow[mine] = shape.glow
        light = self.lit(rays.at(distance), normals)[:, None] * albedo.new_tensor(self.warmth)
        sky = self.ambient * (1 - 0.25 * normals[:, 1:2])  # more from above: y is down
        shown = albedo * (glow + (1 - glow) * (sky + (1 - self.ambient) * light))
        return shown.clamp(0, 1) ** (1 / 2.2), distance


def picture(scene: Scene, camera: Cameras) -> tuple[Float[Tensor, "height width 3"], Float[Tensor, "height width"]]:
    """Colours averaged over each pixel, and z-depth along the ray through its centre, as one camera sees them."""
    width, height = camera.width, camera.height
    to_world = camera.camera_to_world[0].double().cpu()
    directions = (to_world[:3, :3] @ torch.linalg.inv(camera.intrinsics[0].double().cpu())).float()
    origin = tuple(to_world[:3, 3].float().unbind())
    offsets = torch.tensor(_SAMPLES)
    colors, depth = torch.empty(height, width, 3), torch.empty(height, width)
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            rows, columns = range(height)[top : top + _TILE], range(width)[left : left + _TILE]
            y = (torch.tensor(rows) + 0.5)[None, :, None] + offsets[:, 1, None, None]
            x = (torch.tensor(columns) + 0.5)[None, None] + offsets[:, 0, None, None]
            x, y = torch.broadcast_tensors(x, y)
            x, y = x.reshape(-1), y.reshape(-1)
            shown, distance = scene.colors(Rays(origin, *(d[0] * x + d[1] * y + d[2] for d in directions)))
            tile = (slice(top, rows.stop), slice(left, columns.stop))
            size = (len(offsets), len(rows), len(columns))
            colors[tile] = shown.view(*size, 3).mean(0)
            depth[tile] = distance.view(size)[0]  # directions have length 1 along the axis: distance along them is z-depth
    return colors, depth


def render(scene: Scene, cameras: Cameras) -> Frames:
    """What the cameras see, with exact depth. On the CPU, whatever the device of `cameras`."""
    pictures = [picture(scene, cameras[index]) for index in range(len(cameras))]
    images = torch.stack([(255 * colors).round().to(torch.uint8) for colors, _ in pictures])
    return Frames(images, torch.stack([depth for _, depth in pictures]))
