"""A video generator whose mistakes are known: a built-in scene, drawn wrong on purpose."""

import math
from dataclasses import dataclass, replace
from typing import Literal, Optional

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, grid_sample, pad

from lift.geometry import pixel_centers, rigid, rotation_angle, rotation_from_vector
from lift.priors import VideoPrior, priors
from lift.scenes import SCENES, render
from lift.types import Cameras, Clip, Frames

FULL_TURN, FULL_SHIFT = 16.0, 0.28
"""The motion away from the input at which mistakes have the sizes below: degrees, or a share of the typical depth."""

WARP = 0.008
"""Smooth warp of the picture, root mean square, as a share of its width."""
DRIFT = 0.0025
"""The same of the finer warp that moves texture about."""
MOTTLE = 0.035
"""Contrast of texture that is not there, root mean square."""
EXPOSURE, BALANCE, SATURATION = 0.10, 0.04, 0.15
"""Spread of the logarithm of brightness, of its split over red, green and blue; growth of the saturation."""
BLUR = 0.004
"""Standard deviation of the blur, as a share of the picture's width."""
TURN, SHIFT, ZOOM = 0.5, 0.02, 0.012
"""Spread of the camera's error: degrees, share of the typical depth, logarithm of the focal length."""


@priors.register("synthetic")
class Synthetic(VideoPrior):
    """A built-in scene seen by ray casting, distorted the way video diffusion does; strength 0 is exact.

    It starts with the scene's own view: `image=room prior=synthetic`. Mistakes grow with the motion away from the input, and a clip
    goes on from those of the frame it continues: the picture warps smoothly, texture drifts and mottles, brightness, white balance and
    saturation wander, sharpness fades, and the camera is not quite where it was told to be.

    scene: room, terrace, thin or plain (default: what `image` names). strength: of all mistakes; at 1 and 16 degrees of turn the
    picture is warped by 0.8% of its width. geometry, texture, color, blur, camera: factors on top, one a kind of mistake.
    """

    sees = "ancestors"

    def __init__(
        self,
        scene: Optional[Literal["room", "terrace", "thin", "plain"]] = None,
        strength: float = 1.0,
        geometry: float = 1.0,
        texture: float = 1.0,
        color: float = 1.0,
        blur: float = 1.0,
        camera: float = 1.0,
        *,
        image: str,
    ) -> None:
        self.scene = image if scene is None else scene
        if self.scene not in SCENES:
            raise ValueError(f"image is {image}; prior synthetic renders its own scene; start it with image={' or image='.join(SCENES)}")
        factors = {"geometry": geometry, "texture": texture, "color": color, "blur": blur, "camera": camera}
        for key, value in {"strength": strength, **factors}.items():
            if value < 0:
                raise ValueError(f"prior.{key} is {value:g}; choose 0 or more")
        self.factors = {kind: strength * factor for kind, factor in factors.items()}
        self._seen: tuple[Cameras, Frames] | None = None

    def truth(self, cameras: Cameras) -> Frames:
        """What the cameras would really see, with exact depth."""
        return render(self.scene, cameras)

    def __call__(self, frames: Frames, cameras: Cameras, clip: Clip, seed: int) -> Frames:
        """As `VideoPrior`. The depth that comes with the frames is that of what was drawn, mistakes and all.

        Every index of a frame has mistakes of its own; a clip fades from those of its source to those of its last frame, times the
        motion away from the input. So a clip that continues a last frame goes on without a jump, and no earlier call need be known.
        Raises ValueError if frame 0 is not the scene's own view.
        """
        start = self._start(cameras[0])
        if start.images.shape != frames.images[:1].shape or float((start.rgb - frames.rgb[:1].cpu()).abs().mean()) > 0.01:
            raise ValueError(f"prior synthetic renders its own scene; start it with image={self.scene}, not with another picture")
        if not any(self.factors.values()):
            return self.truth(clip.cameras)
        typical = float(start.depth.median())
        source, last = _Mistakes.of(clip.source, seed), _Mistakes.of(len(frames) + len(clip.cameras) - 1, seed)
        drawn = []
        for index in range(len(clip.cameras)):
            motion = _motion(cameras[0], clip.cameras[index], typical)
            sizes = {kind: motion * factor for kind, factor in self.factors.items()}
            drawn.append(self._draw(clip.cameras[index], source.fading(last, (index + 1) / len(clip.cameras)), sizes, typical))
        return Frames.cat(drawn)

    def _start(self, camera: Cameras) -> Frames:
        """The scene's own view, cast once."""
        known = self._seen and all(map(torch.equal, self._seen[0].tensors().values(), camera.tensors().values()))
        if not known or (self._seen[0].width, self._seen[0].height) != (camera.width, camera.height):
            self._seen = (camera, self.truth(camera))
        return self._seen[1]

    def _draw(self, camera: Cameras, mistakes: "_Mistakes", sizes: dict[str, float], typical: float) -> Frames:
        seen = self.truth(mistakes.camera(camera, sizes["camera"], typical))
        rgb, depth = mistakes.warp(seen.rgb[0], seen.depth[0], sizes["geometry"], sizes["texture"])
        rgb = mistakes.mottle(rgb, sizes["texture"])
        rgb = mistakes.color(_blur(rgb, BLUR * sizes["blur"] * camera.width), sizes["color"])
        return Frames((255 * rgb.clamp(0, 1)).round().to(torch.uint8)[None], depth[None])


@dataclass(frozen=True)
class _Mistakes:
    """Standard normal numbers that say in which way, not how much, a frame is wrong."""

    pose: Float[Tensor, "7"]
    tone: Float[Tensor, "4"]
    bend: Float[Tensor, "2 4 4"]
    drift: Float[Tensor, "2 18 18"]
    spots: Float[Tensor, "1 40 40"]

    @staticmethod
    def of(index: int, seed: int) -> "_Mistakes":
        generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
        shapes = [(7,), (4,), (2, 4, 4), (2, 18, 18), (1, 40, 40)]
        return _Mistakes(*(torch.randn(shape, generator=generator) for shape in shapes))

    def fading(self, other: "_Mistakes", share: float) -> "_Mistakes":
        """On the way to another's, at constant variance."""
        a, b = math.cos(0.5 * math.pi * share), math.sin(0.5 * math.pi * share)
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _Mistakes(*(a * mine + b * theirs for mine, theirs in pairs))

    def camera(self, asked: Cameras, size: float, typical: float) -> Cameras:
        """Where the frame is really taken."""
        if size == 0:
            return asked
        spread = size / math.sqrt(3)  # so that the length of each vector is `size` in the mean square
        turn = rotation_from_vector(math.radians(TURN) * spread * self.pose[:3])
        error = rigid(turn, SHIFT * typical * spread * self.pose[3:6])
        zoom = torch.ones(3, 3)
        zoom[0, 0] = zoom[1, 1] = math.exp(ZOOM * size * float(self.pose[6]))
        return replace(asked, world_to_camera=error @ asked.world_to_camera.cpu(), intrinsics=asked.intrinsics.cpu() * zoom)

    def warp(self, rgb: Tensor, depth: Tensor, geometry: float, texture: float) -> tuple[Tensor, Tensor]:
        if geometry == texture == 0:
            return rgb, depth
        height, width = depth.shape
        moved = WARP * geometry * _waves(self.bend, height, width, 0) + DRIFT * texture * _waves(self.drift, height, width, 6)
        at = pixel_centers(width, height) + width * moved.permute(1, 2, 0)
        grid = (2 * at / torch.tensor([width, height]) - 1)[None]
        image = grid_sample(rgb.permute(2, 0, 1)[None], grid, "bicubic", "border", align_corners=False)
        nearest = grid_sample(depth[None, None], grid, "nearest", "border", align_corners=False)  # a mean of two depths is neither
        return image[0].permute(1, 2, 0).clamp(0, 1), nearest[0, 0]

    def mottle(self, rgb: Tensor, texture: float) -> Tensor:
        if texture == 0:
            return rgb
        spots = _waves(self.spots, *rgb.shape[:2], 12)[0, ..., None]
        return rgb * (1 + MOTTLE * texture * spots)

    def color(self, rgb: Tensor, size: float) -> Tensor:
        if size == 0:
            return rgb
        gain = (size * (EXPOSURE * self.tone[0] + BALANCE * self.tone[1:])).exp()
        grey = rgb.mean(-1, keepdim=True)
        return (grey + (1 + SATURATION * size) * (rgb - grey)) * gain


def _motion(start: Cameras, camera: Cameras, typical: float) -> float:
    """How far a camera is from the input's, 1 = a full motion."""
    turn = rotation_angle(start.world_to_camera[:, :3, :3], camera.world_to_camera[:, :3, :3])
    shift = (camera.centers - start.centers).norm() / typical
    return max(float(turn) / FULL_TURN, float(shift) / FULL_SHIFT)


def _waves(amplitudes: Float[Tensor, "field down across"], height: int, width: int, lowest: int) -> Float[Tensor, "field height width"]:
    """Smooth fields of unit variance: cosines of up to as many half waves as there are amplitudes, from `lowest` upwards."""
    down, across = (torch.arange(count, dtype=torch.float32) for count in amplitudes.shape[1:])
    frequency = torch.hypot(down[:, None], across)
    weights = (frequency >= lowest) / (1 + frequency)
    power = torch.where(down == 0, 1.0, 0.5)[:, None] * torch.where(across == 0, 1.0, 0.5)
    weights = weights / (weights**2 * power).sum().sqrt()
    rows = (math.pi * (torch.arange(height) + 0.5)[:, None] / height * down).cos()
    columns = (math.pi * (torch.arange(width) + 0.5)[:, None] / width * across).cos()
    return rows @ (weights * amplitudes) @ columns.T


def _blur(rgb: Tensor, sigma: float) -> Tensor:
    """With the discrete Gaussian (Lindeberg, PAMI 1990), whose variance is right below a pixel, too."""
    if sigma == 0:
        return rgb
    reach = math.ceil(3 * sigma) + 1
    angles = 2 * math.pi * torch.arange(8 * reach) / (8 * reach)
    weights = ((sigma**2 * (angles.cos() - 1)).exp() * (torch.arange(-reach, reach + 1)[:, None] * angles).cos()).mean(-1)
    weights = (weights / weights.sum())[None, None]
    planes = pad(rgb.permute(2, 0, 1)[:, None], (reach,) * 4, mode="replicate")
    return conv2d(conv2d(planes, weights[..., None, :]), weights[..., :, None])[:, 0].permute(1, 2, 0)
