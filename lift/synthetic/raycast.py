"""Ray-cast pictures and exact depth of scenes made of boxes, balls and columns.

These scenes stand in for the real world. They have no view-dependent colour and are the same on
every machine. Axes are as in `lift.types`: y is down. Surfaces are Lambertian. They are lit by one
lamp that casts shadows, and by ambient light.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from lift.geometry import pixel_centers
from lift.runtime.parallel import parallel_map
from lift.synthetic.shapes import FAR, Rays, Shape, Vector, triple
from lift.types import Cameras, Frames

_SHADOW_OFFSET = 2e-3
"""Distance from its surface at which a shadow ray starts, in scene units."""
_SAMPLE_OFFSETS = ((0.125, 0.375), (-0.375, 0.125), (0.375, -0.125), (-0.125, -0.375))
"""Offsets of a pixel's further rays from its centre: a rotated grid."""
_CONTRAST = 0.03
"""Difference to a neighbour above which a pixel gets further rays."""
_TILE = 128
"""Side in pixels of the tiles in which a picture is cast.

Rays of one tile can hit only a few shapes, and the tensors of a tile fit the cache.
"""


@dataclass(frozen=True)
class RayCastScene:
    """Shapes and light."""

    shapes: tuple[Shape, ...]
    """Shapes that enclose the cameras, so that every ray hits one."""
    lamp: Vector
    """Position of the lamp."""
    warmth: Vector = (1.0, 1.0, 1.0)
    """Colour of the lamp's light."""
    ambient: float = 0.4
    """Fraction of light that is ambient, in [0, 1]."""

    def visible_shapes(self, origin: Vector, directions: Float[Tensor, "ray 3"]) -> list[int]:
        """Find the shapes that rays from one point can hit.

        These are the shapes whose bounding ball touches the cone about the rays, and the hollow
        ones.

        Args:
            origin: The common origin of the rays.
            directions: Directions of any length above 0.

        Returns:
            Indices of shapes.
        """
        directions = normalize(directions, dim=-1)
        axis = normalize(directions.mean(0), dim=-1)
        cone = (directions @ axis).min().clamp(-1, 1).acos() + 1e-3
        centers, extents = self._balls
        offsets = centers - centers.new_tensor(origin)
        far = offsets.norm(dim=-1)
        angle = (offsets @ axis / far).clamp(-1, 1).acos() - (extents / far).clamp(max=1).asin()
        return ((angle <= cone) | (far <= extents)).nonzero()[:, 0].tolist()

    @cached_property
    def _balls(self) -> tuple[Tensor, Tensor]:
        """Centres and radii of the bounding balls. Infinite radii for hollow shapes."""
        extents = [math.inf if shape.hollow else shape.extent for shape in self.shapes]
        centers = torch.tensor([shape.center for shape in self.shapes], dtype=torch.float32)
        return centers, torch.tensor(extents, dtype=torch.float32)

    def cast(self, rays: Rays, shapes: list[int]) -> tuple[Tensor, Int64[Tensor, "ray"]]:
        """Find the nearest surface along each ray.

        Args:
            rays: The rays.
            shapes: Indices of the shapes to test.

        Returns:
            Distances in lengths of the directions, and indices of the shapes.
        """
        nearest = torch.full_like(rays.squared_length, FAR)
        hit = torch.zeros_like(rays.squared_length, dtype=torch.int64)
        for index in shapes:
            distance = self.shapes[index].hit(rays)
            hit.masked_fill_(distance < nearest, index)
            nearest = torch.minimum(nearest, distance)
        return nearest, hit

    def lamp_light(self, points: Tensor, normals: Tensor) -> Tensor:
        """Compute the fraction of the lamp's light that reaches surface points.

        Args:
            points: Surface points, [point, 3].
            normals: Unit normals, [point, 3].

        Returns:
            Fractions in [0, 1], [point]: the cosine of the angle of incidence, 0 in shadow.
        """
        start = points + _SHADOW_OFFSET * normals
        to_lamp = start.new_tensor(self.lamp) - start
        slant = (normalize(to_lamp, dim=-1) * normals).sum(-1).clamp(min=0)
        facing = (slant > 0).nonzero()[:, 0]
        if len(facing) == 0:
            return slant
        start = start[facing]
        to_lamp = to_lamp[facing]
        rays = Rays(triple(start.T.contiguous()), triple(to_lamp.T.contiguous()))
        blocked = torch.zeros_like(facing, dtype=torch.bool)
        for index in self.visible_shapes(self.lamp, -to_lamp):
            shape = self.shapes[index]
            if not shape.hollow and shape.glow == 0:
                blocked |= shape.hit(rays) < 1
        slant[facing] *= ~blocked
        return slant

    def shade(
        self, rays: Rays
    ) -> tuple[Float[Tensor, "ray 3"], Float[Tensor, "ray"], Int64[Tensor, "ray"]]:
        """Compute the colours along rays from one origin.

        Args:
            rays: The rays.

        Returns:
            Gamma-encoded colours in [0, 1], distances, and indices of the shapes.
        """
        origin = triple(float(o) for o in rays.origin)
        distance, hit = self.cast(
            rays, self.visible_shapes(origin, torch.stack(rays.directions, dim=-1))
        )
        albedo = torch.empty(len(distance), 3)
        normals = torch.empty(len(distance), 3)
        glow = torch.empty(len(distance), 1)
        for index in hit.unique().tolist():
            shape = self.shapes[index]
            subset = (hit == index).nonzero()[:, 0]
            normals[subset], u, v = shape.surface(rays[subset], distance[subset])
            albedo[subset] = shape.texture(u, v)
            glow[subset] = shape.glow
        light = torch.zeros(len(distance), 1)
        shaded = (glow[:, 0] < 1).nonzero()[:, 0]
        light[shaded, 0] = self.lamp_light(rays[shaded].at(distance[shaded]), normals[shaded])
        light = light * albedo.new_tensor(self.warmth)
        sky = self.ambient * (1 - 0.25 * normals[:, 1:2])  # more from above: y is down
        color = albedo * (glow + (1 - glow) * (sky + (1 - self.ambient) * light))
        return color.clamp(0, 1) ** (1 / 2.2), distance, hit


def render_picture(
    scene: RayCastScene, camera: Cameras
) -> tuple[Float[Tensor, "height width 3"], Float[Tensor, "height width"]]:
    """Render one camera's picture.

    Every pixel gets one ray. Pixels that differ from a neighbour in colour or shape get four more.

    Args:
        scene: The scene.
        camera: One camera.

    Returns:
        Colours averaged over each pixel, and z-depth at its centre.
    """
    size = (camera.height, camera.width)
    to_world = camera.camera_to_world[0].double().cpu()
    directions = (to_world[:3, :3] @ torch.linalg.inv(camera.intrinsics[0].double().cpu())).float()
    origin = triple(to_world[:3, 3].float().unbind())

    def cast(pixels: Float[Tensor, "ray 2"]) -> tuple[Tensor, Tensor, Tensor]:
        x, y = pixels.T.contiguous()
        return scene.shade(Rays(origin, triple(d[0] * x + d[1] * y + d[2] for d in directions)))

    pixels = pixel_centers(camera.width, camera.height)
    colors = torch.empty(*size, 3)
    depth = torch.empty(size)
    hit = torch.empty(size, dtype=torch.int64)
    tiles = [
        (slice(y, y + _TILE), slice(x, x + _TILE))
        for y in range(0, size[0], _TILE)
        for x in range(0, size[1], _TILE)
    ]
    for tile in tiles:
        block = pixels[tile]
        color, distance, index = cast(block.reshape(-1, 2))
        colors[tile] = color.view(block.shape[:2] + (3,))
        hit[tile] = index.view(block.shape[:2])
        # Directions have length 1 along the optical axis, so distances along them are z-depths.
        depth[tile] = distance.view(block.shape[:2])
    needs_samples = _needs_samples(colors, hit)
    for tile in tiles:
        index = needs_samples[tile].nonzero(as_tuple=True)
        if len(index[0]):
            samples = pixels[tile][index] + torch.tensor(_SAMPLE_OFFSETS)[:, None]
            color = cast(samples.reshape(-1, 2))[0].view(len(_SAMPLE_OFFSETS), -1, 3)
            colors[tile][index] = (colors[tile][index] + color.sum(0)) / (1 + len(_SAMPLE_OFFSETS))
    return colors, depth


def _needs_samples(
    colors: Float[Tensor, "height width 3"], hit: Int64[Tensor, "height width"]
) -> Bool[Tensor, "height width"]:
    """Find pixels that differ from a horizontal or vertical neighbour."""
    mask = torch.zeros_like(hit, dtype=torch.bool)
    for axis in (0, 1):
        changed = (colors.diff(dim=axis).abs().amax(-1) > _CONTRAST) | (hit.diff(dim=axis) != 0)
        count = changed.shape[axis]
        mask.narrow(axis, 0, count).logical_or_(changed)
        mask.narrow(axis, 1, count).logical_or_(changed)
    return mask


def render(scene: RayCastScene, cameras: Cameras) -> Frames:
    """Render pictures with exact depth on the CPU.

    Args:
        scene: The scene.
        cameras: The cameras, on any device.

    Returns:
        Frames with depth, on the CPU.
    """
    pictures = parallel_map(
        lambda index: render_picture(scene, cameras[index]), range(len(cameras))
    )
    images = torch.stack([(255 * colors).round().to(torch.uint8) for colors, _ in pictures])
    return Frames(images, torch.stack([depth for _, depth in pictures]))
