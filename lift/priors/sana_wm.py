"""SANA-WM, a world model with camera control."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.io.names import user_path
from lift.priors import ClipRequest, priors
from lift.priors.diffusion.controls import scaled_poses
from lift.priors.diffusion.loading import load_or_keep
from lift.priors.diffusion.parts import load_part
from lift.priors.diffusion.prompted import SingleClipPrior
from lift.registry.ranges import InferenceSteps, Positive
from lift.types import Cameras, Depth
from lift.weights import HubPipeline, Weights, is_local

REFINER_LICENCE = "LTX-2 Community Licence (text encoder: Gemma Terms of Use)"
REFINER_MEMORY = {
    "refiner_transformer": 35.16,
    "refiner_text_encoder": 22.72,
    "refiner_connectors": 2.67,
}
"""Part of the refiner -> GiB of its weights in half precision: those of LTX-2."""
FPS = 16
"""Frames a second in training, an input of the refiner."""


@priors.register("sana_wm")
class SanaWM(SingleClipPrior):
    """SANA-WM (Zhu et al., 2026): long videos along camera poses and intrinsics.

    A clip has 160 new frames, so one clip covers what other priors need many short clips for.
    planner=articulated planner.levels=1 planner.angle=24 gives four clips of 24 degrees.
    planner=orbit and planner=spiral give a path in one piece. The model was trained with poses in
    metres. `refiner` runs the authors' second model, LTX-2, for finer detail. It has 87 GB of
    weights.

    `batch_size` and `decode_chunk_size` have no effect: the pipeline makes one clip a call and
    chooses its own chunks.

    Args:
        model: Name on the Hugging Face hub, or a folder in the layout of `save_pretrained`.
        unit: One metre, in typical depths of the scene. Default: exact if the depth is metric,
            otherwise 0.25, as if the typical depth were 4 m.
        refiner: Second model for finer detail: a name on the hub, such as
            Efficient-Large-Model/SANA-WM_bidirectional-diffusers-refiner, or a folder in the layout
            of `save_pretrained`. `none`: the video of the first model. The refiner has a schedule
            of three steps of its own and no guidance. prior.offload=model or group keeps it off the
            GPU while the first model runs.
        num_inference_steps: Denoising steps.
        depth: Depth of the input picture.
        device: Device to compute on.
    """

    licence = "Apache-2.0 (text encoder: Gemma Terms of Use)"
    pipeline_class = "SanaWMPipeline"
    control = "poses and intrinsics"
    trained_size = (1280, 704)
    trained_sizes = ((1280, 704),)
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
        refiner: str = "none",
        num_inference_steps: InferenceSteps = 60,
        *,
        depth: Depth,
        device: torch.device,
        **shared,
    ) -> None:
        self.refiner = str(user_path(refiner)) if refiner.startswith("~") else refiner
        if refiner != "none":  # the base class checks the memory
            self.weight_memory = {**self.weight_memory, **REFINER_MEMORY}
        super().__init__(model, num_inference_steps=num_inference_steps, device=device, **shared)
        self.metre = (
            1.0
            if unit is None and depth.kind == "metric"
            else (0.25 if unit is None else unit) * depth.typical
        )
        """One metre, in the scene's unit of length."""

    @classmethod
    def required_weights(cls, settings: Mapping[str, Any], half: bool) -> tuple[Weights, ...]:
        """List the files that are downloaded. See `VideoPrior.required_weights`."""
        weights = super().required_weights(settings, half)
        refiner = settings["refiner"]
        if refiner == "none" or is_local(refiner):
            return weights
        return (*weights, HubPipeline("prior.refiner", refiner, REFINER_LICENCE))

    def _configure(self, pipe: Any) -> Any:
        # Chunks of 96 frames that overlap by 32, as in training.
        pipe.vae.enable_tiling(tile_sample_min_num_frames=96, tile_sample_stride_num_frames=64)
        pipe.vae.use_framewise_encoding = True
        pipe.vae.use_framewise_decoding = True
        return super()._configure(pipe)

    @cached_property
    def refiner_pipe(self) -> Any:
        """The pipeline of the second model, loaded for the first clip. It has no autoencoder."""
        return load_or_keep(self, "refiner", self._load_refiner)

    def _load_refiner(self) -> Any:
        from diffusers.pipelines.sana_wm.refiner import SanaWMLTX2Refiner

        pipe = load_part(
            lambda options: SanaWMLTX2Refiner.from_pretrained(
                self.refiner, vae=None, dtype=self.dtype, **options
            ),
            "prior.refiner",
            self.refiner,
        )
        if self.precision == "float8":
            pipe.transformer.enable_layerwise_casting(
                storage_dtype=torch.float8_e4m3fn, compute_dtype=self.dtype
            )
        if self.offload == "none" or self.device.type == "cpu":
            pipe.to(self.device)
        elif self.offload == "model":
            pipe.enable_model_cpu_offload(device=self.device)
        else:
            pipe.enable_group_offload(
                onload_device=self.device, offload_type="leaf_level", use_stream=True
            )
        if self.compile:
            pipe.transformer.compile()
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def release(self) -> None:
        """Free the memory of both models."""
        vars(self).pop("refiner_pipe", None)
        super().release()

    def refine(
        self, latents: Float[Tensor, "1 c t h w"], generator: torch.Generator
    ) -> Float[Tensor, "frame 3 y x"]:
        """Refine latents by the second model, and decode them.

        Args:
            latents: Latents of the first model. The first frame of latents stays as it is.
            generator: Source of the noise.

        Returns:
            The video with its first frame, 0 to 1.
        """
        refined = self.refiner_pipe(
            latents, self.prompt, fps=float(FPS), generator=generator, output_type="latent"
        )
        vae = self.pipe.vae
        mean, std = (
            values.to(refined.device, vae.dtype)[:, None, None, None]
            for values in (vae.latents_mean, vae.latents_std)
        )
        scaled = refined.to(vae.dtype) / vae.config.scaling_factor * std + mean
        with torch.no_grad():
            video = vae.decode(scaled, return_dict=False)[0][0].float()
        self.pipe.maybe_free_model_hooks()
        return (video / 2 + 0.5).clamp(0, 1).transpose(0, 1)

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

        output = self.pipe(
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
            output_type="pt" if self.refiner == "none" else "latent",
            callback_on_step_end=on_step_end,
        )
        return output.frames if self.refiner == "none" else self.refine(output.latent, generator)
