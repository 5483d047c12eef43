"""Cosmos 3, which is told each step of the camera as an action."""

import importlib.util
import itertools
import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.priors import Asked, priors
from lift.priors.diffusion.base import OneByOne
from lift.priors.diffusion.controls import pose_actions
from lift.types import Cameras, Depth

CANVASES = {
    256: ((256, 256), (320, 256), (256, 320), (320, 192), (192, 320)),
    480: ((640, 640), (736, 544), (544, 736), (832, 480), (480, 832)),
    704: ((960, 960), (1088, 832), (832, 1088), (1280, 704), (704, 1280)),
    720: ((960, 960), (1104, 832), (832, 1104), (1280, 720), (720, 1280)),
}
"""Pixels across and down that pictures of each tier are padded to."""


@priors.register("cosmos")
class Cosmos(OneByOne):
    """Cosmos 3 (NVIDIA, 2026) in its mode `forward_dynamics` for moving cameras: each frame's action is where the camera goes, as the one before it sees it.

    An action is a translation and the first two columns of a rotation, between neighbouring camera-to-world poses (cosmos_framework's `pose_abs_to_rel`,
    `backward_framewise` with `rot6d`). That the axes are OpenCV's is inferred from its other data; the unit of length is not published, nor can the field of
    view be told: its poses are better found than believed (pose=matching).

    unit: the model's unit of length, in typical depths of the scene; more makes the camera move less. The default is a guess.
    tier: lines of the pictures that it was trained with; they are as large as fits into that tier's canvases, or have `size` pixels on the longer side.
    fps: frames a second that it is told. shift: of the noise levels towards more noise. guardrail: whether NVIDIA's filter looks at prompt and frames (it
        needs the package cosmos_guardrail and weights of its own).
    at_once and decode have no say: its pipeline makes one clip a call, and decodes as it does.
    """

    licence = "OpenMDW-1.1"
    pipeline = "Cosmos3OmniPipeline"
    follows = "steps between poses"
    size = (832, 480)
    step = 16
    clip = 61
    every = 4
    parts = {"transformer": 28.26, "vae": 1.31}
    working = 5.0

    def __init__(
        self,
        model: str = "nvidia/Cosmos3-Nano",
        unit: float = 0.03,
        tier: Literal[256, 480, 704, 720] = 480,
        size: int | None = None,
        fps: int = 30,
        shift: float = 10.0,
        guardrail: bool = False,
        steps: int = 30,
        guidance: float = 1.0,
        *,
        depth: Depth,
        device: torch.device,
        **shared,
    ) -> None:
        super().__init__(
            model,
            size=max(CANVASES[tier][-1]) if size is None else size,
            steps=steps,
            guidance=guidance,
            device=device,
            **shared,
        )
        for key, value in (("unit", unit), ("fps", fps), ("shift", shift)):
            if not value > 0:
                raise ValueError(f"prior.{key} is {value}; choose more than 0")
        if guardrail and importlib.util.find_spec("cosmos_guardrail") is None:
            raise ImportError(
                "prior.guardrail is true and needs cosmos_guardrail, which is not installed: pip install cosmos_guardrail"
            )
        self.unit, self.tier, self.fps, self.shift, self.guardrail = (
            unit * depth.typical,
            tier,
            fps,
            shift,
            guardrail,
        )

    def _told(self) -> dict[str, Any]:
        return {
            **super()._told(),
            "sound_tokenizer": None,
            "safety_checker": None,
            "enable_safety_checker": self.guardrail,
        }

    def _placed(self, pipe: Any) -> Any:
        pipe.scheduler = type(pipe.scheduler).from_config(
            pipe.scheduler.config, flow_shift=self.shift, use_karras_sigmas=False
        )
        return super()._placed(pipe)

    def made(self, width: int, height: int) -> tuple[int, int]:
        """Pixels across and down that fit into the canvas that the pipeline chooses for them: others it would shrink and crop."""
        found = []
        for canvas in CANVASES[self.tier]:
            scale = min(canvas[0] / width, canvas[1] / height, self.longer / max(width, height))
            sides = [side * scale / self.step for side in (width, height)]
            for size in itertools.product(
                *({math.floor(side) or 1, math.ceil(side)} for side in sides)
            ):
                size = (size[0] * self.step, size[1] * self.step)
                if size[0] <= canvas[0] and size[1] <= canvas[1] and self.canvas(size) == canvas:
                    found.append(size)
        return min(found, key=lambda size: abs(math.log(size[0] * height / (size[1] * width))))

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        """The one of the tier that is most of its shape."""
        return min(
            CANVASES[self.tier], key=lambda canvas: abs(canvas[1] / canvas[0] - size[1] / size[0])
        )

    def video(
        self,
        picture: UInt8[Tensor, "y x 3"],
        cameras: Cameras,
        asked: Asked,
        generator: torch.Generator,
        after: Callable[..., dict],
    ) -> Float[Tensor, "frame 3 y x"]:
        from diffusers import CosmosActionCondition
        from PIL import Image

        action = CosmosActionCondition(
            mode="forward_dynamics",
            chunk_size=self.clip_length,
            domain_name="camera_pose",
            resolution_tier=self.tier,
            raw_actions=pose_actions(cameras, self.unit),
            image=Image.fromarray(picture.cpu().numpy()),
        )
        return self.pipe(
            self.prompt,
            self.negative_prompt,
            action=action,
            fps=self.fps,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            generator=generator,
            output_type="pt",
            use_system_prompt=False,
            enable_safety_check=self.guardrail,
            callback_on_step_end=after,
        ).video
