"""MotionCtrl, the generator of the published method."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from jaxtyping import Float
from torch import Tensor

from lift.errors import summarize_error
from lift.io.names import user_path
from lift.priors import priors
from lift.priors.diffusion.loading import load_model
from lift.priors.svd import StableVideoDiffusion
from lift.registry.ranges import Factor, FrameRate, InferenceSteps, Positive
from lift.types import Cameras, Depth
from lift.weights import HubFiles, Weights
from lift.weights.problems import hub_problem

HUB_REPOSITORY = "TencentARC/MotionCtrl"
WEIGHTS_FILE = "motionctrl_svd.ckpt"
TYPICAL_DEPTH = 3.83
"""The typical depth in the network's unit of length, per `speed`.

The authors' example of an orbit (Round-RI_90, 84 degrees, translations multiplied by 3, 1, 4 and
speed, as they do) orbits a point at this distance, by least squares over its frames.
"""


@priors.register("motionctrl")
class MotionCtrl(StableVideoDiffusion):
    """MotionCtrl on SVD (Wang et al., SIGGRAPH 2024), with LiftImage3D's settings.

    The network's temporal blocks get the camera of each frame: the first three rows of its
    world_to_camera in OpenCV's axes, relative to the frame that the clip continues. Frames follow
    these cameras roughly, so estimate their poses (pose=matching). Everything else is as in `svd`,
    with the method's values as defaults. The weights are derived from those of SVD.

    Args:
        model: Stable Video Diffusion, for all parts but the UNet. A name on the hub, or a folder.
        weights: Weights of the UNet, a file. Default: motionctrl_svd.ckpt in the folder `model`, or
            else that of TencentARC/MotionCtrl on the hub.
        speed: Scale of the camera's translations. The scene's typical depth is 3.83 speed in the
            network's unit of length. A larger speed moves farther, and distorts in the end.
        warp_guidance: `warp` also guides sampling towards the warped input, as `svd` does.
        num_inference_steps: Denoising steps.
        guidance_scale: As in `svd`.
        fps: Frames a second. The network gets one less: 10, as in the method.
        motion_bucket_id: As in `svd`.
        noise_aug_strength: As in `svd`.
        seed_scope: As in `svd`. The released code has `source`. It draws the noise of a frame's
            clips from one generator on a GPU, so its videos differ all the same.
        depth: Depth of the input picture.
        device: Device to compute on.
    """

    licence = "Stability AI Community Licence; the network's: see TencentARC/MotionCtrl"
    clip_seconds = None
    memory_note = ""
    control = "relative camera poses, in its temporal attention"
    trained_frames = 16
    skipped_parts = ("unet",)
    weight_memory = {"unet": 2.86, "image_encoder": 1.18, "vae": 0.18}
    working_memory = 8.0

    def __init__(
        self,
        model: str = "stabilityai/stable-video-diffusion-img2vid",
        weights: Path | None = None,
        speed: Positive = 1.6,
        warp_guidance: Literal["warp", "none"] = "none",
        num_inference_steps: InferenceSteps = 50,
        guidance_scale: tuple[Factor, Factor] = (1.0, 2.5),
        fps: FrameRate = 11,
        motion_bucket_id: Annotated[int, Interval(ge=0, le=1000)] = 100,
        noise_aug_strength: Annotated[float, Interval(ge=0, le=10)] = 0.1,
        *,
        depth: Depth,
        device: torch.device,
        **shared,
    ) -> None:
        super().__init__(
            model,
            warp_guidance,
            guidance_scale=guidance_scale,
            fps=fps,
            motion_bucket_id=motion_bucket_id,
            noise_aug_strength=noise_aug_strength,
            num_inference_steps=num_inference_steps,
            depth=depth,
            device=device,
            **shared,
        )
        self.weights = weights
        self.scale = TYPICAL_DEPTH * speed / depth.typical

    @classmethod
    def required_weights(cls, settings: Mapping[str, Any], half: bool) -> tuple[Weights, ...]:
        """List the files that are downloaded. See `VideoPrior.required_weights`."""
        weights = super().required_weights(settings, half)
        has_own = (user_path(settings["model"]) / WEIGHTS_FILE).is_file()
        if settings["weights"] is not None or has_own:
            return weights
        licence = f"see {HUB_REPOSITORY}"
        return (*weights, HubFiles("prior.weights", HUB_REPOSITORY, (WEIGHTS_FILE,), licence))

    def _load_options(self) -> dict[str, Any]:
        from lift.priors.diffusion.motionctrl_network import (
            CameraUNet,
            load_published,
            read_checkpoint,
        )

        config = load_model(
            lambda: CameraUNet.load_config(self.model, subfolder="unet"),
            self.model,
            self.pipeline_class,
        )
        with torch.device("meta"):  # its weights come from another file
            unet = CameraUNet.from_config(config)
        assert isinstance(unet, CameraUNet)
        file = self._weights_file()
        load_published(unet, read_checkpoint(file), str(file), self.dtype)
        return {**super()._load_options(), "unet": unet.eval()}

    def _weights_file(self) -> Path:
        if self.weights is not None:
            file = user_path(self.weights)
            if not file.is_file():
                raise FileNotFoundError(
                    f"prior.weights is {self.weights}, which is no file; "
                    f"hf download {HUB_REPOSITORY} {WEIGHTS_FILE} --local-dir FOLDER brings it"
                )
            return file
        local_file = Path(self.model) / WEIGHTS_FILE
        if local_file.is_file():
            return local_file
        from huggingface_hub import hf_hub_download

        try:
            return Path(hf_hub_download(HUB_REPOSITORY, WEIGHTS_FILE))
        except Exception as error:  # the hub's libraries raise many classes
            problem = hub_problem(error, HUB_REPOSITORY)
            reason = problem or f"{summarize_error(error, 200, with_type=True)}; check the network"
            raise FileNotFoundError(
                f"prior.weights is not set, and {WEIGHTS_FILE} of {HUB_REPOSITORY} could not be "
                f"loaded from the hub: {reason}; or "
                f"download it where there is one (hf download {HUB_REPOSITORY} {WEIGHTS_FILE} "
                f"--local-dir FOLDER) and set prior.weights=FOLDER/{WEIGHTS_FILE}"
            ) from None

    def path_condition(self, paths: Sequence[Cameras], copies: int) -> dict[str, Tensor]:
        """Return the camera poses for the network.

        Args:
            paths: Cameras of each clip.
            copies: How many times the batch is repeated, for classifier-free guidance.

        Returns:
            The network's keyword argument `cameras`, [copies*clip frame 12].
        """
        poses = torch.stack([flatten_poses(path, self.scale) for path in paths])
        return {"cameras": poses.to(self.device).repeat(copies, 1, 1)}


def flatten_poses(path: Cameras, scale: float) -> Float[Tensor, "frame 12"]:
    """Flatten the 3 x 4 world-to-camera matrices of a path, row by row.

    Args:
        path: Cameras, the first at the origin.
        scale: Factor on the translations.

    Returns:
        12 numbers a camera.
    """
    rotations = path.world_to_camera[:, :3, :3]
    translations = scale * path.world_to_camera[:, :3, 3:]
    return torch.cat([rotations, translations], dim=-1).flatten(1)
