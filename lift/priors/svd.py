"""Stable Video Diffusion, made to follow cameras without training."""

import copy
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, interpolate

from lift.depths import DepthEstimator
from lift.priors import Asked, priors
from lift.priors.diffusion.base import DiffusionPrior, attend, finite
from lift.registry import check_ranges
from lift.types import Cameras, Depth
from lift.warping.scaffold import Rendered, Scaffold

AGREED = 0.1
"""Level of noise, in units of the latents' spread, from which on what is made up has come to agree with what is known, or never will."""


@priors.register("svd")
class StableVideoDiffusion(DiffusionPrior):
    """Stable Video Diffusion (Blattmann et al., 2023), steered along the cameras: its picture is moved by its depth, and sampling is drawn to that where it is known.

    At every step what the network takes for the finished video and the moved picture are weighed against one another by how far each may be off, as a
    Kalman filter weighs a guess and a measurement: the picture's movement decides while all is noise, the network in the end. Training-free, of the family
    of NVS-Solver (You et al., ICLR 2025) and ViewExtrapolator (Liu et al., 2024). Stability AI's licence allows commercial use below a yearly revenue.

    steer: `warp` follows the cameras, `none` is plain SVD, which moves as it likes (poses are then to be found: pose=matching).
    warp_error: how far off the moved picture may be, in units of the latents' spread; more leaves more to the network.
    repeats: times that each step, down to little noise, is taken anew, from fresh noise: what is made up then agrees better with what is known, and takes so much longer.
    guidance: of the first and of the last frame; between them it grows evenly. fps, motion, noise: what the network is told of the video (its frames a second,
        how much moves, 127 being usual, and noise on the picture).
    """

    licence = "Stability AI Community Licence"
    pipeline = "StableVideoDiffusionPipeline"
    follows = "a render of the moved picture, by guidance"
    variant = "fp16"
    clip = 25
    parts = {"unet": 2.84, "image_encoder": 1.18, "vae": 0.18}
    working = 11.0
    pace = (20.0, "an H200 (by what 16 frames took)")

    def __init__(
        self,
        model: str = "stabilityai/stable-video-diffusion-img2vid-xt",
        steer: Literal["warp", "none"] = "warp",
        warp_error: float = 0.3,
        repeats: int = 0,
        guidance: tuple[float, float] = (1.0, 3.0),
        fps: int = 7,
        motion: int = 127,
        noise: float = 0.02,
        *,
        depth: Depth,
        estimator: DepthEstimator | None = None,
        device: torch.device,
        **shared,
    ) -> None:
        super().__init__(model, device=device, **shared)
        check_ranges(
            "prior",
            warp_error=(warp_error, 0, 100),
            repeats=(repeats, 0, 100),
            noise=(noise, 0, 10),
            fps=(fps, 1, 1000),
            motion=(motion, 0, 1000),
        )
        for value in guidance:
            check_ranges("prior", guidance=(value, 0, 100))
        self.steer, self.warp_error, self.repeats, self.guidance = (
            steer,
            warp_error,
            repeats,
            guidance,
        )
        self.told = (
            fps - 1,
            motion,
            noise,
        )  # the network was trained with one frame a second less than there are
        self.augment = noise
        self.scaffold, self.told_once = Scaffold(depth, estimator), OneToken()

    @torch.inference_mode()
    def sampled(
        self,
        pictures: UInt8[Tensor, "clip y x 3"],
        paths: Sequence[Cameras],
        asked: Sequence[Asked],
    ) -> UInt8[Tensor, "clip frame y x 3"]:
        generators = self.noise(asked)
        with ThreadPoolExecutor(1) as aside:  # renders are the CPU's work
            renders = aside.map(self.scaffold.rendered, asked) if self.steer == "warp" else None
            condition, embedding = self.encoded(pictures, generators)
            pull = self.pull(renders, pictures.shape[1:3]) if renders else None
        height, width = condition.shape[-2:]
        denoise = self.denoiser_of(condition, embedding, paths)
        self.pipe.scheduler.set_timesteps(self.steps, device=self.device)
        scheduler = self.pipe.scheduler
        sigmas = scheduler.sigmas.to(self.device)

        def fresh() -> Tensor:
            return torch.stack(
                [torch.randn(self.frames, 4, height, width, generator=rng) for rng in generators]
            ).to(self.device)

        with self.steps_shown(asked) as shown:
            repeats = self.repeats if pull else 0
            latents = euler(
                denoise,
                fresh(),
                sigmas,
                scheduler.timesteps,
                scheduler.init_noise_sigma,
                pull,
                shown,
                repeats,
                fresh,
            )
        videos = torch.stack([self.decoded(video) for video in finite(latents)])
        self.pipe.maybe_free_model_hooks()
        return videos

    def _placed(self, pipe: Any) -> Any:
        if pipe.scheduler.config.prediction_type != "v_prediction":
            raise ValueError(
                f"prior.model is {self.model}, whose network predicts {pipe.scheduler.config.prediction_type!r}; choose one of Stable Video Diffusion"
            )
        apart = SelfAttention()
        pipe.unet.set_attn_processor(
            {
                name: self.told_once if ".attn2." in name else apart
                for name in pipe.unet.attn_processors
            }
        )
        if self.compiled:
            pipe.vae.decoder.compile()
        return super()._placed(pipe)

    # Into latents and back

    def encoded(
        self, pictures: UInt8[Tensor, "clip y x 3"], generators: Sequence[torch.Generator]
    ) -> tuple[Tensor, Tensor]:
        """Latents [clip 1 4 y x], unscaled as this network wants them, and what CLIP sees [clip 1 channel]."""
        from PIL import Image

        pipe = self.pipe
        seen = [Image.fromarray(picture.cpu().numpy()) for picture in pictures]
        embedding = pipe._encode_image(seen, self.device, 1, False)
        planes = 2 * pictures.permute(0, 3, 1, 2).float() / 255 - 1
        planes = planes + self.augment * torch.stack(
            [torch.randn(planes.shape[1:], generator=rng) for rng in generators]
        ).to(planes)
        return self._latents(planes)[:, None].to(self.dtype), embedding

    def _latents(self, planes: Float[Tensor, "frame 3 y x"]) -> Float[Tensor, "frame 4 h w"]:
        """A few frames at a time; in single precision where the autoencoder needs it."""
        vae = self.pipe.vae
        upcast = vae.dtype == torch.float16 and vae.config.force_upcast
        if upcast:
            vae.to(dtype=torch.float32)
        try:
            return torch.cat(
                [
                    vae.encode(some.to(self.device, vae.dtype)).latent_dist.mode()
                    for some in planes.split(self.decode)
                ]
            )
        finally:
            if upcast:
                vae.to(dtype=torch.float16)

    def _roughly(self, planes: Float[Tensor, "frame 3 y x"]) -> Float[Tensor, "frame 4 h w"]:
        """Latents of what is off by more than half precision, which takes a fraction of the time."""
        kind = next(self.encoder.parameters()).dtype
        moments = torch.cat(
            [self.encoder(some.to(self.device, kind)) for some in planes.split(self.decode)]
        )
        return moments.float().chunk(2, 1)[0]

    @cached_property
    def encoder(self) -> torch.nn.Module:
        """Of the autoencoder, whose own precision changes between encoding and decoding; it overflows in float16."""
        vae = self.pipe.vae
        encoder = copy.deepcopy(torch.nn.Sequential(vae.encoder, vae.quant_conv)).to(
            self.device, torch.bfloat16 if self.device.type == "cuda" else vae.dtype
        )
        if self.compiled:
            encoder.compile()
        return encoder

    def release(self) -> None:
        self.__dict__.pop("encoder", None)
        super().release()

    def decoded(self, latents: Float[Tensor, "frame 4 h w"]) -> UInt8[Tensor, "frame y x 3"]:
        vae = self.pipe.vae
        scaled = (latents / vae.config.scaling_factor).to(vae.dtype)
        planes = torch.cat(
            [
                vae.decode(some, num_frames=len(some)).sample.float()
                for some in scaled.split(self.decode)
            ]
        )
        return ((planes / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)

    # Sampling

    def denoiser_of(
        self, condition: Tensor, embedding: Tensor, paths: Sequence[Cameras]
    ) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """The network with guidance: of noisy latents [clip frame 4 h w], their sigma and its timestep, the clean ones."""
        clips = len(condition)
        told = torch.tensor([self.told], dtype=self.dtype, device=self.device).expand(clips, -1)
        scale = torch.linspace(*self.guidance, self.frames, device=self.device)[:, None, None, None]
        guided = max(self.guidance) > 1
        if guided:  # without the picture, and with it
            condition, embedding = (
                torch.cat([torch.zeros_like(some), some]) for some in (condition, embedding)
            )
            told = torch.cat([told, told])
        condition = condition.expand(-1, self.frames, -1, -1, -1)
        self.told_once.clips = len(condition)
        more = self.conditions(paths, 2 if guided else 1)

        def denoise(latents: Tensor, sigma: Tensor, timestep: Tensor) -> Tensor:
            scaled = (latents / (sigma**2 + 1).sqrt()).to(self.dtype)
            inputs = torch.cat([torch.cat([scaled] * 2) if guided else scaled, condition], 2)
            velocity = self.pipe.unet(
                inputs,
                timestep,
                encoder_hidden_states=embedding,
                added_time_ids=told,
                return_dict=False,
                **more,
            )[0].float()
            if guided:
                without, given = velocity.chunk(2)
                velocity = without + scale * (given - without)
            return latents / (sigma**2 + 1) - velocity * sigma / (sigma**2 + 1).sqrt()

        return denoise

    def conditions(self, paths: Sequence[Cameras], times: int) -> dict[str, Tensor]:
        """More that the network is told, for each clip, `times` times."""
        return {}

    def pull(
        self, renders: Iterable[Rendered], size: tuple[int, int]
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Draws what is taken for the clean latents to those of the renders."""
        latents, beliefs = [], []
        for one in renders:
            planes = interpolate(
                one.images.permute(0, 3, 1, 2).float(),
                tuple(size),
                mode="bicubic",
                antialias=True,
                align_corners=False,
            )
            latents.append(
                self._roughly(2 * planes.clamp(0, 255) / 255 - 1)
                * self.pipe.vae.config.scaling_factor
            )
            # A latent is known if all its pixels are.
            beliefs.append(
                1 - adaptive_max_pool2d(1 - one.confidence[:, None], tuple(latents[-1].shape[-2:]))
            )
        target, belief = torch.stack(latents).float(), torch.stack(beliefs).to(self.device)
        return drawn_to(target, belief, self.warp_error)


class OneToken:
    """Attention to a single token, what CLIP sees of the picture. There is nothing to weigh: its value is the answer everywhere, worked out once a clip."""

    clips = 1

    def __call__(
        self,
        attention: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        *_: Any,
        **__: Any,
    ) -> Tensor:
        each = (
            len(encoder_hidden_states) // self.clips
        )  # the same token for all frames, or places, of a clip
        value = attention.to_out[0](attention.to_v(encoder_hidden_states[::each]))
        return value.repeat_interleave(each, 0).expand_as(hidden_states)


class SelfAttention:
    """As diffusers has it, of any number of sequences."""

    def __call__(self, attention: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        query, key, value = (
            part(hidden_states).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
            for part in (attention.to_q, attention.to_k, attention.to_v)
        )
        return attention.to_out[0](attend(query, key, value).transpose(1, 2).flatten(2))


def drawn_to(
    target: Float[Tensor, "clip frame channel h w"],
    belief: Float[Tensor, "clip frame 1 h w"],
    error: float,
) -> Callable[[Tensor, Tensor], Tensor]:
    """Of clean latents as the network has them and sigma: what they are if `target` is off by `error` / `belief`, and the network by what noise of sigma
    leaves open about numbers that spread by 1: with the variances P = sigma^2 / (sigma^2 + 1) and R, both weighed as P : R.
    """

    def pull(clean: Tensor, sigma: Tensor) -> Tensor:
        open_ = sigma**2 / (sigma**2 + 1)
        weight = belief**2 * open_ / (belief**2 * open_ + error**2).clamp(min=1e-12)
        return clean + weight * (target - clean)

    return pull


def euler(
    denoise: Callable[[Tensor, Tensor, Tensor], Tensor],
    noise: Tensor,
    sigmas: Float[Tensor, "level"],
    timesteps: Float[Tensor, "step"],
    begin: float | Tensor,
    pull: Callable[[Tensor, Tensor], Tensor] | None = None,
    after: Callable[[], None] = lambda: None,
    repeats: int = 0,
    fresh: Callable[[], Tensor] | None = None,
) -> Tensor:
    """Latents that Euler's method arrives at (Karras et al., 2022, algorithm 1 without churn), in the noise's precision; `pull` may correct what is taken for the
    clean ones at every step. begin: what unit noise is multiplied by. repeats: how many times each step down to a level above AGREED is taken anew after
    `fresh` noise has brought the latents back up, so that what is not drawn comes to agree with what is (Lugmayr et al., RePaint, 2022).
    """
    latents = noise * begin
    for sigma, following, timestep in zip(sigmas[:-1], sigmas[1:], timesteps, strict=True):
        for left in range(repeats if following > AGREED else 0, -1, -1):
            clean = denoise(latents, sigma, timestep)
            if pull is not None:
                clean = pull(clean, sigma)
            latents = latents + (latents - clean) / sigma * (following - sigma)
            if left:
                latents = latents + (sigma**2 - following**2).sqrt() * fresh()
        after()
    return latents
