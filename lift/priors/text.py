"""Any image-to-video pipeline of diffusers, told in words where to go."""

import inspect
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.priors import Asked, priors
from lift.priors.diffusion.base import OneByOne, loaded
from lift.priors.diffusion.controls import WORDS, move, sentences
from lift.types import Cameras, Depth


@priors.register("diffusers")
class Diffusers(OneByOne):
    """Any image-to-video pipeline of diffusers, told in words where to go.

    What the last part of a clip's name says ("right/up" goes up), or its cameras where that is no direction, is appended to the prompt; a pipeline that takes
    no prompt goes where it likes. None keeps to the path: poses are to be found (pose=auto does so).

    model: an id on the Hugging Face hub, or a folder; its class is found out. size: by default as many pixels as 832 x 480 has. frames: 49 by default.
    every, step: what the frames less one, and the sides, are to be multiples of (the model's page tells). guidance: by default the pipeline's own.
    at_once has no say, and decode with few: a pipeline makes one clip a call, and most decode as they do.
    """

    licence = "see the model's page"
    requires = (
        "diffusers",
        "transformers",
        "accelerate",
        "ftfy",
    )  # the last for the text of Wan's pipelines
    pipeline = "DiffusionPipeline"
    follows = "text"
    size = (832, 480)
    clip = 49

    def __init__(
        self,
        model: str,
        every: int = 1,
        step: int = 16,
        guidance: float | None = None,
        *,
        depth: Depth,
        device: torch.device,
        **shared,
    ) -> None:
        for key, value in (("every", every), ("step", step)):
            if value < 1:
                raise ValueError(f"prior.{key} is {value}; choose 1 or more")
        self.every, self.step, self.typical = every, step, depth.typical
        if (Path(model).expanduser() / "unet").is_dir():
            self.denoiser = "unet"
        super().__init__(
            model, guidance=1.0 if guidance is None else guidance, device=device, **shared
        )
        self.guidance = guidance

    @cached_property
    def pipe(self) -> Any:
        import diffusers

        # Its class is looked at before gigabytes of it are fetched.
        name = loaded(
            lambda: diffusers.DiffusionPipeline.load_config(self.model), self.model, self.pipeline
        ).get("_class_name")
        kind = getattr(diffusers, name, None) if isinstance(name, str) else None
        if kind is not None:
            takes = inspect.signature(kind.__call__).parameters
            if "image" not in takes or not {"num_frames", "frames"} & set(takes):
                raise ValueError(
                    f"prior.model {self.model} is a {name}, which does not make a video of an image; choose an image-to-video model"
                )
        return super().pipe

    def _placed(self, pipe: Any) -> Any:
        self.denoiser = "transformer" if hasattr(pipe, "transformer") else "unet"
        return super()._placed(pipe)

    def video(
        self,
        picture: UInt8[Tensor, "y x 3"],
        cameras: Cameras,
        asked: Asked,
        generator: torch.Generator,
        after: Callable[..., dict],
    ) -> Float[Tensor, "frame 3 y x"]:
        from PIL import Image

        made = planes(
            self.pipe(
                **self.call(
                    Image.fromarray(picture.cpu().numpy()), cameras, asked, generator, after
                )
            )[0][0]
        )
        if len(made) != self.frames:
            raise ValueError(
                f"prior.model {self.model} made {len(made)} frames, not prior.frames={self.frames}; choose prior.frames={len(made)}"
            )
        return made

    def call(
        self,
        picture: Any,
        cameras: Cameras,
        asked: Asked,
        generator: torch.Generator,
        after: Callable[..., dict],
    ) -> dict[str, Any]:
        """Arguments for the pipeline, of those that it takes."""
        named = asked.clip.name.split("/")[-1]
        words = WORDS[named if named in WORDS else move(cameras, self.typical)]
        known = {
            "image": picture,
            "prompt": sentences(self.prompt, words),
            "negative_prompt": self.negative_prompt,
            "height": cameras.height,
            "width": cameras.width,
            "num_frames": self.frames,
            "frames": self.frames,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            "generator": generator,
            "decode_chunk_size": self.decode,
            "output_type": "np",
            "callback_on_step_end": after,
        }
        takes = inspect.signature(self.pipe.__call__).parameters
        return {key: value for key, value in known.items() if key in takes and value is not None}


def planes(frames: Any) -> Float[Tensor, "frame 3 y x"]:
    """0 to 1, of what a pipeline gives for one clip: an array of that, or pictures."""
    video = torch.from_numpy(np.stack([np.asarray(frame) for frame in frames])).permute(0, 3, 1, 2)
    return video.float() if video.is_floating_point() else video / 255
