"""SANA-WM, a world model with camera control."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.priors import ClipRequest, priors
from lift.priors.diffusion.controls import scaled_poses
from lift.priors.diffusion.prompted import SingleClipPrior
from lift.registry.ranges import InferenceSteps, Positive
from lift.types import Cameras, Depth


@priors.register("sana_wm")
class SanaWM(SingleClipPrior):
    """SANA-WM (Zhu et al., 2026): long videos along camera poses and intrinsics.

    A clip has 160 new frames, so one clip covers what other priors need many short clips for.
    planner=articulated planner.levels=1 planner.angle=24 gives four clips of 24 degrees.
    planner=orbit and planner=spiral give a path in one piece. The model was trained with poses in
    metres. The authors' second model for finer detail (LTX-2, 87 GB of weights) is not run.

    `batch_size` and `decode_chunk_size` have no effect: the pipeline makes one clip a call and
    chooses its own chunks.

    Args:
        model: Name on the Hugging Face hub, or a folder in the layout of `save_pretrained`.
        unit: One metre, in typical depths of the scene. Default: exact if the depth is metric,
            otherwise 0.25, as if the typical depth were 4 m.
        num_inference_steps: Denoising steps.
        depth: Depth of the input picture.
        device: Device to compute on.
    """

    licence = "Apache-2.0 (text encoder: Gemma Terms of Use)"
    pipeline_class = "SanaWMPipeline"
    control = "poses and intrinsics"
    trained_size = (1280, 704)
    size_multiple = 32
    trained_frames = 161
    frame_multiple = 8
    float32_parts = ("vae",)
    weight_memory = {"transformer": 4.96, "text_encoder": 4.87, "vae": 4.55}
    working_memory = 10.0

    def __init__(
        self,
        model: str = "Efficient-Large-Model/SANA-WM_bidirectional-diffusers",
        unit: Positive | None = None,
        num_inference_steps: InferenceSteps = 60,
        *,
        depth: Depth,
        device: torch.device,
        **shared,
    ) -> None:
        super().__init__(model, num_inference_steps=num_inference_steps, device=device, **shared)
        self.metre = (
            1.0
            if unit is None and depth.kind == "metric"
            else (0.25 if unit is None else unit) * depth.typical
        )
        """One metre, in the scene's unit of length."""

    def _configure(self, pipe: Any) -> Any:
        # Chunks of 96 frames that overlap by 32, as in training.
        pipe.vae.enable_tiling(tile_sample_min_num_frames=96, tile_sample_stride_num_frames=64)
        pipe.vae.use_framewise_encoding = True
        pipe.vae.use_framewise_decoding = True
        return super()._configure(pipe)

    def sample_clip(
        self,
        picture: UInt8[Tensor, "y x 3"],
        cameras: Cameras,
        request: ClipRequest,
        generator: torch.Generator,
        on_step_end: Callable[..., dict],
    ) -> Float[Tensor, "frame 3 y x"]:
        """Sample one video, as `SingleClipPrior.sample_clip` says."""
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
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            generator=generator,
            output_type="pt",
            callback_on_step_end=on_step_end,
        ).frames
