"""Cosmos 3, which gets each camera step as an action."""

import importlib.util
import itertools
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.priors import ClipRequest, priors
from lift.priors.diffusion.controls import pose_actions
from lift.priors.diffusion.prompted import SingleClipPrior
from lift.registry.ranges import FrameRate, GuidanceScale, InferenceSteps, Positive
from lift.types import Cameras, Depth

CANVASES = {
    256: ((256, 256), (320, 256), (256, 320), (320, 192), (192, 320)),
    480: ((640, 640), (736, 544), (544, 736), (832, 480), (480, 832)),
    704: ((960, 960), (1088, 832), (832, 1088), (1280, 704), (704, 1280)),
    720: ((960, 960), (1104, 832), (832, 1104), (1280, 720), (720, 1280)),
}
"""Resolution tier -> width and height in pixels that pictures are padded to."""


@priors.register("cosmos")
class Cosmos(SingleClipPrior):
    """Cosmos 3 (NVIDIA, 2026) in the mode `forward_dynamics`: actions are camera steps.

    An action is the motion of a camera relative to the camera before it: a translation and the
    first two columns of a rotation. cosmos_framework computes it the same way (`pose_abs_to_rel`,
    `backward_framewise` with `rot6d`). That the axes follow OpenCV is inferred from its other data.
    The unit of length is not published, and the field of view is no input. So estimate the poses of
    its frames with pose=matching.

    `batch_size` and `decode_chunk_size` have no effect: the pipeline makes one clip a call and
    chooses its own chunks.

    Args:
        model: Name on the Hugging Face hub, or a folder in the layout of `save_pretrained`.
        unit: The model's unit of length, in typical depths of the scene. A larger unit makes the
            camera move less. The default is a guess.
        resolution_tier: Lines of the pictures in training. Generated pictures fit into the canvases
            of this tier.
        size: Pixels of the longer side. Default: as large as the tier allows.
        fps: Frames a second, an input of the model.
        flow_shift: Shift of the noise levels. A larger shift means more noise.
        guardrail: Apply NVIDIA's filter to prompt and frames. It needs the package
            cosmos_guardrail and its weights.
        num_inference_steps: Denoising steps.
        guidance_scale: Scale of classifier-free guidance. 1 turns it off.
        depth: Depth of the input picture.
        device: Device to compute on.
    """

    licence = "OpenMDW-1.1"
    pipeline_class = "Cosmos3OmniPipeline"
    control = "steps between poses"
    trained_size = (832, 480)
    size_multiple = 16
    trained_frames = 61
    frame_multiple = 4
    skipped_parts = ("sound_tokenizer", "safety_checker")
    weight_memory = {"transformer": 28.26, "vae": 1.31}
    working_memory = 5.0

    def __init__(
        self,
        model: str = "nvidia/Cosmos3-Nano",
        unit: Positive = 0.03,
        resolution_tier: Literal[256, 480, 704, 720] = 480,
        size: Annotated[int, Interval(ge=1, le=8192)] | None = None,
        fps: FrameRate = 30,
        flow_shift: Positive = 10.0,
        guardrail: bool = False,
        num_inference_steps: InferenceSteps = 30,
        guidance_scale: GuidanceScale = 1.0,
        *,
        depth: Depth,
        device: torch.device,
        **shared,
    ) -> None:
        self.longer_side: int = max(CANVASES[resolution_tier][-1]) if size is None else size
        super().__init__(
            model,
            size=self.longer_side,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            device=device,
            **shared,
        )
        if guardrail and importlib.util.find_spec("cosmos_guardrail") is None:
            raise ImportError(
                "prior.guardrail is true and needs cosmos_guardrail, which is not installed: "
                "pip install cosmos_guardrail"
            )
        self.unit = unit * depth.typical
        self.resolution_tier = resolution_tier
        self.fps = fps
        self.flow_shift = flow_shift
        self.guardrail = guardrail

    def _load_options(self) -> dict[str, Any]:
        return {
            **super()._load_options(),
            "sound_tokenizer": None,
            "safety_checker": None,
            "enable_safety_checker": self.guardrail,
        }

    def _configure(self, pipe: Any) -> Any:
        pipe.scheduler = type(pipe.scheduler).from_config(
            pipe.scheduler.config, flow_shift=self.flow_shift, use_karras_sigmas=False
        )
        return super()._configure(pipe)

    def generated_size(self, width: int, height: int) -> tuple[int, int]:
        """Choose a size that fits into the pipeline's canvas.

        The pipeline would shrink and crop other sizes.

        Args:
            width: Pixels across the picture.
            height: Pixels down the picture.

        Returns:
            Width and height in pixels, multiples of `size_multiple`.
        """
        sizes = []
        for canvas in CANVASES[self.resolution_tier]:
            scale = min(
                canvas[0] / width, canvas[1] / height, self.longer_side / max(width, height)
            )
            blocks = [side * scale / self.size_multiple for side in (width, height)]
            for across, down in itertools.product(
                *({math.floor(count) or 1, math.ceil(count)} for count in blocks)
            ):
                size = (across * self.size_multiple, down * self.size_multiple)
                fits = size[0] <= canvas[0] and size[1] <= canvas[1]
                if fits and self.nearest_canvas(size) == canvas:
                    sizes.append(size)
        return min(sizes, key=lambda size: abs(math.log(size[0] * height / (size[1] * width))))

    def nearest_canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the canvas of the tier whose aspect ratio is nearest.

        Args:
            size: Width and height in pixels.

        Returns:
            Width and height of the canvas in pixels.
        """
        return min(
            CANVASES[self.resolution_tier],
            key=lambda canvas: abs(canvas[1] / canvas[0] - size[1] / size[0]),
        )

    def sample_clip(
        self,
        picture: UInt8[Tensor, "y x 3"],
        cameras: Cameras,
        request: ClipRequest,
        generator: torch.Generator,
        on_step_end: Callable[..., dict],
    ) -> Float[Tensor, "frame 3 y x"]:
        """Sample one video, as `SingleClipPrior.sample_clip` says."""
        from diffusers import CosmosActionCondition  # pyright: ignore[reportPrivateImportUsage]
        from PIL import Image

        action = CosmosActionCondition(
            mode="forward_dynamics",
            chunk_size=self.frames - 1,
            domain_name="camera_pose",
            resolution_tier=self.resolution_tier,
            raw_actions=pose_actions(cameras, self.unit),
            image=Image.fromarray(picture.cpu().numpy()),
        )
        return self.pipe(
            self.prompt,
            self.negative_prompt,
            action=action,
            fps=self.fps,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            generator=generator,
            output_type="pt",
            use_system_prompt=False,
            enable_safety_check=self.guardrail,
            callback_on_step_end=on_step_end,
        ).video
