"""Wan-VACE, which completes renders."""

from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from lift.depths import DepthEstimator
from lift.io.image import resize_images
from lift.priors import ClipRequest, priors
from lift.priors.diffusion.prompted import SingleClipPrior
from lift.priors.diffusion.wan_text import encode_prompts
from lift.registry.ranges import FractionBelowOne, InferenceSteps, Positive
from lift.types import Cameras, Depth
from lift.warping.scaffold import Scaffold


@priors.register("vace")
class WanVACE(SingleClipPrior):
    """VACE on Wan 2.1 (Jiang et al., 2025): it fills the holes of depth-warped renders.

    The input picture is warped by its depth to each camera of the path. Holes are grey in the video
    and white in its mask. Wan-AI/Wan2.1-VACE-14B-diffusers is the large model.

    `batch_size` and `decode_chunk_size` have no effect: the pipeline makes one clip a call and
    chooses its own chunks.

    Args:
        model: Name on the Hugging Face hub, or a folder in the layout of `save_pretrained`.
        min_confidence: Keep the render where its confidence is above this, 0 to below 1.
            Everything else is generated.
        reference: Picture that tells the model how the scene looks: the input (`picture`) or
            `none`.
        conditioning_scale: Weight of the render, 0 to 10. 1: as trained.
        flow_shift: Shift of the noise levels; a larger shift means more noise. 3 for 480 lines, 5
            for 720.
        num_inference_steps: Denoising steps.
        depth: Depth of the input picture.
        estimator: Estimator of the depth of generated frames. None: new pixels continue the
            background.
        device: Device to compute on.
    """

    licence = "Apache-2.0"
    pipeline_class = "WanVACEPipeline"
    control = "a depth-warped render, to be completed"
    trained_size = (832, 480)
    size_multiple = 16
    trained_frames = 81
    frame_multiple = 4
    float32_parts = ("vae",)
    weight_memory = {"transformer": 4.01, "text_encoder": 10.58, "vae": 0.47}
    working_memory = 7.0

    def __init__(
        self,
        model: str = "Wan-AI/Wan2.1-VACE-1.3B-diffusers",
        min_confidence: FractionBelowOne = 0.0,
        reference: Literal["picture", "none"] = "picture",
        conditioning_scale: Annotated[float, Interval(ge=0, le=10)] = 1.0,
        flow_shift: Positive = 3.0,
        num_inference_steps: InferenceSteps = 30,
        *,
        depth: Depth,
        estimator: DepthEstimator | None = None,
        device: torch.device,
        **shared,
    ) -> None:
        super().__init__(model, num_inference_steps=num_inference_steps, device=device, **shared)
        self.min_confidence = min_confidence
        self.reference = reference
        self.conditioning_scale = conditioning_scale
        self.flow_shift = flow_shift
        self.scaffold = Scaffold(depth, estimator)

    def _configure(self, pipe: Any) -> Any:
        pipe.scheduler = type(pipe.scheduler).from_config(
            pipe.scheduler.config, flow_shift=self.flow_shift
        )
        return super()._configure(pipe)

    @cached_property
    def prompt_embeddings(self) -> tuple[Tensor, Tensor | None]:
        """Embeddings of the prompt and, with guidance, of the negative one, [1 token channel].

        They are encoded once for all clips.
        """
        prompts = [self.prompt, self.negative_prompt][: 2 if self.guidance_scale > 1 else 1]
        states = encode_prompts(self.pipe, prompts, self.device)
        self.pipe.maybe_free_model_hooks()
        return states[:1], states[1:] if len(prompts) > 1 else None

    def release(self) -> None:
        """Free the memory of the model."""
        vars(self).pop("prompt_embeddings", None)
        super().release()

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

        height, width = picture.shape[:2]
        video, mask = self.condition(request, width, height)
        input_picture = resize_images(request.frames.images[:1], width, height)[0]
        embedding, negative_embedding = self.prompt_embeddings
        return self.pipe(
            prompt_embeds=embedding,
            negative_prompt_embeds=negative_embedding,
            video=video,
            mask=mask,
            conditioning_scale=self.conditioning_scale,
            reference_images=Image.fromarray(input_picture.cpu().numpy())
            if self.reference == "picture"
            else None,
            height=height,
            width=width,
            num_frames=self.frames,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            generator=generator,
            output_type="pt",
            callback_on_step_end=on_step_end,
        ).frames[0]

    def condition(
        self, request: ClipRequest, width: int, height: int
    ) -> tuple[Float[Tensor, "1 frame 3 y x"], Float[Tensor, "1 frame 1 y x"]]:
        """Render the video that the model completes.

        Args:
            request: The clip.
            width: Pixels across that the model generates.
            height: Pixels down that the model generates.

        Returns:
            The video, 0 to 1, grey in holes, and its mask, 1 in holes.
        """
        render = self.scaffold.render(request)
        # A pixel is valid if all pixels that it covers are.
        uncertainty = adaptive_max_pool2d(1 - render.confidence[:, None], (height, width))
        valid = 1 - uncertainty > self.min_confidence
        images = resize_images(render.images, width, height).permute(0, 3, 1, 2).float() / 255
        return torch.where(valid, images, 0.5)[None], (~valid).float()[None]
