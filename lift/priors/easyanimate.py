"""EasyAnimate with camera control."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.geometry import transform_cameras
from lift.priors import ClipRequest, priors
from lift.priors.diffusion.controls import near_depth, pluecker_rays
from lift.priors.diffusion.prompted import SingleClipPrior
from lift.registry.ranges import GuidanceScale, InferenceSteps, Positive
from lift.types import Cameras, Depth


@priors.register("easyanimate")
class EasyAnimate(SingleClipPrior):
    """EasyAnimate V5.1 (Xu et al., 2024), controlled by Plücker rays of the path.

    It was trained on paths of RealEstate10K. There the nearest depth of a scene sets the unit of
    length. So paths are scaled to that unit.

    `batch_size` and `decode_chunk_size` have no effect: the pipeline makes one clip a call and
    decodes four frames at a time.

    Args:
        model: Name on the Hugging Face hub, or a folder in the layout of `save_pretrained`.
        near: Nearest depth of the scene in the unit of RealEstate10K. Its authors chose 1.25 (Zhou
            et al., 2018). A larger value makes the camera move farther.
        negative_prompt: What the video does not show. Default: that of the authors' examples for
            prompts in English (aigc-apps/EasyAnimate, `predict_v2v_control.py`).
        guidance_scale: Scale of classifier-free guidance. 1 turns it off.
        num_inference_steps: Denoising steps.
        depth: Depth of the input picture.
        device: Device to compute on.
    """

    licence = "Apache-2.0"
    pipeline_class = "EasyAnimateControlPipeline"
    control = "Plücker rays of the path"
    trained_size = (672, 384)
    size_multiple = 16
    trained_frames = 49
    frame_multiple = 4
    weight_memory = {"transformer": 21.98, "text_encoder": 15.44, "vae": 0.46}
    working_memory = 10.0

    def __init__(
        self,
        model: str = "alibaba-pai/EasyAnimateV5.1-12b-zh-Control-Camera-diffusers",
        near: Positive = 1.25,
        negative_prompt: str = "Twisted body, limb deformities, text captions, comic, static, "
        "ugly, error, messy code.",
        guidance_scale: GuidanceScale = 6.0,
        num_inference_steps: InferenceSteps = 50,
        *,
        depth: Depth,
        device: torch.device,
        **shared,
    ) -> None:
        super().__init__(
            model,
            negative_prompt=negative_prompt,
            guidance_scale=guidance_scale,
            num_inference_steps=num_inference_steps,
            device=device,
            **shared,
        )
        self.scale = near / near_depth(depth)

    def _configure(self, pipe: Any) -> Any:
        # In diffusers 0.42 the pipeline passes its text encoder an argument that it does not
        # accept (issue 13638). It also lacks its decoder's helper: see `sample_clip`.
        encode = pipe.encode_prompt
        pipe.encode_prompt = lambda text_encoder_index=0, **arguments: encode(**arguments)
        return super()._configure(pipe)

    @torch.no_grad()
    def sample_clip(
        self,
        picture: UInt8[Tensor, "y x 3"],
        cameras: Cameras,
        request: ClipRequest,
        generator: torch.Generator,
        on_step_end: Callable[..., dict],
    ) -> Float[Tensor, "frame 3 y x"]:
        """Sample one video, as `SingleClipPrior.sample_clip` says."""
        pipe = self.pipe
        latents = pipe(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            num_frames=self.frames,
            height=cameras.height,
            width=cameras.width,
            ref_image=as_video(picture),
            control_camera_video=self.camera_video(cameras),
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            generator=generator,
            output_type="latent",
            return_dict=False,
            callback_on_step_end=on_step_end,
        )[0]
        video = (
            pipe.vae.decode((latents / pipe.vae.config.scaling_factor).to(pipe.vae.dtype))
            .sample[0]
            .float()
        )
        pipe.maybe_free_model_hooks()
        return (video / 2 + 0.5).clamp(0, 1).transpose(0, 1)

    def camera_video(self, path: Cameras) -> Float[Tensor, "1 6 frame y x"]:
        """Return the path as the network was trained to see it.

        Args:
            path: Cameras of the video, the first at the origin.

        Returns:
            Plücker rays in the first camera's axes and the training data's unit of length.
        """
        scaled = transform_cameras(
            path,
            self.scale,
            torch.eye(3).to(path.world_to_camera),
            torch.zeros(3).to(path.world_to_camera),
        )
        return pluecker_rays(scaled).transpose(0, 1)[None]


def as_video(picture: UInt8[Tensor, "y x 3"]) -> Float[Tensor, "1 3 1 y x"]:
    """Turn a picture into a video of one frame.

    Args:
        picture: Colours, 0 to 255.

    Returns:
        Colours, 0 to 1.
    """
    return picture.permute(2, 0, 1)[None, :, None].float() / 255
