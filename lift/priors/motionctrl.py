"""MotionCtrl, the generator of the published method."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from lift.priors import priors
from lift.priors.diffusion.base import loaded
from lift.priors.svd import StableVideoDiffusion
from lift.types import Cameras, Depth

HUB, FILE = "TencentARC/MotionCtrl", "motionctrl_svd.ckpt"
UNIT = 3.83
"""Of the network's units of length, per `speed`, that the typical depth is told as. The authors' example of an orbit (Round-RI_90, 84 degrees, its translations
multiplied by 3, 1, 4 and speed, as they do) is by least squares over its frames one about what lies so far away."""


@priors.register("motionctrl")
class MotionCtrl(StableVideoDiffusion):
    """MotionCtrl on Stable Video Diffusion (Wang et al., SIGGRAPH 2024), set as LiftImage3D has it: temporal blocks are told where each frame's camera is.

    Told are the first three rows of its world_to_camera, in OpenCV's axes, relative to the frame that the clip continues. Frames follow them roughly: have
    their poses found (pose=matching). All else is `svd`, whose settings have the method's values here. The weights are derived from SVD's.

    model: Stable Video Diffusion, of which all but the network is taken. weights: of the network, a file; by default motionctrl_svd.ckpt in the folder `model`,
        if it is there, or else that of TencentARC/MotionCtrl on the hub.
    speed: how far the network is told that cameras go. The scene's typical depth is 3.83 speed of its units, along all axes alike; more moves more, and
        distorts in the end.
    steer: `warp` also draws to the moved picture, as `svd` does. fps: 11, since the method tells the network 10, one less.
    """

    licence = "Stability AI Community Licence; the network's: see TencentARC/MotionCtrl"
    pace = None
    follows = "relative camera poses, told to its temporal attention"
    clip = 16
    parts = {"unet": 2.86, "image_encoder": 1.18, "vae": 0.18}
    working = 8.0

    def __init__(
        self,
        model: str = "stabilityai/stable-video-diffusion-img2vid",
        weights: Path | None = None,
        speed: float = 1.6,
        steer: Literal["warp", "none"] = "none",
        steps: int = 50,
        guidance: tuple[float, float] = (1.0, 2.5),
        fps: int = 11,
        motion: int = 100,
        noise: float = 0.1,
        *,
        depth: Depth,
        device: torch.device,
        **shared,
    ) -> None:
        super().__init__(
            model,
            steer,
            guidance=guidance,
            fps=fps,
            motion=motion,
            noise=noise,
            steps=steps,
            depth=depth,
            device=device,
            **shared,
        )
        if not speed > 0:
            raise ValueError(f"prior.speed is {speed}; choose more than 0")
        self.weights = weights
        self.unit = UNIT * speed / depth.typical

    def _told(self) -> dict[str, Any]:
        from lift.priors.diffusion.motionctrl_network import CameraUNet, fill, read

        config = loaded(
            lambda: CameraUNet.load_config(self.model, subfolder="unet"), self.model, self.pipeline
        )
        with torch.device("meta"):  # its weights come from elsewhere
            unet = CameraUNet.from_config(config)
        file = self._checkpoint()
        fill(unet, read(file), str(file), self.dtype)
        return {**super()._told(), "unet": unet.eval()}

    def _checkpoint(self) -> Path:
        if self.weights is not None:
            file = self.weights.expanduser()
            if not file.is_file():
                raise FileNotFoundError(
                    f"prior.weights is {self.weights}, which is no file; hf download {HUB} {FILE} --local-dir FOLDER brings it"
                )
            return file
        beside = Path(self.model) / FILE
        if beside.is_file():
            return beside
        from huggingface_hub import hf_hub_download

        try:
            return Path(hf_hub_download(HUB, FILE))
        except Exception as error:  # of the hub's libraries, which have many
            first = " ".join(str(error).split())[:200]
            raise FileNotFoundError(
                f"prior.weights is not set, and {FILE} of {HUB} could not be loaded from the hub ({type(error).__name__}: {first}); check the network, or "
                f"download it where there is one (hf download {HUB} {FILE} --local-dir FOLDER) and set prior.weights=FOLDER/{FILE}"
            ) from None

    def conditions(self, paths: Sequence[Cameras], times: int) -> dict[str, Tensor]:
        told = torch.stack([poses(path, self.unit) for path in paths])
        return {"cameras": told.to(self.device).repeat(times, 1, 1)}


def poses(path: Cameras, unit: float) -> Float[Tensor, "frame 12"]:
    """World to camera as rows of 3 x 4 matrices, row by row, lengths multiplied by `unit`. The path begins at the origin."""
    return torch.cat(
        [path.world_to_camera[:, :3, :3], unit * path.world_to_camera[:, :3, 3:]], dim=-1
    ).flatten(1)
