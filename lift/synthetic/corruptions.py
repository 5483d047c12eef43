"""What the frames of a video generator get wrong, made on purpose: for a prior whose mistakes are known and for measuring what undoes them.

Every frame has standard normal numbers that say in which way it is wrong; how much grows with the motion away from the input. A clip
fades from the numbers of the frame it continues to those of its last one.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import conv2d, grid_sample, pad

from lift.geometry import pixel_centers, rigid, rotation_angle, rotation_from_vector
from lift.types import Cameras

FULL_TURN, FULL_SHIFT = 16.0, 0.28
"""The motion away from the input at which mistakes have the sizes below: degrees, or a share of the typical depth."""

# Sizes are those of the median of 25 generated clips in their last third (docs/generator-errors.md), unless "chosen".

WARP = 0.0037
"""Smooth warp of the picture, root mean square, as a share of its width."""
DRIFT = 0.0011
"""The same of the finer warp that moves texture about."""
MOTTLE = 0.035
"""Contrast of texture that is not there, root mean square; chosen."""
EXPOSURE, BALANCE, SATURATION = 0.045, 0.021, 0.086
"""Spread of the logarithm of brightness, of its split over red, green and blue; growth of the saturation."""
OBJECTS, OBJECT, OBJECT_SIZE = 6, 0.012, 0.08
"""Parts of the scene that move by themselves: how many, their motion, root mean square, and their radius, as shares of the width; chosen."""
BLUR = 0.0011
"""Standard deviation of the blur, as a share of the picture's width: the median of the clips that get softer. As many get sharper."""
TURN, SHIFT, ZOOM = 2.4, 0.019, 0.012
"""Spread of the camera's error against the request: degrees, share of the typical depth, logarithm of the focal length. The first two rest on
the four clips whose request is known; the last is chosen."""


@dataclass(frozen=True)
class Mistakes:
    """Standard normal numbers that say in which way, not how much, a frame is wrong."""

    pose: Float[Tensor, "7"]
    tone: Float[Tensor, "4"]
    bend: Float[Tensor, "2 4 4"]
    drift: Float[Tensor, "2 18 18"]
    spots: Float[Tensor, "1 40 40"]
    objects: Float[Tensor, "object 2"]

    @staticmethod
    def of(index: int, seed: int) -> "Mistakes":
        generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
        shapes = [(7,), (4,), (2, 4, 4), (2, 18, 18), (1, 40, 40), (OBJECTS, 2)]
        return Mistakes(*(torch.randn(shape, generator=generator) for shape in shapes))

    def fading(self, other: "Mistakes", share: float) -> "Mistakes":
        """On the way to another's, at constant variance."""
        a, b = math.cos(0.5 * math.pi * share), math.sin(0.5 * math.pi * share)
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Mistakes(*(a * mine + b * theirs for mine, theirs in pairs))

    def camera(self, asked: Cameras, size: float, typical: float) -> Cameras:
        """Where the frame is really taken."""
        if size == 0:
            return asked
        spread = size / math.sqrt(
            3
        )  # so that the length of each vector is `size` in the mean square
        turn = rotation_from_vector(math.radians(TURN) * spread * self.pose[:3])
        error = rigid(turn, SHIFT * typical * spread * self.pose[3:6])
        zoom = torch.ones(3, 3)
        zoom[0, 0] = zoom[1, 1] = math.exp(ZOOM * size * float(self.pose[6]))
        return replace(
            asked,
            world_to_camera=error @ asked.world_to_camera.cpu(),
            intrinsics=asked.intrinsics.cpu() * zoom,
        )

    def warp(
        self, rgb: Tensor, depth: Tensor, geometry: float, texture: float
    ) -> tuple[Tensor, Tensor]:
        if geometry == texture == 0:
            return rgb, depth
        height, width = depth.shape
        return bent(
            rgb, depth, self.smooth(geometry, height, width) + self.swim(texture, height, width)
        )

    def smooth(self, size: float, height: int, width: int) -> Float[Tensor, "2 height width"]:
        """Displacement of the whole picture, in widths: where a pixel comes from, relative to itself."""
        return WARP * size * waves(self.bend, height, width, 0)

    def swim(self, size: float, height: int, width: int) -> Float[Tensor, "2 height width"]:
        """The same of texture."""
        return DRIFT * size * waves(self.drift, height, width, 6)

    def moved(
        self,
        size: float,
        places: Float[Tensor, "object 2"],
        ahead: Bool[Tensor, "object"],
        height: int,
        width: int,
    ) -> Float[Tensor, "2 height width"]:
        """The same of parts of the scene that move by themselves. places: where they are seen, in pixels, if they are `ahead`."""
        away = (pixel_centers(width, height) - places[:, None, None]) / (OBJECT_SIZE * width)
        share = (-0.5 * away.square().sum(-1)).exp() * ahead[:, None, None]
        return OBJECT * size * torch.einsum("ohw,oc->chw", share, self.objects[: len(places)])

    def mottle(self, rgb: Tensor, texture: float) -> Tensor:
        if texture == 0:
            return rgb
        spots = waves(self.spots, *rgb.shape[:2], 12)[0, ..., None]
        return rgb * (1 + MOTTLE * texture * spots)

    def color(self, rgb: Tensor, size: float) -> Tensor:
        if size == 0:
            return rgb
        gain = self.gain(size).exp()
        grey = rgb.mean(-1, keepdim=True)
        return (grey + (1 + SATURATION * size) * (rgb - grey)) * gain

    def gain(self, size: float) -> Float[Tensor, "3"]:
        """Logarithm of the factor of each colour."""
        return size * (EXPOSURE * self.tone[0] + BALANCE * self.tone[1:])


def bent(
    rgb: Float[Tensor, "height width 3"],
    depth: Float[Tensor, "height width"],
    moved: Float[Tensor, "2 height width"],
) -> tuple[Tensor, Tensor]:
    """A picture and its depth, each pixel from where `moved` (in widths) says."""
    height, width = depth.shape
    at = pixel_centers(width, height) + width * moved.permute(1, 2, 0)
    grid = (2 * at / torch.tensor([width, height]) - 1)[None]
    image = grid_sample(rgb.permute(2, 0, 1)[None], grid, "bicubic", "border", align_corners=False)
    nearest = grid_sample(
        depth[None, None], grid, "nearest", "border", align_corners=False
    )  # a mean of two depths is neither
    return image[0].permute(1, 2, 0).clamp(0, 1), nearest[0, 0]


def motion(start: Cameras, camera: Cameras, typical: float) -> float:
    """How far a camera is from the input's, 1 = a full motion."""
    turn = rotation_angle(start.world_to_camera[:, :3, :3], camera.world_to_camera[:, :3, :3])
    shift = (camera.centers - start.centers).norm() / typical
    return max(float(turn) / FULL_TURN, float(shift) / FULL_SHIFT)


def waves(
    amplitudes: Float[Tensor, "field down across"], height: int, width: int, lowest: int
) -> Float[Tensor, "field height width"]:
    """Smooth fields of unit variance: cosines of up to as many half waves as there are amplitudes, from `lowest` upwards."""
    down, across = (torch.arange(count, dtype=torch.float32) for count in amplitudes.shape[1:])
    frequency = torch.hypot(down[:, None], across)
    weights = (frequency >= lowest) / (1 + frequency)
    power = torch.where(down == 0, 1.0, 0.5)[:, None] * torch.where(across == 0, 1.0, 0.5)
    weights = weights / (weights**2 * power).sum().sqrt()
    rows = (math.pi * (torch.arange(height) + 0.5)[:, None] / height * down).cos()
    columns = (math.pi * (torch.arange(width) + 0.5)[:, None] / width * across).cos()
    return rows @ (weights * amplitudes) @ columns.T


def blurred(rgb: Tensor, sigma: float) -> Tensor:
    """With the discrete Gaussian (Lindeberg, PAMI 1990), whose variance is right below a pixel, too."""
    if sigma == 0:
        return rgb
    reach = math.ceil(3 * sigma) + 1
    angles = 2 * math.pi * torch.arange(8 * reach) / (8 * reach)
    weights = (
        (sigma**2 * (angles.cos() - 1)).exp()
        * (torch.arange(-reach, reach + 1)[:, None] * angles).cos()
    ).mean(-1)
    weights = (weights / weights.sum())[None, None]
    planes = pad(rgb.permute(2, 0, 1)[:, None], (reach,) * 4, mode="replicate")
    return conv2d(conv2d(planes, weights[..., None, :]), weights[..., :, None])[:, 0].permute(
        1, 2, 0
    )
