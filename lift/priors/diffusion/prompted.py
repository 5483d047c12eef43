"""Base classes of video diffusion priors with a text prompt."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.priors import ClipRequest
from lift.priors.diffusion.clips import require_finite
from lift.priors.diffusion.diffusion_prior import DiffusionPrior
from lift.registry.ranges import GuidanceScale
from lift.types import Cameras


class PromptedPrior(DiffusionPrior):
    """Settings of models with a text prompt.

    Args:
        model: Name on the Hugging Face hub, or a folder in the layout of `save_pretrained`.
        prompt: What the video shows.
        negative_prompt: What the video does not show.
        guidance_scale: Scale of classifier-free guidance. 1 turns it off.
        device: Device to compute on.
    """

    def __init__(
        self,
        model: str,
        prompt: str = "a still scene, filmed by a moving camera",
        negative_prompt: str = "",
        guidance_scale: GuidanceScale = 5.0,
        *,
        device: torch.device,
        **shared,
    ) -> None:
        super().__init__(model, device=device, **shared)
        self.prompt = prompt
        self.negative_prompt = negative_prompt
        self.guidance_scale = guidance_scale


class SingleClipPrior(PromptedPrior):
    """Base class of priors whose pipeline makes one video a call. `batch_size` has no effect.

    Args:
        model: Name on the Hugging Face hub, or a folder in the layout of `save_pretrained`.
        device: Device to compute on.
    """

    denoiser = "transformer"
    half_dtype = "bfloat16"

    def __init__(self, model: str, *, device: torch.device, **shared) -> None:
        # Clips that are made one by one are also stored one by one.
        super().__init__(model, device=device, **{**shared, "batch_size": 1})

    def sample(
        self,
        pictures: UInt8[Tensor, "clip y x 3"],
        paths: Sequence[Cameras],
        requests: Sequence[ClipRequest],
    ) -> UInt8[Tensor, "clip frame y x 3"]:
        """Sample one video after the other, as `DiffusionPrior.sample` says."""
        videos = []
        for picture, cameras, request, generator in zip(
            pictures, paths, requests, self.noise_generators(requests), strict=True
        ):
            with self.progress([request]) as advance:

                def on_step_end(*_: Any, advance: Callable[[], None] = advance) -> dict:
                    advance()
                    return {}  # no tensor is replaced

                video = require_finite(
                    self.sample_clip(picture, cameras, request, generator, on_step_end)
                )
            videos.append(
                (video.float() * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
            )
        return torch.stack(videos)

    @abstractmethod
    def sample_clip(
        self,
        picture: UInt8[Tensor, "y x 3"],
        cameras: Cameras,
        request: ClipRequest,
        generator: torch.Generator,
        on_step_end: Callable[..., dict],
    ) -> Float[Tensor, "frame 3 y x"]:
        """Sample one video that begins with a picture.

        Args:
            picture: The first frame, 0 to 255.
            cameras: The cameras of the video. The first is the origin.
            request: The request that the video answers.
            generator: Source of the noise.
            on_step_end: The pipeline's `callback_on_step_end`.

        Returns:
            The video with its first frame, 0 to 1.
        """
