"""LTX-2 with one LoRA for each camera motion."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Annotated, Any

import torch
from annotated_types import Interval
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.errors import summarize_error
from lift.io.names import user_path
from lift.priors import ClipRequest, priors
from lift.priors.diffusion.controls import DIRECTION_PROMPTS, append_sentence, main_direction
from lift.priors.diffusion.prompted import SingleClipPrior
from lift.registry.ranges import FrameRate, GuidanceScale, InferenceSteps
from lift.types import Cameras, Depth
from lift.weights import HubFiles, Weights, is_local
from lift.weights.problems import hub_problem

LORA_NAMES = {
    "right": "Dolly-Right",
    "left": "Dolly-Left",
    "up": "Jib-Up",
    "down": "Jib-Down",
    "in": "Dolly-In",
    "out": "Dolly-Out",
    "still": "Static",
}
"""Direction -> name of its LoRA."""


@priors.register("ltx")
class LTX(SingleClipPrior):
    """LTX-2 (HaCohen et al., 2026), controlled by one LoRA a direction and by text.

    There are LoRAs for a camera that moves in, out, left, right, up or down, and for a still one.
    A clip uses the LoRA that is nearest to its path. The model decides how far the camera moves and
    where it turns, so its poses must be estimated (pose=auto does). The generated sound is dropped.

    `batch_size` and `decode_chunk_size` have no effect: the pipeline makes one clip a call and
    decodes in tiles.

    Args:
        model: Name on the Hugging Face hub, or a folder in the layout of `save_pretrained`.
        loras: Prefix of the names of the LoRAs on the Hugging Face hub, or a folder with their
            files. All of them are loaded. `none`: text alone.
        lora_scale: Weight of the LoRA, 0 to 10. 1: as trained.
        fps: Frames a second, an input of the model.
        negative_prompt: What the video does not show and what its sound is not like. Default: that
            of the authors, `DEFAULT_NEGATIVE_PROMPT` of diffusers' LTX-2 pipelines.
        guidance_scale: Scale of classifier-free guidance. 1 turns it off.
        num_inference_steps: Denoising steps.
        depth: Depth of the input picture.
        device: Device to compute on.
    """

    licence = "LTX-2.x Community Licence"
    requires = ("diffusers", "transformers", "accelerate", "peft", "av")
    pipeline_class = "LTX2ImageToVideoPipeline"
    control = "the direction, by a LoRA and text"
    trained_size = (768, 512)
    size_multiple = 32
    trained_frames = 121
    frame_multiple = 8
    weight_memory = {
        "transformer": 35.16,
        "text_encoder": 22.72,
        "connectors": 2.67,
        "vae": 2.28,
        "audio_vae": 0.1,
        "vocoder": 0.1,
    }
    working_memory = 8.0

    def __init__(
        self,
        model: str = "Lightricks/LTX-2",
        loras: str = "Lightricks/LTX-2-19b-LoRA-Camera-Control",
        lora_scale: Annotated[float, Interval(ge=0, le=10)] = 1.0,
        fps: FrameRate = 24,
        negative_prompt: str | None = None,
        guidance_scale: GuidanceScale = 3.0,
        num_inference_steps: InferenceSteps = 40,
        *,
        depth: Depth,
        device: torch.device,
        **shared,
    ) -> None:
        super().__init__(
            model,
            negative_prompt=negative_prompt or "",
            guidance_scale=guidance_scale,
            num_inference_steps=num_inference_steps,
            device=device,
            **shared,
        )
        self.loras = loras
        self.lora_scale = lora_scale
        self.fps = fps
        self.uses_default_negative_prompt = negative_prompt is None
        self.typical_depth = depth.typical

    @classmethod
    def required_weights(cls, settings: Mapping[str, Any], half: bool) -> tuple[Weights, ...]:
        """List the files that are downloaded. See `VideoPrior.required_weights`."""
        weights = super().required_weights(settings, half)
        prefix = settings["loras"]
        if prefix == "none" or is_local(prefix):
            return weights
        loras = (
            HubFiles("prior.loras", repository, (file,), cls.licence)
            for repository, file in _hub_loras(prefix).values()
        )
        return (*weights, *loras)

    @cached_property
    def lora_files(self) -> dict[str, tuple[str, str]]:
        """LoRA -> its folder or its name on the hub, and the file in it."""
        folder = user_path(self.loras)
        if not folder.is_dir():
            return _hub_loras(self.loras)
        matches = {
            name: sorted(folder.rglob(f"*{name.lower()}.safetensors"))
            for name in LORA_NAMES.values()
        }
        return {
            name: (str(files[0].parent), files[0].name) for name, files in matches.items() if files
        }

    def _configure(self, pipe: Any) -> Any:
        pipe.vae.enable_tiling()
        # LoRAs are loaded before the base class sets the precision: later layers would get 8-bit
        # weights and compute in them.
        for name, (folder, file) in self.lora_files.items() if self.loras != "none" else ():
            try:
                pipe.load_lora_weights(folder, weight_name=file, adapter_name=name)
            except Exception as error:  # the hub's libraries raise many classes
                problem = hub_problem(error, folder)
                reason = problem or summarize_error(error, 300, with_type=True)
                raise ValueError(
                    f"prior.loras is {self.loras}, whose LoRA {name} could not be loaded into "
                    f"{self.model} ({reason}); "
                    "choose a folder with LoRAs for this model, or prior.loras=none"
                ) from None
        return super()._configure(pipe)

    def sample_clip(
        self,
        picture: UInt8[Tensor, "y x 3"],
        cameras: Cameras,
        request: ClipRequest,
        generator: torch.Generator,
        on_step_end: Callable[..., dict],
    ) -> Float[Tensor, "frame 3 y x"]:
        """Sample one video, as `SingleClipPrior.sample_clip` says."""
        from diffusers.pipelines.ltx2.utils import DEFAULT_NEGATIVE_PROMPT
        from PIL import Image

        direction = main_direction(cameras, self.typical_depth)
        self._activate_lora(LORA_NAMES[direction], request.clip.name)
        video, _ = self.pipe(
            image=Image.fromarray(picture.cpu().numpy()),
            prompt=append_sentence(self.prompt, DIRECTION_PROMPTS[direction]),
            negative_prompt=DEFAULT_NEGATIVE_PROMPT
            if self.uses_default_negative_prompt
            else self.negative_prompt,
            height=cameras.height,
            width=cameras.width,
            num_frames=self.frames,
            frame_rate=float(self.fps),
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            audio_guidance_scale=self.guidance_scale,
            # The pipeline has two more kinds of guidance, each with a pass of the network: one is
            # for the sound, the other for LTX-2.3 and later.
            modality_scale=1.0,
            audio_modality_scale=1.0,
            stg_scale=0.0,
            audio_stg_scale=0.0,
            spatio_temporal_guidance_blocks=None,
            # LTX-2.3 and later were trained with it, LTX-2 was not.
            use_cross_timestep=self.pipe.transformer.config.cross_attn_mod,
            generator=generator,
            output_type="pt",
            return_dict=False,
            callback_on_step_end=on_step_end,
        )
        return video[0].float()

    def _activate_lora(self, name: str, clip: str) -> None:
        if self.loras == "none":
            return
        if name not in self.lora_files:
            raise FileNotFoundError(
                f"prior.loras is {self.loras}, a folder without a file "
                f"*{name.lower()}.safetensors, which clip {clip!r} needs"
            )
        self.pipe.set_adapters(name, self.lora_scale)


def _hub_loras(prefix: str) -> dict[str, tuple[str, str]]:
    """Return LoRA -> its repository on the hub, and the file in it.

    Args:
        prefix: The setting `prior.loras`.
    """
    hub = {name: f"{prefix}-{name}" for name in LORA_NAMES.values()}
    return {
        name: (repository, f"{repository.split('/')[-1].lower()}.safetensors")
        for name, repository in hub.items()
    }
