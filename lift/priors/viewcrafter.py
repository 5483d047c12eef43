"""ViewCrafter, a video diffusion model that completes renders with black holes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.depths import DepthEstimator
from lift.priors import ClipRequest, priors
from lift.priors.diffusion.clip_colours import CLIP_MEAN, CLIP_STD
from lift.priors.diffusion.clips import require_finite
from lift.priors.diffusion.diffusion_prior import DiffusionPrior
from lift.priors.diffusion.loading import load_model
from lift.priors.diffusion.viewcrafter.checkpoint import (
    LATENT_SCALE,
    ViewCrafterModel,
    build_model,
)
from lift.priors.diffusion.viewcrafter.ddim import rescaled_guidance, sample_ddim
from lift.registry.ranges import Fraction, FrameRate, GuidanceScale, InferenceSteps
from lift.types import Cameras, Depth
from lift.warping.scaffold import Scaffold
from lift.weights import HubFiles, Weights, is_local
from lift.weights.files import load_pickle


@priors.register("viewcrafter")
class ViewCrafter(DiffusionPrior):
    """ViewCrafter (Yu et al., 2024): it completes depth-warped renders.

    Holes of the renders are black. The latents of the renders are concatenated with the noisy
    latents. The frame that the clip continues is embedded by CLIP. The text is always the same, so
    it is no setting. The original (github.com/Drexubery/ViewCrafter) renders points. Here a surface
    is rendered, without gaps between its pixels.

    Args:
        model: Name on the hub, a folder with a model.ckpt, or such a file.
            Drexubery/ViewCrafter_16 was trained with frames=16, ViewCrafter_25_512 with size=512.
            ViewCrafter_25_sparse, for several pictures, is a file model_sparse.ckpt.
        guidance_scale: Scale of classifier-free guidance. 1 turns it off.
        guidance_rescale: How much of the contrast that guidance adds is removed, 0 to 1.
        eta: Amount of fresh noise at every step, 0 (none) to 1.
        fps: Frames a second, an input of the network. 10 in training.
        num_inference_steps: Denoising steps.
        depth: Depth of the input picture.
        estimator: Estimator of the depth of generated frames. None: new pixels continue the
            background.
        device: Device to compute on.
    """

    licence = "Apache-2.0"
    cost_settings = ("offload", "compile", "batch_size", "decode_chunk_size")
    pipeline_class = "ViewCrafter checkpoint"
    index_file = "model.ckpt"
    control = "depth-warped renders"
    trained_sizes = ((1024, 576), (512, 320))
    completes_holes = True
    trained_frames = 25
    weight_memory = {"unet": 2.68, "image_encoder": 1.18, "vae": 0.16, "resampler": 0.09}
    working_memory = 8.0

    def __init__(
        self,
        model: str = "Drexubery/ViewCrafter_25",
        guidance_scale: GuidanceScale = 7.5,
        guidance_rescale: Fraction = 0.7,
        eta: Fraction = 1.0,
        fps: FrameRate = 10,
        num_inference_steps: InferenceSteps = 50,
        *,
        depth: Depth,
        estimator: DepthEstimator | None = None,
        device: torch.device,
        **shared,
    ) -> None:
        super().__init__(model, num_inference_steps=num_inference_steps, device=device, **shared)
        self.guidance_scale = guidance_scale
        self.guidance_rescale = guidance_rescale
        self.eta = eta
        self.fps = fps
        self.scaffold = Scaffold(depth, estimator)

    @classmethod
    def required_weights(cls, settings: Mapping[str, Any], half: bool) -> tuple[Weights, ...]:
        """List the files that are downloaded. See `VideoPrior.required_weights`."""
        model = settings["model"]
        if is_local(model):
            return ()
        return (HubFiles("prior.model", model, (cls.index_file,), cls.licence),)

    def load_pipe(self) -> ViewCrafterModel:
        """Load the networks."""

        def load() -> ViewCrafterModel:
            from huggingface_hub import hf_hub_download

            path = Path(self.model)
            if path.is_dir():
                file = path / self.index_file
            elif path.is_file():
                file = path
            else:
                file = hf_hub_download(self.model, self.index_file)
            return build_model(load_pickle(Path(file)), self.device, self.dtype)

        return self._configure(load_model(load, self.model, self.pipeline_class))

    def _configure(self, pipe: ViewCrafterModel) -> ViewCrafterModel:
        from diffusers.hooks.group_offloading import apply_group_offloading
        from diffusers.hooks.layerwise_casting import apply_layerwise_casting

        if self.precision == "float8":
            apply_layerwise_casting(pipe.unet, torch.float8_e4m3fn, self.dtype)
        for part in pipe.parts.values():
            if self.offload == "none" or self.device.type == "cpu":
                part.to(self.device)
            elif self.offload == "group":
                apply_group_offloading(
                    part, self.device, offload_type="leaf_level", use_stream=True
                )
        if self.compile:
            pipe.unet.compile()
        return pipe

    @contextmanager
    def on_device(self, name: str) -> Iterator[Any]:
        """Move a network to the device while it runs, if `offload` asks for it.

        Args:
            name: Key of `ViewCrafterModel.parts`.

        Yields:
            The network.
        """
        network = self.pipe.parts[name]
        if self.offload == "model":
            network.to(self.device)
        try:
            yield network
        finally:
            if self.offload == "model":
                network.to("cpu")

    @torch.inference_mode()
    def sample(
        self,
        pictures: UInt8[Tensor, "clip y x 3"],
        paths: Sequence[Cameras],
        requests: Sequence[ClipRequest],
    ) -> UInt8[Tensor, "clip frame y x 3"]:
        """Sample videos, as `DiffusionPrior.sample` says."""
        generators = self.noise_generators(requests)
        renders = self.renders(pictures, requests)
        condition = torch.stack([self.encode_frames(video) for video in renders])
        picture_tokens, empty_tokens = self.embed_pictures(pictures)
        text = self.pipe.text.to(self.device)
        clips = len(requests)
        fps = torch.full((clips,), float(self.fps), device=self.device)

        def fresh_noise() -> Tensor:
            return torch.stack(
                [torch.randn(condition.shape[1:], generator=rng) for rng in generators]
            ).to(self.device)

        with self.on_device("unet") as unet, self.progress(requests) as advance:

            def predict_velocity(latents: Tensor, time: int) -> Tensor:
                inputs = torch.cat([latents, condition], 2).to(self.dtype)
                times = torch.full_like(fps, time)

                def predict(words: Tensor, image: Tensor) -> Tensor:
                    words = words.expand(clips, -1, -1)
                    return unet(inputs, times, fps, words, image.expand(clips, -1, -1)).float()

                conditional = predict(text[1:], picture_tokens)
                if self.guidance_scale == 1:
                    return conditional
                # One after the other: together they take twice the memory and as long.
                unconditional = predict(text[:1], empty_tokens)
                return rescaled_guidance(
                    unconditional, conditional, self.guidance_scale, self.guidance_rescale
                )

            latents = sample_ddim(
                predict_velocity,
                fresh_noise(),
                self.num_inference_steps,
                self.eta,
                self.pipe.scale,
                fresh_noise,
                advance,
            )
        return torch.stack([self.decode_latents(video) for video in require_finite(latents)])

    def renders(
        self, pictures: UInt8[Tensor, "clip y x 3"], requests: Sequence[ClipRequest]
    ) -> UInt8[Tensor, "clip frame y x 3"]:
        """Render what the frames so far show of each clip's views.

        Args:
            pictures: First frame of each clip, at the size that the model generates.
            requests: The clips.

        Returns:
            The pictures, then the renders, 0 to 255. Holes are black, and so are borders.
        """
        videos = []
        for picture, request in zip(pictures, requests, strict=True):
            height, width = request.frames.images.shape[1:3]
            canvas = self.canvas(width, height)
            render = self.scaffold.render(request)
            images = render.images * (render.confidence > 0)[..., None]
            video = canvas.place(images, "black").to(picture.device)
            # The model completes the borders of the first frame like those of the others.
            columns, rows = canvas.inner
            window = (
                slice(canvas.top, canvas.top + rows),
                slice(canvas.left, canvas.left + columns),
            )
            video[0] = 0
            video[0][window] = picture[window]
            videos.append(video)
        return torch.stack(videos)

    def encode_frames(self, video: UInt8[Tensor, "frame y x 3"]) -> Float[Tensor, "frame 4 h w"]:
        """Encode frames in chunks.

        Args:
            video: Frames, 0 to 255.

        Returns:
            Scaled latents, as the UNet has them.
        """
        with self.on_device("vae") as vae:
            chunks = [
                to_planes(chunk).to(self.device, self.dtype)
                for chunk in video.split(self.decode_chunk_size)
            ]
            latents = torch.cat([vae.encode(chunk).latent_dist.mode() for chunk in chunks])
            return LATENT_SCALE * latents.float()

    def decode_latents(self, latents: Float[Tensor, "frame 4 h w"]) -> UInt8[Tensor, "frame y x 3"]:
        """Decode the latents of one video in chunks.

        Args:
            latents: Scaled latents, as the UNet has them.

        Returns:
            The frames, 0 to 255.
        """
        with self.on_device("vae") as vae:
            chunks = (latents / LATENT_SCALE).to(self.dtype).split(self.decode_chunk_size)
            planes = torch.cat([vae.decode(chunk).sample.float() for chunk in chunks])
        return ((planes / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)

    def embed_pictures(
        self, pictures: UInt8[Tensor, "clip y x 3"]
    ) -> tuple[Float[Tensor, "clip token context"], Float[Tensor, "1 token context"]]:
        """Compute the UNet's image tokens.

        Args:
            pictures: First frame of each clip, 0 to 255.

        Returns:
            The tokens of each picture, and those of a grey one, for guidance.
        """
        from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import (
            _resize_with_antialiasing,
        )

        grey = torch.zeros(1, 3, *pictures.shape[1:3], device=pictures.device)
        planes = torch.cat([to_planes(pictures), grey]).to(self.device)
        mean, std = (
            torch.tensor(value, device=self.device)[:, None, None]
            for value in (CLIP_MEAN, CLIP_STD)
        )
        with self.on_device("image_encoder") as encoder:
            small = _resize_with_antialiasing(planes, (encoder.size, encoder.size)) / 2 + 0.5
            patches = encoder(((small - mean) / std).to(self.dtype))
        with self.on_device("resampler") as resampler:
            tokens = resampler(patches)
        return tokens[:-1], tokens[-1:]


def to_planes(images: UInt8[Tensor, "frame y x 3"]) -> Float[Tensor, "frame 3 y x"]:
    """Turn images into planes of values from -1 to 1.

    Args:
        images: Colours, 0 to 255.

    Returns:
        Colours, -1 to 1.
    """
    return 2 * images.permute(0, 3, 1, 2).float() / 255 - 1
