"""Any image-to-video pipeline of diffusers, controlled by text."""

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Interval
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.io.names import user_path
from lift.priors import ClipRequest, priors
from lift.priors.diffusion.controls import DIRECTION_PROMPTS, append_sentence, main_direction
from lift.priors.diffusion.loading import load_model
from lift.priors.diffusion.prompted import SingleClipPrior
from lift.registry.ranges import GuidanceScale
from lift.types import Cameras, Depth


@priors.register("diffusers")
class Diffusers(SingleClipPrior):
    """Any image-to-video pipeline of diffusers, controlled by text.

    A sentence about the clip's direction is appended to the prompt. The direction is the last part
    of the clip's name ("right/up" goes up). If that is no direction, the cameras tell it.
    Pipelines without a prompt move as they like. No pipeline follows the path exactly, so its poses
    must be estimated (pose=auto does).

    `batch_size` has no effect: a pipeline makes one clip a call. `decode_chunk_size` has an effect
    only in pipelines with that argument.

    Args:
        model: Name on the Hugging Face hub, or a folder. Its pipeline class is read from it.
        frame_multiple: The number of frames less one is a multiple of this. See the model's page.
        size_multiple: Width and height are multiples of this. See the model's page.
        guidance_scale: Scale of classifier-free guidance. Default: that of the pipeline.
        depth: Depth of the input picture.
        device: Device to compute on.
    """

    licence = "see the model's page"
    # Pipelines of Wan clean their prompts with ftfy.
    requires = ("diffusers", "transformers", "accelerate", "ftfy")
    pipeline_class = "DiffusionPipeline"
    control = "text"
    trained_size = (832, 480)
    trained_frames = 49

    def __init__(
        self,
        model: str,
        frame_multiple: Annotated[int, Interval(ge=1, le=1000)] = 1,
        size_multiple: Annotated[int, Interval(ge=1, le=1024)] = 16,
        guidance_scale: GuidanceScale | None = None,
        *,
        depth: Depth,
        device: torch.device,
        **shared,
    ) -> None:
        self.frame_multiple = frame_multiple
        self.size_multiple = size_multiple
        self.typical_depth = depth.typical
        if (user_path(model) / "unet").is_dir():
            self.denoiser = "unet"
        super().__init__(
            model,
            guidance_scale=1.0 if guidance_scale is None else guidance_scale,
            device=device,
            **shared,
        )
        self.optional_guidance_scale = guidance_scale

    @cached_property
    def pipe(self) -> Any:
        """The pipeline, loaded for the first clip.

        Its class is checked before gigabytes of weights are downloaded.
        """
        import diffusers

        name = load_model(
            lambda: diffusers.DiffusionPipeline.load_config(  # pyright: ignore[reportPrivateImportUsage]
                self.model
            ),
            self.model,
            self.pipeline_class,
        ).get("_class_name")
        pipeline_class = getattr(diffusers, name, None) if isinstance(name, str) else None
        if pipeline_class is not None:
            parameters = inspect.signature(pipeline_class.__call__).parameters
            if "image" not in parameters or not {"num_frames", "frames"} & set(parameters):
                raise ValueError(
                    f"prior.model {self.model} is a {name}, which does not make a video of an "
                    "image; choose an image-to-video model"
                )
        return super().pipe

    def _configure(self, pipe: Any) -> Any:
        self.denoiser = "transformer" if hasattr(pipe, "transformer") else "unet"
        return super()._configure(pipe)

    def sample_clip(
        self,
        picture: UInt8[Tensor, "y x 3"],
        cameras: Cameras,
        request: ClipRequest,
        generator: torch.Generator,
        on_step_end: Callable[..., dict],
    ) -> Float[Tensor, "frame 3 y x"]:
        """Sample one video, as `SingleClipPrior.sample_clip` says.

        Raises:
            ValueError: If the model makes another number of frames.
        """
        from PIL import Image

        image = Image.fromarray(picture.cpu().numpy())
        arguments = self.pipeline_arguments(image, cameras, request, generator, on_step_end)
        video = video_tensor(self.pipe(**arguments)[0][0])
        if len(video) != self.frames:
            raise ValueError(
                f"prior.model {self.model} made {len(video)} frames, "
                f"not prior.frames={self.frames}; choose prior.frames={len(video)}"
            )
        return video

    def pipeline_arguments(
        self,
        picture: Any,
        cameras: Cameras,
        request: ClipRequest,
        generator: torch.Generator,
        on_step_end: Callable[..., dict],
    ) -> dict[str, Any]:
        """Collect the arguments of the pipeline's call.

        Args:
            picture: The first frame, a PIL image.
            cameras: The cameras of the video, the first at the origin.
            request: The request that the video answers.
            generator: Source of the noise.
            on_step_end: The pipeline's `callback_on_step_end`.

        Returns:
            Arguments by name, without those that the pipeline does not accept.
        """
        last_name = request.clip.name.split("/")[-1]
        direction = (
            last_name
            if last_name in DIRECTION_PROMPTS
            else main_direction(cameras, self.typical_depth)
        )
        arguments = {
            "image": picture,
            "prompt": append_sentence(self.prompt, DIRECTION_PROMPTS[direction]),
            "negative_prompt": self.negative_prompt,
            "height": cameras.height,
            "width": cameras.width,
            "num_frames": self.frames,
            "frames": self.frames,
            "num_inference_steps": self.num_inference_steps,
            "guidance_scale": self.optional_guidance_scale,
            "generator": generator,
            "decode_chunk_size": self.decode_chunk_size,
            "output_type": "np",
            "callback_on_step_end": on_step_end,
        }
        parameters = inspect.signature(self.pipe.__call__).parameters
        return {
            key: value
            for key, value in arguments.items()
            if key in parameters and value is not None
        }


def video_tensor(frames: Any) -> Float[Tensor, "frame 3 y x"]:
    """Turn the video of a pipeline into a tensor.

    Args:
        frames: An array [frame y x 3] of values from 0 to 1, or a list of PIL images.

    Returns:
        Colours, 0 to 1.
    """
    video = torch.from_numpy(np.stack([np.asarray(frame) for frame in frames])).permute(0, 3, 1, 2)
    return video.float() if video.is_floating_point() else video / 255
