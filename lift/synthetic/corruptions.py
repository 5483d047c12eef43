"""Synthetic errors like those of video generators.

They serve a prior whose errors are known, and they measure which distortion models undo them.
Standard normal numbers determine the direction of each frame's errors. Their size grows with the
camera's motion away from the input. A clip interpolates between the numbers of its source frame and
those of its last frame.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import conv2d, grid_sample, pad

from lift.geometry import pixel_centers, rigid, rotation_angle, rotation_from_vector
from lift.types import Cameras

FULL_ROTATION = 16.0
"""Rotation away from the input, in degrees, at which errors have the sizes below."""
FULL_TRANSLATION = 0.28
"""The same for translation, as a fraction of the typical depth."""

# Sizes are the medians of the last third of 25 generated clips (docs/generator-errors.md).
# Those marked as chosen are not measured.

WARP = 0.0037
"""Smooth warp of the picture, root mean square, as a fraction of its width."""
TEXTURE_WARP = 0.0011
"""Finer warp that moves texture, root mean square, as a fraction of the width."""
FALSE_TEXTURE = 0.035
"""Contrast of false texture, root mean square. Chosen."""
EXPOSURE = 0.045
"""Standard deviation of the logarithm of brightness."""
WHITE_BALANCE = 0.021
"""Standard deviation of the logarithm of each colour's gain."""
SATURATION = 0.086
"""Growth of the saturation."""
OBJECTS = 6
"""Number of parts of the scene that move by themselves. Chosen."""
OBJECT_MOTION = 0.012
"""Their motion, root mean square, as a fraction of the width. Chosen."""
OBJECT_SIZE = 0.08
"""Their radius as a fraction of the width. Chosen."""
BLUR = 0.0011
"""Standard deviation of the blur as a fraction of the width.

It is the median of the clips that become softer. As many clips become sharper.
"""
ROTATION = 2.4
"""Standard deviation of the camera's rotation error in degrees.

From four clips with known cameras.
"""
TRANSLATION = 0.019
"""Standard deviation of the camera's translation error, as a fraction of the typical depth.

From four clips with known cameras.
"""
LOG_FOCAL = 0.012
"""Standard deviation of the logarithm of the focal length. Chosen."""


@dataclass(frozen=True)
class FrameCorruption:
    """Standard normal numbers that determine the direction, not the size, of a frame's errors."""

    pose: Float[Tensor, "7"]
    """Rotation, translation and focal length of the camera."""
    color: Float[Tensor, "4"]
    """Exposure, and balance of red, green and blue."""
    warp_amplitudes: Float[Tensor, "2 4 4"]
    """Amplitudes of the smooth warp."""
    texture_amplitudes: Float[Tensor, "2 18 18"]
    """Amplitudes of the warp of texture."""
    false_texture_amplitudes: Float[Tensor, "1 40 40"]
    """Amplitudes of false texture."""
    object_motion: Float[Tensor, "object 2"]
    """Motion of parts of the scene."""

    @staticmethod
    def sample(index: int, seed: int) -> "FrameCorruption":
        """Draw the numbers of one frame.

        Args:
            index: Index of the frame.
            seed: Random seed.

        Returns:
            The numbers, the same for the same index and seed.
        """
        generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
        shapes = [(7,), (4,), (2, 4, 4), (2, 18, 18), (1, 40, 40), (OBJECTS, 2)]
        return FrameCorruption(*(torch.randn(shape, generator=generator) for shape in shapes))

    def interpolate(self, other: "FrameCorruption", fraction: float) -> "FrameCorruption":
        """Interpolate to another frame's numbers at constant variance.

        Args:
            other: The other frame's numbers.
            fraction: 0 gives this frame's numbers, 1 the other's.

        Returns:
            The interpolated numbers.
        """
        a = math.cos(0.5 * math.pi * fraction)
        b = math.sin(0.5 * math.pi * fraction)
        return FrameCorruption(
            **{name: a * value + b * getattr(other, name) for name, value in vars(self).items()}
        )

    def perturb_camera(self, camera: Cameras, size: float, typical: float) -> Cameras:
        """Add an error to the camera.

        Args:
            camera: The requested camera, one view.
            size: Size of the error. 1 at a full motion.
            typical: Typical depth of the scene.

        Returns:
            The camera that the frame really shows.
        """
        if size == 0:
            return camera
        # The root mean square of each vector's length is then `size`.
        sigma = size / math.sqrt(3)
        rotation = rotation_from_vector(math.radians(ROTATION) * sigma * self.pose[:3])
        error = rigid(rotation, TRANSLATION * typical * sigma * self.pose[3:6])
        focal_scale = torch.ones(3, 3)
        focal_scale[0, 0] = focal_scale[1, 1] = math.exp(LOG_FOCAL * size * float(self.pose[6]))
        return replace(
            camera,
            world_to_camera=error @ camera.world_to_camera.cpu(),
            intrinsics=camera.intrinsics.cpu() * focal_scale,
        )

    def warp(
        self, rgb: Tensor, depth: Tensor, geometry: float, texture: float
    ) -> tuple[Tensor, Tensor]:
        """Warp a picture and its depth.

        Args:
            rgb: Colours in [0, 1], [height, width, 3].
            depth: z-depth, [height, width].
            geometry: Size of the smooth warp.
            texture: Size of the warp of texture.

        Returns:
            The warped picture and depth.
        """
        if geometry == texture == 0:
            return rgb, depth
        height, width = depth.shape
        flow = self.smooth_flow(geometry, height, width)
        flow = flow + self.texture_flow(texture, height, width)
        return warp_frame(rgb, depth, flow)

    def smooth_flow(self, size: float, height: int, width: int) -> Float[Tensor, "2 height width"]:
        """Compute the smooth displacement of the whole picture.

        Args:
            size: Size of the error. 1 at a full motion.
            height: Picture height in pixels.
            width: Picture width in pixels.

        Returns:
            Where each pixel comes from, relative to itself, in picture widths.
        """
        return WARP * size * cosine_fields(self.warp_amplitudes, height, width, 0)

    def texture_flow(self, size: float, height: int, width: int) -> Float[Tensor, "2 height width"]:
        """Compute the displacement of texture. See `smooth_flow`.

        Args:
            size: Size of the error. 1 at a full motion.
            height: Picture height in pixels.
            width: Picture width in pixels.
        """
        return TEXTURE_WARP * size * cosine_fields(self.texture_amplitudes, height, width, 6)

    def object_flow(
        self,
        size: float,
        positions: Float[Tensor, "object 2"],
        in_front: Bool[Tensor, "object"],
        height: int,
        width: int,
    ) -> Float[Tensor, "2 height width"]:
        """Compute the displacement of parts of the scene that move by themselves.

        Args:
            size: Size of the error. 1 at a full motion.
            positions: Pixel positions of the parts.
            in_front: Whether each part is in front of the camera.
            height: Picture height in pixels.
            width: Picture width in pixels.

        Returns:
            Where each pixel comes from, relative to itself, in picture widths.
        """
        offset = (pixel_centers(width, height) - positions[:, None, None]) / (OBJECT_SIZE * width)
        weight = (-0.5 * offset.square().sum(-1)).exp() * in_front[:, None, None]
        return (
            OBJECT_MOTION
            * size
            * torch.einsum("ohw,oc->chw", weight, self.object_motion[: len(positions)])
        )

    def add_false_texture(self, rgb: Tensor, texture: float) -> Tensor:
        """Add false texture.

        Args:
            rgb: Colours in [0, 1], [height, width, 3].
            texture: Size of the error. 1 at a full motion.

        Returns:
            The colours, possibly outside of [0, 1].
        """
        if texture == 0:
            return rgb
        height, width = rgb.shape[:2]
        fields = cosine_fields(self.false_texture_amplitudes, height, width, 12)[0, ..., None]
        return rgb * (1 + FALSE_TEXTURE * texture * fields)

    def shift_color(self, rgb: Tensor, size: float) -> Tensor:
        """Change exposure, balance and saturation.

        Args:
            rgb: Colours in [0, 1], [height, width, 3].
            size: Size of the error. 1 at a full motion.

        Returns:
            The colours, possibly outside of [0, 1].
        """
        if size == 0:
            return rgb
        gain = self.log_gain(size).exp()
        grey = rgb.mean(-1, keepdim=True)
        return (grey + (1 + SATURATION * size) * (rgb - grey)) * gain

    def log_gain(self, size: float) -> Float[Tensor, "3"]:
        """Compute the logarithm of the gain of each colour.

        Args:
            size: Size of the error. 1 at a full motion.

        Returns:
            Logarithms for red, green and blue.
        """
        return size * (EXPOSURE * self.color[0] + WHITE_BALANCE * self.color[1:])


def warp_frame(
    rgb: Float[Tensor, "height width 3"],
    depth: Float[Tensor, "height width"],
    flow: Float[Tensor, "2 height width"],
) -> tuple[Tensor, Tensor]:
    """Warp a picture and its depth by a flow.

    Args:
        rgb: Colours in [0, 1].
        depth: z-depth.
        flow: Where each pixel comes from, relative to itself, in picture widths.

    Returns:
        The warped picture and depth.
    """
    height, width = depth.shape
    source = pixel_centers(width, height) + width * flow.permute(1, 2, 0)
    grid = (2 * source / torch.tensor([width, height]) - 1)[None]
    image = grid_sample(rgb.permute(2, 0, 1)[None], grid, "bicubic", "border", align_corners=False)
    # A mean of two depths would lie on neither surface.
    nearest = grid_sample(depth[None, None], grid, "nearest", "border", align_corners=False)
    return image[0].permute(1, 2, 0).clamp(0, 1), nearest[0, 0]


def relative_motion(start: Cameras, camera: Cameras, typical: float) -> float:
    """Measure how far a camera is from the input's, where 1 is a full motion.

    Args:
        start: The input camera, one view.
        camera: The other camera, one view.
        typical: Typical depth of the scene.

    Returns:
        The larger of rotation / FULL_ROTATION and translation / FULL_TRANSLATION.
    """
    rotation = rotation_angle(start.world_to_camera[:, :3, :3], camera.world_to_camera[:, :3, :3])
    translation = (camera.centers - start.centers).norm() / typical
    return max(float(rotation) / FULL_ROTATION, float(translation) / FULL_TRANSLATION)


def cosine_fields(
    amplitudes: Float[Tensor, "field down across"], height: int, width: int, min_frequency: int
) -> Float[Tensor, "field height width"]:
    """Compute smooth fields of unit variance as sums of cosines.

    Args:
        amplitudes: Standard normal amplitudes by vertical and horizontal number of half waves.
        height: Height of the field in pixels.
        width: Width of the field in pixels.
        min_frequency: Lowest number of half waves.

    Returns:
        The fields.
    """
    down, across = (torch.arange(count, dtype=torch.float32) for count in amplitudes.shape[1:])
    frequency = torch.hypot(down[:, None], across)
    weights = (frequency >= min_frequency) / (1 + frequency)
    power = torch.where(down == 0, 1.0, 0.5)[:, None] * torch.where(across == 0, 1.0, 0.5)
    weights = weights / (weights**2 * power).sum().sqrt()
    rows = (math.pi * (torch.arange(height) + 0.5)[:, None] / height * down).cos()
    columns = (math.pi * (torch.arange(width) + 0.5)[:, None] / width * across).cos()
    return rows @ (weights * amplitudes) @ columns.T


def blur_picture(rgb: Tensor, sigma: float) -> Tensor:
    """Blur with the discrete Gaussian, whose variance is exact even below one pixel.

    Args:
        rgb: Colours, [height, width, 3].
        sigma: Standard deviation in pixels.

    Returns:
        The blurred colours.

    Reference:
        Lindeberg, "Scale-space for discrete signals", PAMI 1990.
    """
    if sigma == 0:
        return rgb
    radius = math.ceil(3 * sigma) + 1
    angles = 2 * math.pi * torch.arange(8 * radius) / (8 * radius)
    weights = (
        (sigma**2 * (angles.cos() - 1)).exp()
        * (torch.arange(-radius, radius + 1)[:, None] * angles).cos()
    ).mean(-1)
    weights = (weights / weights.sum())[None, None]
    planes = pad(rgb.permute(2, 0, 1)[:, None], (radius,) * 4, mode="replicate")
    return conv2d(conv2d(planes, weights[..., None, :]), weights[..., :, None])[:, 0].permute(
        1, 2, 0
    )
