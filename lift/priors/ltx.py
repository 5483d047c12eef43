"""LTX-2, told where to go by a LoRA for each move."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.priors import Asked, priors
from lift.priors.diffusion.base import OneByOne
from lift.priors.diffusion.controls import WORDS, move, sentences
from lift.registry import check_ranges
from lift.types import Cameras, Depth

LORAS = {
    "right": "Dolly-Right",
    "left": "Dolly-Left",
    "up": "Jib-Up",
    "down": "Jib-Down",
    "in": "Dolly-In",
    "out": "Dolly-Out",
    "still": "Static",
}
"""Move -> what the LoRA for it is called."""


@priors.register("ltx")
class LTX(OneByOne):
    """LTX-2 (HaCohen et al., 2026), told where to go by a LoRA for each move, and in words.

    There are LoRAs for a camera that goes in, out, left, right, up or down, or stays: a clip takes the one that its path comes nearest to. How far the camera
    goes, and what it turns to, the model decides; poses are to be found (pose=auto does so). The sound that it makes to the video is dropped.

    loras: what the names of the LoRAs on the Hugging Face hub begin with, or a folder with their files, all of which are loaded; none: words alone.
    strength: of a LoRA. fps: frames a second that the model is told. steps: of denoising, 40 by default.
    at_once and decode have no say: its pipeline makes one clip a call, and decodes in tiles.
    """

    licence = "LTX-2.x Community Licence"
    requires = ("diffusers", "transformers", "accelerate", "peft", "av")
    pipeline = "LTX2ImageToVideoPipeline"
    follows = "the move, by a LoRA and text"
    size = (768, 512)
    step = 32
    clip = 121
    every = 8
    parts = {
        "transformer": 35.16,
        "text_encoder": 22.72,
        "connectors": 2.67,
        "vae": 2.28,
        "audio_vae": 0.1,
        "vocoder": 0.1,
    }
    working = 8.0

    def __init__(
        self,
        model: str = "Lightricks/LTX-2",
        loras: str = "Lightricks/LTX-2-19b-LoRA-Camera-Control",
        strength: float = 1.0,
        fps: int = 24,
        guidance: float = 3.0,
        steps: int = 40,
        *,
        depth: Depth,
        device: torch.device,
        **shared,
    ) -> None:
        super().__init__(model, guidance=guidance, steps=steps, device=device, **shared)
        check_ranges("prior", strength=(strength, 0, 10))
        if fps < 1:
            raise ValueError(f"prior.fps is {fps}; choose 1 or more")
        self.loras, self.strength, self.fps, self.typical = loras, strength, fps, depth.typical

    @cached_property
    def files(self) -> dict[str, tuple[str, str]]:
        """LoRA -> the folder, or the name on the hub, and the file in it."""
        folder = Path(self.loras).expanduser()
        if not folder.is_dir():
            hub = {name: f"{self.loras}-{name}" for name in LORAS.values()}
            return {
                name: (repository, f"{repository.split('/')[-1].lower()}.safetensors")
                for name, repository in hub.items()
            }
        found = {
            name: sorted(folder.rglob(f"*{name.lower()}.safetensors")) for name in LORAS.values()
        }
        return {
            name: (str(files[0].parent), files[0].name) for name, files in found.items() if files
        }

    def _placed(self, pipe: Any) -> Any:
        pipe.vae.enable_tiling()
        # Before it is placed: layers that come later would take the weights' 8 bits, and compute in them.
        for name, (folder, file) in self.files.items() if self.loras != "none" else ():
            try:
                pipe.load_lora_weights(folder, weight_name=file, adapter_name=name)
            except Exception as error:  # of the hub's libraries, which have many
                first = " ".join(str(error).split())[:300]
                raise ValueError(
                    f"prior.loras is {self.loras}, whose LoRA {name} could not be loaded into {self.model} ({type(error).__name__}: {first}); "
                    "choose a folder with LoRAs for this model, or prior.loras=none"
                ) from None
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

        which = move(cameras, self.typical)
        if self.loras != "none":
            if LORAS[which] not in self.files:
                raise FileNotFoundError(
                    f"prior.loras is {self.loras}, a folder without a file *{LORAS[which].lower()}.safetensors, which clip {asked.clip.name!r} needs"
                )
            self.pipe.set_adapters(LORAS[which], self.strength)
        video, _ = self.pipe(
            image=Image.fromarray(picture.cpu().numpy()),
            prompt=sentences(self.prompt, WORDS[which]),
            negative_prompt=self.negative_prompt,
            height=cameras.height,
            width=cameras.width,
            num_frames=self.frames,
            frame_rate=float(self.fps),
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            audio_guidance_scale=self.guidance,
            # Two more guidances that the pipeline has take a pass of the network each: one is for the sound, the other for LTX-2.3 and later.
            modality_scale=1.0,
            audio_modality_scale=1.0,
            stg_scale=0.0,
            audio_stg_scale=0.0,
            spatio_temporal_guidance_blocks=None,
            use_cross_timestep=self.pipe.transformer.config.cross_attn_mod,  # as LTX-2.3 and later were trained, and LTX-2 was not
            generator=generator,
            output_type="pt",
            return_dict=False,
            callback_on_step_end=after,
        )
        return video[0].float()
