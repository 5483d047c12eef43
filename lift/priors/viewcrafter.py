"""ViewCrafter: renders of what is known, with black holes, completed by a video diffusion model that was trained to."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from lift.depths import DepthEstimator
from lift.io.image import resized
from lift.priors import Asked, priors
from lift.priors.diffusion.base import DiffusionPrior, finite, loaded
from lift.priors.diffusion.viewcrafter_network import (
    LATENT,
    TIMES,
    Networks,
    ddim,
    guided,
    networks,
)
from lift.types import Cameras, Depth
from lift.warping.scaffold import Scaffold

MEAN, SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's pictures' channels."""


@priors.register("viewcrafter")
class ViewCrafter(DiffusionPrior):
    """ViewCrafter (Yu et al., 2024): the picture is moved by its depth, and a network completes the renders, whose holes are black.

    The renders' latents stand beside the noisy ones in the UNet's input, and the frame that the clip continues is told through CLIP. It is always given one
    and the same text, which is therefore no setting. Where the original (github.com/Drexubery/ViewCrafter) renders points, here a surface is rendered,
    without gaps between its pixels.

    model: an id on the hub, or a folder, with a model.ckpt, or such a file. Drexubery/ViewCrafter_16 was trained with frames=16, ViewCrafter_25_512 with
        size=512; that of ViewCrafter_25_sparse, for several pictures, is a file model_sparse.ckpt.
    guidance: how far what is told is followed, 1 for as it is. rescale: share of the contrast that guidance adds which is taken away again.
    eta: share of the noise that is fresh at every step, 0 for none. fps: frames a second that the network is told of, 10 in its training.
    """

    licence = "Apache-2.0"
    costs_only = ("offload", "compile", "at_once", "decode")
    pipeline = "ViewCrafter checkpoint"
    index = "model.ckpt"
    follows = "renders of the moved picture"
    clip = 25
    parts = {"unet": 2.68, "image_encoder": 1.18, "vae": 0.16, "resampler": 0.09}
    working = 8.0

    def __init__(
        self,
        model: str = "Drexubery/ViewCrafter_25",
        guidance: float = 7.5,
        rescale: float = 0.7,
        eta: float = 1.0,
        fps: int = 10,
        steps: int = 50,
        *,
        depth: Depth,
        estimator: DepthEstimator | None = None,
        device: torch.device,
        **shared,
    ) -> None:
        super().__init__(model, steps=steps, device=device, **shared)
        if steps > TIMES:
            raise ValueError(f"prior.steps is {steps}; choose {TIMES} or fewer")
        if not guidance >= 1:
            raise ValueError(f"prior.guidance is {guidance}; choose 1 or more")
        for key, value in (("rescale", rescale), ("eta", eta)):
            if not 0 <= value <= 1:
                raise ValueError(f"prior.{key} is {value}; choose 0 to 1")
        if fps < 1:
            raise ValueError(f"prior.fps is {fps}; choose 1 or more")
        self.guidance, self.rescale, self.eta, self.fps = guidance, rescale, eta, fps
        self.scaffold = Scaffold(depth, estimator)

    @cached_property
    def pipe(self) -> Networks:
        def load() -> Networks:
            from huggingface_hub import hf_hub_download

            place = Path(self.model)
            file = (
                place / self.index
                if place.is_dir()
                else place
                if place.is_file()
                else hf_hub_download(self.model, self.index)
            )
            return networks(
                torch.load(file, map_location="cpu", weights_only=True, mmap=True),
                self.device,
                self.dtype,
            )

        return self._placed(loaded(load, self.model, self.pipeline))

    def _placed(self, pipe: Networks) -> Networks:
        from diffusers.hooks import apply_group_offloading, apply_layerwise_casting

        if self.precision == "float8":
            apply_layerwise_casting(pipe.unet, torch.float8_e4m3fn, self.dtype)
        for part in pipe.modules.values():
            if self.offload == "none" or self.device.type == "cpu":
                part.to(self.device)
            elif self.offload == "group":
                apply_group_offloading(
                    part, self.device, offload_type="leaf_level", use_stream=True
                )
        if self.compiled:
            pipe.unet.compile()
        return pipe

    @contextmanager
    def at_work(self, name: str) -> Iterator[nn.Module]:
        """A part, on the device for as long as it works there."""
        part = self.pipe.modules[name]
        if self.offload == "model":
            part.to(self.device)
        yield part
        if self.offload == "model":
            part.to("cpu")

    @torch.inference_mode()
    def sampled(
        self,
        pictures: UInt8[Tensor, "clip y x 3"],
        paths: Sequence[Cameras],
        asked: Sequence[Asked],
    ) -> UInt8[Tensor, "clip frame y x 3"]:
        generators = self.noise(asked)
        known = torch.stack([self.encoded(video) for video in self.renders(pictures, asked)])
        tokens, nothing = self.looked_at(pictures)
        text = self.pipe.text.to(self.device)
        fps = torch.full((len(asked),), float(self.fps), device=self.device)

        def fresh() -> Tensor:
            return torch.stack(
                [torch.randn(known.shape[1:], generator=rng) for rng in generators]
            ).to(self.device)

        with self.at_work("unet") as unet, self.steps_shown(asked) as shown:

            def velocity(latents: Tensor, time: int) -> Tensor:
                inputs, times = (
                    torch.cat([latents, known], 2).to(self.dtype),
                    torch.full_like(fps, time),
                )

                def told(words: Tensor, image: Tensor) -> Tensor:
                    return unet(
                        inputs,
                        times,
                        fps,
                        words.expand(len(asked), -1, -1),
                        image.expand(len(asked), -1, -1),
                    ).float()

                given = told(text[1:], tokens)
                # One after the other: together they take twice the memory and as long.
                return (
                    given
                    if self.guidance == 1
                    else guided(told(text[:1], nothing), given, self.guidance, self.rescale)
                )

            latents = ddim(velocity, fresh(), self.steps, self.eta, self.pipe.scale, fresh, shown)
        return torch.stack([self.decoded(video) for video in finite(latents)])

    def renders(
        self, pictures: UInt8[Tensor, "clip y x 3"], asked: Sequence[Asked]
    ) -> UInt8[Tensor, "clip frame y x 3"]:
        """What is known of each clip's views, black where nothing is; the pictures before it."""
        down, across = pictures.shape[1:3]
        videos = []
        for one in asked:
            rendered = self.scaffold.rendered(one)
            black = rendered.images * (rendered.confidence > 0)[..., None]
            videos.append(resized(black, across, down))
        videos = torch.stack(videos).to(pictures.device)
        videos[:, 0] = pictures
        return videos

    def encoded(self, video: UInt8[Tensor, "frame y x 3"]) -> Float[Tensor, "frame 4 h w"]:
        with self.at_work("vae") as vae:
            planes = [
                planes_of(some).to(self.device, self.dtype) for some in video.split(self.decode)
            ]
            return (
                LATENT * torch.cat([vae.encode(some).latent_dist.mode() for some in planes]).float()
            )

    def decoded(self, latents: Float[Tensor, "frame 4 h w"]) -> UInt8[Tensor, "frame y x 3"]:
        with self.at_work("vae") as vae:
            planes = torch.cat(
                [
                    vae.decode(some).sample.float()
                    for some in (latents / LATENT).to(self.dtype).split(self.decode)
                ]
            )
        return ((planes / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)

    def looked_at(
        self, pictures: UInt8[Tensor, "clip y x 3"]
    ) -> tuple[Float[Tensor, "clip token context"], Float[Tensor, "1 token context"]]:
        """What the UNet is told of each picture, and of none, which is grey."""
        from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import (
            _resize_with_antialiasing as smaller,
        )

        planes = torch.cat(
            [planes_of(pictures), torch.zeros(1, 3, *pictures.shape[1:3], device=pictures.device)]
        ).to(self.device)
        mean, spread = (
            torch.tensor(value, device=self.device)[:, None, None] for value in (MEAN, SPREAD)
        )
        with self.at_work("image_encoder") as tower:
            small = smaller(planes, (tower.size, tower.size)) / 2 + 0.5
            patches = tower(((small - mean) / spread).to(self.dtype))
        with self.at_work("resampler") as resampler:
            tokens = resampler(patches)
        return tokens[:-1], tokens[-1:]


def planes_of(images: UInt8[Tensor, "frame y x 3"]) -> Float[Tensor, "frame 3 y x"]:
    """From -1 to 1."""
    return 2 * images.permute(0, 3, 1, 2).float() / 255 - 1
