"""EasyAnimate with camera control."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.geometry import transform_cameras
from lift.priors import Asked, priors
from lift.priors.diffusion.base import OneByOne
from lift.priors.diffusion.controls import near as nearest
from lift.priors.diffusion.controls import pluecker
from lift.types import Cameras, Depth


@priors.register("easyanimate")
class EasyAnimate(OneByOne):
    """EasyAnimate V5.1 with camera control (Xu et al., 2024): its network sees the Plücker coordinates of the rays of the path.

    Its paths come as those of RealEstate10K, whose unit of length is set by what lies nearest in a scene: paths are brought to that.

    near: how far away what is nearest is in that unit; the makers of those data (Zhou et al., 2018) chose 1.25, and more makes the camera go farther.
    steps: of denoising, 50 by default. at_once and decode have no say: its pipeline makes one clip a call, and four frames are decoded at a time.
    """

    licence = "Apache-2.0"
    pipeline = "EasyAnimateControlPipeline"
    follows = "Plücker rays of the path"
    size = (672, 384)
    step = 16
    clip = 49
    every = 4
    parts = {"transformer": 21.98, "text_encoder": 15.44, "vae": 0.46}
    working = 10.0

    def __init__(
        self,
        model: str = "alibaba-pai/EasyAnimateV5.1-12b-zh-Control-Camera-diffusers",
        near: float = 1.25,
        guidance: float = 6.0,
        steps: int = 50,
        *,
        depth: Depth,
        device: torch.device,
        **shared,
    ) -> None:
        super().__init__(model, guidance=guidance, steps=steps, device=device, **shared)
        if not near > 0:
            raise ValueError(f"prior.near is {near}; choose more than 0")
        self.scale = near / nearest(depth)

    def _placed(self, pipe: Any) -> Any:
        # In diffusers 0.42 the pipeline hands its text encoder a number that this does not take (issue 13638), and lacks what it decodes with: see `video`.
        encode = pipe.encode_prompt
        pipe.encode_prompt = lambda text_encoder_index=0, **said: encode(**said)
        return super()._placed(pipe)

    @torch.no_grad()
    def video(
        self,
        picture: UInt8[Tensor, "y x 3"],
        cameras: Cameras,
        asked: Asked,
        generator: torch.Generator,
        after: Callable[..., dict],
    ) -> Float[Tensor, "frame 3 y x"]:
        pipe = self.pipe
        latents = pipe(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            num_frames=self.frames,
            height=cameras.height,
            width=cameras.width,
            ref_image=reference(picture),
            control_camera_video=self.rays(cameras),
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            generator=generator,
            output_type="latent",
            return_dict=False,
            callback_on_step_end=after,
        )[0]
        video = (
            pipe.vae.decode((latents / pipe.vae.config.scaling_factor).to(pipe.vae.dtype))
            .sample[0]
            .float()
        )
        pipe.maybe_free_model_hooks()
        return (video / 2 + 0.5).clamp(0, 1).transpose(0, 1)

    def rays(self, path: Cameras) -> Float[Tensor, "1 6 frame y x"]:
        """The path as the network was shown paths: Plücker rays in the first camera's axes and in the data's unit of length."""
        scaled = transform_cameras(
            path,
            self.scale,
            torch.eye(3).to(path.world_to_camera),
            torch.zeros(3).to(path.world_to_camera),
        )
        return pluecker(scaled).transpose(0, 1)[None]


def reference(picture: UInt8[Tensor, "y x 3"]) -> Float[Tensor, "1 3 1 y x"]:
    """A picture as a video of one frame, 0 to 1."""
    return picture.permute(2, 0, 1)[None, :, None].float() / 255
