"""Wan-VACE, which completes renders."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from lift.depths import DepthEstimator
from lift.io.image import resized
from lift.priors import Asked, priors
from lift.priors.diffusion.base import OneByOne
from lift.registry import check_ranges
from lift.types import Cameras, Depth
from lift.warping.scaffold import Scaffold

WORDS = 512
"""Tokens of a prompt that it was trained with."""


@priors.register("vace")
class WanVACE(OneByOne):
    """VACE on Wan 2.1 (Jiang et al., 2025): it fills the holes of a video, here what the picture shows of each camera of the path.

    The picture is moved by its depth; what that does not show is grey in the video and white in its mask. Wan-AI/Wan2.1-VACE-14B-diffusers is the large model.

    trust: the render is kept where it is believed more than this, from 0 to 1; all else is made up. reference: what tells it besides how things look, the
        input `picture` or `none`. strength: of the video that it completes, 1 as trained.
    shift: of the noise levels towards more noise; 3 for 480 lines, 5 for 720.
    at_once and decode have no say: its pipeline makes one clip a call, and decodes as it does.
    """

    licence = "Apache-2.0"
    pipeline = "WanVACEPipeline"
    follows = "a render of the moved picture, to be completed"
    size = (832, 480)
    step = 16
    clip = 81
    every = 4
    single = ("vae",)
    parts = {"transformer": 4.01, "text_encoder": 10.58, "vae": 0.47}
    working = 7.0

    def __init__(
        self,
        model: str = "Wan-AI/Wan2.1-VACE-1.3B-diffusers",
        trust: float = 0.0,
        reference: Literal["picture", "none"] = "picture",
        strength: float = 1.0,
        shift: float = 3.0,
        steps: int = 30,
        *,
        depth: Depth,
        estimator: DepthEstimator | None = None,
        device: torch.device,
        **shared,
    ) -> None:
        super().__init__(model, steps=steps, device=device, **shared)
        check_ranges("prior", strength=(strength, 0, 10))
        if not 0 <= trust < 1:
            raise ValueError(f"prior.trust is {trust}; choose 0 or more and less than 1")
        if not shift > 0:
            raise ValueError(f"prior.shift is {shift}; choose more than 0")
        self.trust, self.reference, self.strength, self.shift = trust, reference, strength, shift
        self.scaffold = Scaffold(depth, estimator)

    def _placed(self, pipe: Any) -> Any:
        pipe.scheduler = type(pipe.scheduler).from_config(
            pipe.scheduler.config, flow_shift=self.shift
        )
        return super()._placed(pipe)

    @cached_property
    def words(self) -> tuple[Tensor, Tensor | None]:
        """What the prompt and, with guidance, the negative one say to the network [1 token channel]; encoded once for all clips."""
        pipe = self.pipe
        texts = [self.prompt, self.negative_prompt][: 2 if self.guidance > 1 else 1]
        tokens = pipe.tokenizer(
            texts,
            padding="max_length",
            max_length=WORDS,
            truncation=True,
            return_attention_mask=True,
            return_tensors="pt",
        ).to(self.device)
        with torch.no_grad():
            states = pipe.text_encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
        states = (
            states * tokens.attention_mask[..., None]
        )  # it was trained with zeros after the end
        pipe.maybe_free_model_hooks()
        return states[:1], states[1:] if len(texts) > 1 else None

    def release(self) -> None:
        self.__dict__.pop("words", None)
        super().release()

    def video(
        self,
        picture: UInt8[Tensor, "y x 3"],
        cameras: Cameras,
        asked: Asked,
        generator: torch.Generator,
        after: Callable[..., dict],
    ) -> Float[Tensor, "frame 3 y x"]:
        from PIL import Image

        height, width = picture.shape[:2]
        video, mask = self.condition(asked, width, height)
        first = resized(asked.frames.images[:1], width, height)[0]
        words, without = self.words
        return self.pipe(
            prompt_embeds=words,
            negative_prompt_embeds=without,
            video=video,
            mask=mask,
            conditioning_scale=self.strength,
            reference_images=Image.fromarray(first.cpu().numpy())
            if self.reference == "picture"
            else None,
            height=height,
            width=width,
            num_frames=self.frames,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            generator=generator,
            output_type="pt",
            callback_on_step_end=after,
        ).frames[0]

    def condition(
        self, asked: Asked, width: int, height: int
    ) -> tuple[Float[Tensor, "1 frame 3 y x"], Float[Tensor, "1 frame 1 y x"]]:
        """The video, from 0 to 1, grey where it is to be made, and its mask, which is 1 there."""
        rendered = self.scaffold.rendered(asked)
        # A pixel is known if all that it covers is.
        known = (
            1 - adaptive_max_pool2d(1 - rendered.confidence[:, None], (height, width)) > self.trust
        )
        images = resized(rendered.images, width, height).permute(0, 3, 1, 2).float() / 255
        return torch.where(known, images, 0.5)[None], (~known).float()[None]
