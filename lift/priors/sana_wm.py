"""SANA-WM, a world model that follows poses."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.priors import Asked, priors
from lift.priors.diffusion.base import OneByOne
from lift.priors.diffusion.controls import scaled_poses
from lift.types import Cameras, Depth


@priors.register("sana_wm")
class SanaWM(OneByOne):
    """SANA-WM (Zhu et al., 2026): long videos along camera-to-world poses and intrinsics, given as they are.

    A clip has 160 new frames, so that what other priors go in many short clips it goes in one: planner=articulated planner.depth=1 planner.angle=24 are four
    clips of 24 degrees, planner=orbit or planner=spiral a path in one piece. It was trained with poses in metres. The second model that its authors have for
    finer detail (LTX-2 with 87 GB of weights) is not run.

    unit: a metre, in typical depths of the scene; by default what it is where the depth is metric, and else 0.25 (what is looked at is taken to be 4 m away).
    at_once and decode have no say: its pipeline makes one clip a call, and decodes as it does.
    """

    licence = "Apache-2.0 (text encoder: Gemma Terms of Use)"
    pipeline = "SanaWMPipeline"
    follows = "poses and intrinsics"
    size = (1280, 704)
    step = 32
    clip = 161
    every = 8
    single = ("vae",)
    parts = {"transformer": 4.96, "text_encoder": 4.87, "vae": 4.55}
    working = 10.0

    def __init__(
        self,
        model: str = "Efficient-Large-Model/SANA-WM_bidirectional-diffusers",
        unit: float | None = None,
        steps: int = 60,
        *,
        depth: Depth,
        device: torch.device,
        **shared,
    ) -> None:
        super().__init__(model, steps=steps, device=device, **shared)
        if unit is not None and not unit > 0:
            raise ValueError(f"prior.unit is {unit}; choose more than 0")
        self.metre = (
            1.0
            if unit is None and depth.kind == "metric"
            else (0.25 if unit is None else unit) * depth.typical
        )

    def _placed(self, pipe: Any) -> Any:
        # As in training, pieces of 96 frames that overlap by 32.
        pipe.vae.enable_tiling(tile_sample_min_num_frames=96, tile_sample_stride_num_frames=64)
        pipe.vae.use_framewise_encoding = pipe.vae.use_framewise_decoding = True
        return super()._placed(pipe)

    def video(
        self,
        picture: UInt8[Tensor, "y x 3"],
        cameras: Cameras,
        asked: Asked,
        generator: torch.Generator,
        after: Callable[..., dict],
    ) -> Float[Tensor, "frame 3 y x"]:
        from PIL import Image

        return self.pipe(
            Image.fromarray(picture.cpu().numpy()),
            self.prompt,
            negative_prompt=self.negative_prompt,
            c2w=scaled_poses(cameras, self.metre).cpu().numpy(),
            intrinsics=cameras.intrinsics.cpu().numpy(),
            height=cameras.height,
            width=cameras.width,
            num_frames=self.frames,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            generator=generator,
            output_type="pt",
            callback_on_step_end=after,
        ).frames
