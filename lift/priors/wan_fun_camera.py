"""Wan-Fun-Camera, Wan with camera control by Plücker rays."""

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from lift.geometry import transform_cameras
from lift.priors import ClipRequest, priors
from lift.priors.diffusion.clip_colours import CLIP_MEAN, CLIP_STD
from lift.priors.diffusion.controls import near_depth, pluecker_rays
from lift.priors.diffusion.loading import load_model
from lift.priors.diffusion.prompted import SingleClipPrior
from lift.priors.diffusion.wan_text import encode_prompts
from lift.registry.ranges import Fraction, GuidanceScale, InferenceSteps, Positive
from lift.types import Cameras, Depth
from lift.weights import Weights, is_local

RAY_CHANNELS = 24
"""Channels of rays before squares of pixels go into channels: 6 of each of 4 frames."""

MODEL_MEMORY = {
    "Wan2.1-Fun-V1.1-14B-Control-Camera": {
        "transformer": 31.48,
        "text_encoder": 10.58,
        "image_encoder": 1.14,
        "vae": 0.47,
    },
    "Wan2.2-Fun-A14B-Control-Camera": {
        "transformer": 27.55,
        "transformer_2": 27.55,
        "text_encoder": 10.58,
        "vae": 0.47,
    },
    "Wan2.2-Fun-5B-Control-Camera": {"transformer": 9.77, "text_encoder": 10.58, "vae": 2.63},
}
"""Model -> GiB of the weights of its parts, as in `weight_memory`, which is for the default."""


@priors.register("wan_fun_camera")
class WanFunCamera(SingleClipPrior):
    """Wan-Fun-Camera (Alibaba PAI, 2025): Wan 2.1 or 2.2, controlled by Plücker rays of the path.

    An adapter adds an embedding of the rays to the patches of the latents. The paths that it was
    trained with have the format and the unit of RealEstate10K, so paths are scaled as in
    `easyanimate`. These models exist, all of alibaba-pai on the hub:
    Wan2.1-Fun-V1.1-1.3B-Control-Camera, Wan2.1-Fun-V1.1-14B-Control-Camera,
    Wan2.2-Fun-A14B-Control-Camera (two networks of 14B, one for high noise levels) and
    Wan2.2-Fun-5B-Control-Camera (frames=121 size=1280).

    `batch_size` and `decode_chunk_size` have no effect: one clip is sampled at a time, and the
    decoder chooses its own chunks.

    Args:
        model: Name on the Hugging Face hub, or a folder with the published files.
        near: Nearest depth of the scene in the unit of RealEstate10K, as in `easyanimate`. A larger
            value makes the camera move farther.
        negative_prompt: What the video does not show. Default: that of the authors' examples for
            prompts in English.
        flow_shift: Shift of the noise levels. A larger shift means more noise.
        boundary: Noise level below which the second network of Wan2.2-Fun-A14B takes over, as a
            fraction of the highest. Other models have one network.
        guidance_scale: Scale of classifier-free guidance. 1 turns it off.
        num_inference_steps: Denoising steps.
        depth: Depth of the input picture.
        device: Device to compute on.

    Reference:
        github.com/aigc-apps/VideoX-Fun, `examples/wan2.1_fun/predict_v2v_control_camera.py`, whose
        sampler `Flow` and values are the defaults here.
    """

    licence = "Apache-2.0"
    pipeline_class = "Wan-Fun Control-Camera checkpoint"
    index_file = "models_t5_umt5-xxl-enc-bf16.pth"
    more_denoisers = ("transformer_2",)
    control = "Plücker rays of the path"
    trained_size = (832, 480)
    size_multiple = 32
    trained_frames = 81
    frame_multiple = 4
    float32_parts = ("vae",)
    weight_memory = {"transformer": 3.0, "text_encoder": 10.58, "image_encoder": 1.14, "vae": 0.47}
    working_memory = 7.0

    def __init__(
        self,
        model: str = "alibaba-pai/Wan2.1-Fun-V1.1-1.3B-Control-Camera",
        near: Positive = 1.25,
        negative_prompt: str = "Twisted body, limb deformities, text captions, comic, static, "
        "ugly, error, messy code.",
        flow_shift: Positive = 5.0,
        boundary: Fraction = 0.9,
        guidance_scale: GuidanceScale = 6.0,
        num_inference_steps: InferenceSteps = 50,
        *,
        depth: Depth,
        device: torch.device,
        **shared,
    ) -> None:
        # The base class checks the memory.
        self.weight_memory = MODEL_MEMORY.get(Path(model).name, self.weight_memory)
        super().__init__(
            model,
            negative_prompt=negative_prompt,
            guidance_scale=guidance_scale,
            num_inference_steps=num_inference_steps,
            device=device,
            **shared,
        )
        self.scale = near / near_depth(depth)
        self.flow_shift = flow_shift
        self.boundary = boundary

    @classmethod
    def required_weights(cls, settings: Mapping[str, Any], half: bool) -> tuple[Weights, ...]:
        """List the files that are downloaded. See `VideoPrior.required_weights`."""
        from lift.priors.diffusion.wan_fun_camera.files import FILE_PATTERNS, PublishedFiles

        model = settings["model"]
        if is_local(model):
            return ()
        return (PublishedFiles("prior.model", model, FILE_PATTERNS, cls.licence),)

    def load_pipe(self) -> Any:
        """Load the networks."""
        from lift.priors.diffusion.wan_fun_camera import checkpoint, files

        def load() -> Any:
            folder = Path(self.model)
            if not folder.is_dir():
                from huggingface_hub import snapshot_download

                folder = Path(
                    snapshot_download(
                        self.model,
                        allow_patterns=list(files.FILE_PATTERNS),
                        ignore_patterns=list(files.UNUSED_PATTERNS),
                    )
                )
            return checkpoint.build_pipeline(folder, self.flow_shift, self.dtype)

        return self._configure(load_model(load, self.model, self.pipeline_class))

    def part_memory(self) -> dict[str, float]:
        """Return the weights of each part in GiB. Folders of experts are the transformers."""
        from lift.priors.diffusion.wan_fun_camera.files import EXPERT_FOLDERS

        parts = super().part_memory()
        for name, folder in zip(self.denoisers, EXPERT_FOLDERS, strict=True):
            if folder in parts:
                parts[name] = parts.pop(folder)
        return parts

    @cached_property
    def prompt_embeddings(self) -> Float[Tensor, "text token e"]:
        """Embeddings of the prompt and, with guidance, of the negative one.

        They are encoded once for all clips.
        """
        prompts = [self.prompt, self.negative_prompt][: 2 if self.guidance_scale > 1 else 1]
        return encode_prompts(self.pipe, prompts, self.device)

    def release(self) -> None:
        """Free the memory of the model."""
        vars(self).pop("prompt_embeddings", None)
        super().release()

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
        texts, image = self.embed(picture)
        condition = self.condition(picture)
        control = torch.cat([condition, self.packed_rays(cameras).to(condition)], 1)
        channels = pipe.vae.config.z_dim
        latents = torch.randn(1, channels, *condition.shape[2:], generator=generator)
        latents = latents.to(self.device)
        # Models with patches of 32 pixels get the first frame as latents without noise.
        first = condition[:, -channels:, :1] if self.keeps_first_frame else None
        pipe.scheduler.set_timesteps(self.num_inference_steps, device=self.device)
        for time in pipe.scheduler.timesteps:
            if first is not None:
                latents = torch.cat([first, latents[:, :, 1:]], 2)
            velocity = self.predict_velocity(latents, control, time, texts, image)
            latents = pipe.scheduler.step(velocity, time, latents, return_dict=False)[0]
            on_step_end()
        if first is not None:
            latents = torch.cat([first, latents[:, :, 1:]], 2)
        video = pipe.vae.decode(self.denormalize(latents)).sample[0].float()
        pipe.maybe_free_model_hooks()
        return (video / 2 + 0.5).clamp(0, 1).transpose(0, 1)

    @property
    def keeps_first_frame(self) -> bool:
        """Whether the first frame is given as latents without noise, as in Wan2.2-Fun-5B."""
        return self.pipe.vae.config.scale_factor_spatial > 8

    def predict_velocity(
        self,
        latents: Float[Tensor, "1 c frame h w"],
        control: Float[Tensor, "1 d frame h w"],
        time: Tensor,
        texts: Float[Tensor, "text token e"],
        image: Float[Tensor, "1 patch f"] | None,
    ) -> Float[Tensor, "1 c frame h w"]:
        """Run the network for the prompt and, with guidance, for the negative one.

        Args:
            latents: Noisy latents.
            control: The condition and the packed rays.
            time: The noise level, 0 to 1000.
            texts: Embeddings of the prompt and, with guidance, of the negative one.
            image: Tokens of the picture, for models that have them.

        Returns:
            The guided velocity.
        """
        levels = self.pipe.scheduler.config.num_train_timesteps
        second = self.pipe.transformer_2 if float(time) < self.boundary * levels else None
        network = second or self.pipe.transformer
        inputs = torch.cat([latents, control], 1).to(self.dtype)
        times = time.reshape(1)
        if self.keeps_first_frame:
            frames, height, width = latents.shape[2:]
            patches = height * width // math.prod(network.config.patch_size)
            times = time.expand(1, frames * patches).clone()
            times[:, :patches] = 0

        # One after the other: together they take twice the memory and as long.
        def predict(text: Tensor) -> Tensor:
            return network(inputs, times, text[None].to(self.dtype), image, return_dict=False)[0]

        conditional = predict(texts[0]).float()
        if len(texts) == 1:
            return conditional
        unconditional = predict(texts[1]).float()
        return unconditional + self.guidance_scale * (conditional - unconditional)

    def embed(
        self, picture: UInt8[Tensor, "y x 3"]
    ) -> tuple[Float[Tensor, "text token e"], Float[Tensor, "1 patch f"] | None]:
        """Embed the prompts and the picture.

        Args:
            picture: The first frame, 0 to 255.

        Returns:
            Embeddings of the prompt and, with guidance, of the negative one, and tokens of the
            picture, or None for Wan 2.2.
        """
        encoder = self.pipe.image_encoder
        if encoder is None:
            return self.prompt_embeddings, None
        side = encoder.config.image_size
        planes = picture.permute(2, 0, 1)[None].to(self.device).float() / 255
        planes = interpolate(planes, (side, side), mode="bicubic", align_corners=False)
        mean, std = (
            torch.tensor(value, device=self.device)[:, None, None]
            for value in (CLIP_MEAN, CLIP_STD)
        )
        tokens = encoder(((planes - mean) / std).to(self.dtype)).last_hidden_state
        return self.prompt_embeddings, tokens

    def condition(self, picture: UInt8[Tensor, "y x 3"]) -> Float[Tensor, "1 d frame h w"]:
        """Encode the picture as the network's condition.

        Args:
            picture: The first frame, 0 to 255.

        Returns:
            For Wan 2.1 the latents of the picture, then zeros. For Wan 2.2 a mask of four channels,
            1 in the first frame, and the latents of a video that is grey after the picture.
        """
        pipe = self.pipe
        transformer, autoencoder = pipe.transformer.config, pipe.vae.config
        first = picture.permute(2, 0, 1)[None, :, None].to(self.device).float() / 127.5 - 1
        frames = (self.frames - 1) // autoencoder.scale_factor_temporal + 1
        masked = transformer.in_channels > 2 * autoencoder.z_dim
        if masked:
            grey = first.new_zeros(1, 3, self.frames - 1, *first.shape[3:])
            latents = self.encode(torch.cat([first, grey], 2))
            mask = torch.zeros_like(latents[:, :4])
            mask[:, :, 0] = 1
            return torch.cat([mask, latents], 1)
        latents = self.encode(first)
        return torch.cat([latents, torch.zeros_like(latents).expand(-1, -1, frames - 1, -1, -1)], 2)

    def packed_rays(self, path: Cameras) -> Float[Tensor, "1 c frame h w"]:
        """Return the path as the network was trained to see it.

        Args:
            path: Cameras of the video, the first at the origin.

        Returns:
            Packed Plücker rays in the training data's unit of length.
        """
        from lift.priors.diffusion.wan_fun_camera.transformer import pack_rays

        scaled = transform_cameras(
            path,
            self.scale,
            torch.eye(3).to(path.world_to_camera),
            torch.zeros(3).to(path.world_to_camera),
        )
        channels = self.pipe.transformer.patch_embedding.camera.conv.in_channels
        return pack_rays(pluecker_rays(scaled), math.isqrt(channels // RAY_CHANNELS))[None]

    def encode(self, video: Float[Tensor, "1 3 frame y x"]) -> Float[Tensor, "1 c t h w"]:
        """Encode a video.

        Args:
            video: Colours, -1 to 1.

        Returns:
            Normalised latents.
        """
        latents = self.pipe.vae.encode(video.to(self.pipe.vae.dtype)).latent_dist.mode().float()
        mean, std = self.latent_statistics()
        return (latents - mean) / std

    def denormalize(self, latents: Float[Tensor, "1 c frame h w"]) -> Tensor:
        """Undo the normalisation of `encode`.

        Args:
            latents: Normalised latents.

        Returns:
            Latents for the decoder.
        """
        mean, std = self.latent_statistics()
        return (latents * std + mean).to(self.pipe.vae.dtype)

    def latent_statistics(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of each channel of latents, [channel 1 1 1]."""
        config = self.pipe.vae.config
        mean, std = (
            torch.tensor(values, device=self.device)[:, None, None, None]
            for values in (config.latents_mean, config.latents_std)
        )
        return mean, std
