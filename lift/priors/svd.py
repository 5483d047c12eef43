"""Stable Video Diffusion, guided along the planned cameras."""

import copy
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from lift.depths import DepthEstimator
from lift.priors import ClipRequest, priors
from lift.priors.diffusion.clips import require_finite
from lift.priors.diffusion.diffusion_prior import DiffusionPrior
from lift.priors.diffusion.euler import sample_euler, warp_guidance
from lift.priors.diffusion.svd_attention import ChunkedSelfAttention, SingleTokenAttention
from lift.registry.ranges import Factor, FrameRate
from lift.types import Cameras, Depth
from lift.warping.scaffold import Scaffold, ScaffoldRender


@priors.register("svd")
class StableVideoDiffusion(DiffusionPrior):
    """Stable Video Diffusion (Blattmann et al., 2023), guided by depth-warped renders.

    Each step combines the network's estimate of the clean video with a render of the input, warped
    by its depth. Their weights come from the error of each, as in a Kalman filter: the render
    decides while there is much noise, the network at the end. No training is needed. The method is
    of the family of NVS-Solver (You et al., ICLR 2025) and ViewExtrapolator (Liu et al., 2024).

    Stability AI's licence allows commercial use below a yearly revenue.

    Args:
        model: Name on the Hugging Face hub, or a folder in the layout of `save_pretrained`.
        warp_guidance: `warp` follows the cameras. `none` is plain SVD, which moves as it likes. Its
            poses must then be estimated (pose=matching).
        warp_error: Standard deviation of the render's error, in that of the latents. A larger
            error leaves more to the network.
        repeats: How many times each step but the last ones is repeated from fresh noise. Generated
            content then agrees better with the render, and sampling takes as much longer.
        guidance_scale: Scale of classifier-free guidance of the first and of the last frame. It is
            interpolated linearly between them.
        fps: Frames a second, an input of the network.
        motion_bucket_id: Amount of motion, an input of the network, 0 to 1000. 127 is usual.
        noise_aug_strength: Noise on the input picture, in its range of -1 to 1.
        vae_precision: Type of the autoencoder. `auto` encodes pictures in single precision, and
            decodes in the type of the network. `float32` does both in single precision.
        seed_scope: `clip` gives each clip its own noise. `source` numbers the clips that continue
            one frame, and gives the same noise to all clips of a number.
        depth: Depth of the input picture.
        estimator: Estimator of the depth of generated frames. None: new pixels continue the
            background.
        device: Device to compute on.
    """

    licence = "Stability AI Community Licence"
    pipeline_class = "StableVideoDiffusionPipeline"
    control = "a depth-warped render, by guidance"
    variant = "fp16"
    trained_sizes = ((1024, 576),)
    trained_frames = 25
    weight_memory = {"unet": 2.84, "image_encoder": 1.18, "vae": 0.18}
    working_memory = 11.0
    memory_note = "16 frames took 9.2 GiB with offload=none on an H200"
    clip_seconds = (20.0, "an H200 (by what 16 frames took)")

    def __init__(
        self,
        model: str = "stabilityai/stable-video-diffusion-img2vid-xt",
        warp_guidance: Literal["warp", "none"] = "warp",
        warp_error: Factor = 0.3,
        repeats: Annotated[int, Interval(ge=0, le=100)] = 0,
        guidance_scale: tuple[Factor, Factor] = (1.0, 3.0),
        fps: FrameRate = 7,
        motion_bucket_id: Annotated[int, Interval(ge=0, le=1000)] = 127,
        noise_aug_strength: Annotated[float, Interval(ge=0, le=10)] = 0.02,
        vae_precision: Literal["auto", "float32"] = "auto",
        seed_scope: Literal["clip", "source"] = "clip",
        *,
        depth: Depth,
        estimator: DepthEstimator | None = None,
        device: torch.device,
        **shared,
    ) -> None:
        if vae_precision == "float32":
            self.float32_parts = ("vae",)
            self.weight_memory = {**self.weight_memory, "vae": 2 * self.weight_memory["vae"]}
        self.seed_scope = seed_scope
        super().__init__(model, device=device, **shared)
        self.warp_guidance = warp_guidance
        self.warp_error = warp_error
        self.repeats = repeats
        self.guidance_scale = guidance_scale
        self.noise_aug_strength = noise_aug_strength
        # The network was trained with one frame a second less than the videos have.
        self.time_ids = (fps - 1, motion_bucket_id, noise_aug_strength)
        self.scaffold = Scaffold(depth, estimator)

    @torch.inference_mode()
    def sample(
        self,
        pictures: UInt8[Tensor, "clip y x 3"],
        paths: Sequence[Cameras],
        requests: Sequence[ClipRequest],
    ) -> UInt8[Tensor, "clip frame y x 3"]:
        """Sample videos, as `DiffusionPrior.sample` says."""
        generators = self.noise_generators(requests)
        with ThreadPoolExecutor(1) as executor:  # the CPU renders while the GPU encodes
            renders = (
                executor.map(self.scaffold.render, requests)
                if self.warp_guidance == "warp"
                else None
            )
            condition, embedding = self.encode_pictures(pictures, generators)
            guidance = self.make_guidance(renders) if renders else None
        height, width = condition.shape[-2:]
        denoise = self.make_denoiser(condition, embedding, paths)
        self.pipe.scheduler.set_timesteps(self.num_inference_steps, device=self.device)
        scheduler = self.pipe.scheduler
        sigmas = scheduler.sigmas.to(self.device)

        def fresh_noise() -> Tensor:
            return torch.stack(
                [torch.randn(self.frames, 4, height, width, generator=rng) for rng in generators]
            ).to(self.device)

        with self.progress(requests) as advance:
            latents = sample_euler(
                denoise,
                fresh_noise(),
                sigmas,
                scheduler.timesteps,
                scheduler.init_noise_sigma,
                guidance,
                advance,
                self.repeats if guidance else 0,
                fresh_noise,
            )
        videos = torch.stack([self.decode_latents(video) for video in require_finite(latents)])
        self.pipe.maybe_free_model_hooks()
        return videos

    def _configure(self, pipe: Any) -> Any:
        if pipe.scheduler.config.prediction_type != "v_prediction":
            raise ValueError(
                f"prior.model is {self.model}, whose network predicts "
                f"{pipe.scheduler.config.prediction_type!r}; choose one of Stable Video Diffusion"
            )
        self_attention, picture_attention = ChunkedSelfAttention(), SingleTokenAttention()
        pipe.unet.set_attn_processor(
            {
                name: picture_attention if ".attn2." in name else self_attention
                for name in pipe.unet.attn_processors
            }
        )
        if self.compile:
            pipe.vae.decoder.compile()
        return super()._configure(pipe)

    @property
    def picture_attention(self) -> SingleTokenAttention:
        """The attention to the picture, the same one in all layers."""
        processors = self.pipe.unet.attn_processors.values()
        return next(one for one in processors if isinstance(one, SingleTokenAttention))

    # Into latents and back

    def encode_pictures(
        self, pictures: UInt8[Tensor, "clip y x 3"], generators: Sequence[torch.Generator]
    ) -> tuple[Tensor, Tensor]:
        """Encode the first frames, which condition the network.

        Args:
            pictures: First frame of each clip, 0 to 255.
            generators: Source of each clip's noise on its picture.

        Returns:
            Latents [clip 1 4 h w], unscaled as the network expects them, and CLIP embeddings
            [clip 1 channel].
        """
        from PIL import Image

        pipe = self.pipe
        images = [Image.fromarray(picture.cpu().numpy()) for picture in pictures]
        embedding = pipe._encode_image(images, self.device, 1, False)
        planes = 2 * pictures.permute(0, 3, 1, 2).float() / 255 - 1
        planes = planes + self.noise_aug_strength * torch.stack(
            [torch.randn(planes.shape[1:], generator=rng) for rng in generators]
        ).to(planes)
        return self._encode_frames(planes)[:, None].to(self.dtype), embedding

    def _encode_frames(self, planes: Float[Tensor, "frame 3 y x"]) -> Float[Tensor, "frame 4 h w"]:
        """Encode frames in chunks, in single precision where the autoencoder needs it."""
        vae = self.pipe.vae
        upcast = vae.dtype == torch.float16 and vae.config.force_upcast
        if upcast:
            vae.to(dtype=torch.float32)
        try:
            return torch.cat(
                [
                    vae.encode(chunk.to(self.device, vae.dtype)).latent_dist.mode()
                    for chunk in planes.split(self.decode_chunk_size)
                ]
            )
        finally:
            if upcast:
                vae.to(dtype=torch.float16)

    def _encode_renders(self, planes: Float[Tensor, "frame 3 y x"]) -> Float[Tensor, "frame 4 h w"]:
        """Encode renders in bfloat16. Their own errors are larger, and it is many times faster."""
        dtype = next(self.render_encoder.parameters()).dtype
        moments = torch.cat(
            [
                self.render_encoder(chunk.to(self.device, dtype))
                for chunk in planes.split(self.decode_chunk_size)
            ]
        )
        return moments.float().chunk(2, 1)[0]

    @cached_property
    def render_encoder(self) -> torch.nn.Module:
        """A copy of the autoencoder's encoder in bfloat16 on a GPU.

        The autoencoder overflows in float16, and its own precision changes between encoding and
        decoding.
        """
        vae = self.pipe.vae
        encoder = copy.deepcopy(torch.nn.Sequential(vae.encoder, vae.quant_conv)).to(
            self.device, torch.bfloat16 if self.device.type == "cuda" else vae.dtype
        )
        if self.compile:
            encoder.compile()
        return encoder

    def release(self) -> None:
        """Free the memory of the model."""
        vars(self).pop("render_encoder", None)
        super().release()

    def decode_latents(self, latents: Float[Tensor, "frame 4 h w"]) -> UInt8[Tensor, "frame y x 3"]:
        """Decode the latents of one video.

        Args:
            latents: Scaled latents, as the network has them.

        Returns:
            The frames, 0 to 255.
        """
        vae = self.pipe.vae
        scaled = (latents / vae.config.scaling_factor).to(vae.dtype)
        planes = torch.cat(
            [
                vae.decode(chunk, num_frames=len(chunk)).sample.float()
                for chunk in scaled.split(self.decode_chunk_size)
            ]
        )
        return ((planes / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)

    # Sampling

    def make_denoiser(
        self, condition: Tensor, embedding: Tensor, paths: Sequence[Cameras]
    ) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """Build the network with classifier-free guidance.

        Args:
            condition: Latents of the first frames, [clip 1 4 h w].
            embedding: Their CLIP embeddings, [clip 1 channel].
            paths: Cameras of each clip.

        Returns:
            A function of noisy latents [clip frame 4 h w], their sigma and their timestep that
            returns the clean latents.
        """
        clips = len(condition)
        time_ids = torch.tensor([self.time_ids], dtype=self.dtype, device=self.device)
        time_ids = time_ids.expand(clips, -1)
        scale = torch.linspace(*self.guidance_scale, self.frames, device=self.device)
        scale = scale[:, None, None, None]
        guided = max(self.guidance_scale) > 1
        if guided:  # without the picture, and with it
            condition = torch.cat([torch.zeros_like(condition), condition])
            embedding = torch.cat([torch.zeros_like(embedding), embedding])
            time_ids = torch.cat([time_ids, time_ids])
        condition = condition.expand(-1, self.frames, -1, -1, -1)
        self.picture_attention.clips = len(condition)
        path_condition = self.path_condition(paths, 2 if guided else 1)

        def denoise(latents: Tensor, sigma: Tensor, timestep: Tensor) -> Tensor:
            scaled = (latents / (sigma**2 + 1).sqrt()).to(self.dtype)
            inputs = torch.cat([torch.cat([scaled] * 2) if guided else scaled, condition], 2)
            velocity = self.pipe.unet(
                inputs,
                timestep,
                encoder_hidden_states=embedding,
                added_time_ids=time_ids,
                return_dict=False,
                **path_condition,
            )[0].float()
            if guided:
                unconditional, conditional = velocity.chunk(2)
                velocity = unconditional + scale * (conditional - unconditional)
            return latents / (sigma**2 + 1) - velocity * sigma / (sigma**2 + 1).sqrt()

        return denoise

    def path_condition(self, paths: Sequence[Cameras], copies: int) -> dict[str, Tensor]:
        """Return what the network gets of the cameras. Plain SVD gets nothing.

        Args:
            paths: Cameras of each clip.
            copies: How many times the batch is repeated, for classifier-free guidance.

        Returns:
            Keyword arguments of the network.
        """
        return {}

    def make_guidance(
        self, renders: Iterable[ScaffoldRender]
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Build the guidance towards renders.

        Args:
            renders: Warped pictures of each clip, at the size of the run's picture.

        Returns:
            The correction of `warp_guidance`.
        """
        latents = []
        confidences = []
        for render in renders:
            height, width = render.images.shape[1:3]
            canvas = self.canvas(width, height)
            planes = canvas.place_planes(render.images.permute(0, 3, 1, 2).float())
            latents.append(
                self._encode_renders(2 * planes.clamp(0, 255) / 255 - 1)
                * self.pipe.vae.config.scaling_factor
            )
            # A latent is as certain as the least certain of its pixels.
            confidence = canvas.place_confidence(render.confidence[:, None])
            uncertainty = adaptive_max_pool2d(1 - confidence, tuple(latents[-1].shape[-2:]))
            confidences.append(1 - uncertainty)
        target = torch.stack(latents).float()
        confidence = torch.stack(confidences).to(self.device)
        return warp_guidance(target, confidence, self.warp_error)
