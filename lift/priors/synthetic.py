"""A video generator whose mistakes are known: a built-in scene, drawn wrong on purpose."""

from typing import Literal

import torch

from lift.priors import VideoPrior, priors
from lift.runtime.parallel import each
from lift.synthetic.corruptions import BLUR, Mistakes, blurred, motion
from lift.synthetic.scenes import SCENES, render
from lift.types import Cameras, Clip, Frames


@priors.register("synthetic")
class Synthetic(VideoPrior):
    """A built-in scene seen by ray casting, distorted the way video diffusion does; strength 0 is exact.

    It starts with the scene's own view: `image=room prior=synthetic`. Mistakes grow with the motion away from the input, and a clip
    goes on from those of the frame it continues: the picture warps smoothly, texture drifts and mottles, brightness, white balance and
    saturation wander, sharpness fades, and the camera is not quite where it was told to be.

    scene: room, terrace, thin or plain (default: what `image` names). strength: of all mistakes; at 1 and 16 degrees of turn they
    are those of the median generator (docs/generator-errors.md). geometry, texture, color, blur, camera: factors on top, one a kind of mistake.
    """

    sees = "ancestors"
    exact_depth = True

    def __init__(
        self,
        scene: Literal["room", "terrace", "thin", "plain"] | None = None,
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
            raise ValueError(
                f"image is {image}; prior synthetic renders its own scene; start it with image={' or image='.join(SCENES)}"
            )
        factors = {
            "geometry": geometry,
            "texture": texture,
            "color": color,
            "blur": blur,
            "camera": camera,
        }
        for key, value in {"strength": strength, **factors}.items():
            if value < 0:
                raise ValueError(f"prior.{key} is {value:g}; choose 0 or more")
        self.factors = {kind: strength * factor for kind, factor in factors.items()}
        self.agree = not any(self.factors.values())
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
        if (
            start.images.shape != frames.images[:1].shape
            or float((start.rgb - frames.rgb[:1].cpu()).abs().mean()) > 0.01
        ):
            raise ValueError(
                f"prior synthetic renders its own scene; start it with image={self.scene}, not with another picture"
            )
        if not any(self.factors.values()):
            return self.truth(clip.cameras)
        typical = float(start.depth.median())
        return Frames.cat(
            each(
                lambda wrong: self._draw(*wrong, typical),
                self.mistaken(cameras[0], len(frames), clip, seed, typical),
            )
        )

    def taken(self, start: Cameras, known: int, clip: Clip, seed: int) -> Cameras:
        typical = float(self._start(start).depth.median())
        wrong = self.mistaken(start, known, clip, seed, typical)
        return Cameras.cat(
            [mistakes.camera(camera, sizes["camera"], typical) for camera, mistakes, sizes in wrong]
        )

    def mistaken(
        self, start: Cameras, known: int, clip: Clip, seed: int, typical: float
    ) -> list[tuple[Cameras, Mistakes, dict[str, float]]]:
        """Of each frame of a clip: the camera asked for, its mistakes and their sizes."""
        source, last = (
            Mistakes.of(clip.source, seed),
            Mistakes.of(known + len(clip.cameras) - 1, seed),
        )
        out = []
        for index in range(len(clip.cameras)):
            away = motion(start, clip.cameras[index], typical)
            sizes = {kind: away * factor for kind, factor in self.factors.items()}
            out.append(
                (clip.cameras[index], source.fading(last, (index + 1) / len(clip.cameras)), sizes)
            )
        return out

    def _start(self, camera: Cameras) -> Frames:
        """The scene's own view, cast once."""
        known = self._seen and all(
            map(torch.equal, self._seen[0].tensors().values(), camera.tensors().values())
        )
        if not known or (self._seen[0].width, self._seen[0].height) != (
            camera.width,
            camera.height,
        ):
            self._seen = (camera, self.truth(camera))
        return self._seen[1]

    def _draw(
        self, camera: Cameras, mistakes: Mistakes, sizes: dict[str, float], typical: float
    ) -> Frames:
        seen = self.truth(mistakes.camera(camera, sizes["camera"], typical))
        rgb, depth = mistakes.warp(seen.rgb[0], seen.depth[0], sizes["geometry"], sizes["texture"])
        rgb = mistakes.mottle(rgb, sizes["texture"])
        rgb = mistakes.color(blurred(rgb, BLUR * sizes["blur"] * camera.width), sizes["color"])
        return Frames((255 * rgb.clamp(0, 1)).round().to(torch.uint8)[None], depth[None])
