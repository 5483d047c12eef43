"""The prior `new_prior`."""

from typing import Annotated

import torch
from annotated_types import Interval
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import grid_sample

from lift.geometry import project, unproject
from lift.priors import VideoPrior, priors
from lift.types import Cameras, Clip, Depth, Frames


@priors.register("new_prior")
class NewPrior(VideoPrior):
    """Show the picture on a plane in front of the camera.

    Args:
        distance: Distance of the plane in units of the scene's typical depth, from 0.1 to 10.
    """

    control = "poses"
    # A clip needs the input and the clips before it only, so branches are generated in parallel.
    context = "ancestors"
    # For a generator of 16 frames, the first of which is the continued one: clip_length = 15.
    clip_length = None

    def __init__(
        self,
        distance: Annotated[float, Interval(ge=0.1, le=10)] = 1.0,
        *,
        depth: Depth,
        device: torch.device | None = None,
    ) -> None:
        self.plane = distance * depth.typical
        self.device = device

    def __call__(self, frames: Frames, cameras: Cameras, clip: Clip, seed: int) -> Frames:
        """Generate the new frames of a clip. See `VideoPrior`."""
        image = frames.images[clip.source]
        return Frames(self._generate(image, cameras[clip.source], clip.cameras, seed))

    def _generate(
        self, image: UInt8[Tensor, "height width 3"], source: Cameras, targets: Cameras, seed: int
    ) -> UInt8[Tensor, "view height width 3"]:
        """Return one frame a target camera.

        A generator goes here. With diffusers, for example:

            if self._pipeline is None:  # load it when the first clip is generated
                self._pipeline = StableVideoDiffusionPipeline.from_pretrained(self.model)
                self._pipeline.to(self.device)
            video = self._pipeline(
                PIL.Image.fromarray(image.cpu().numpy()),
                width=targets.width,
                height=targets.height,
                num_frames=len(targets) + 1,
                generator=torch.Generator("cpu").manual_seed(seed),
                output_type="np",
            ).frames[0]  # [frame height width 3] in [0, 1]; frame 0 is the continued one
            return torch.from_numpy(video[1:] * 255).round().to(torch.uint8)

        Args:
            image: The frame to continue.
            source: Its camera.
            targets: Cameras of the new frames.
            seed: Seed of the clip.
        """
        height, width = image.shape[:2]
        plane = torch.full((len(targets), height, width), self.plane, device=image.device)
        points = unproject(plane, targets).reshape(-1, 3)
        pixels = project(points, source)[0].reshape(len(targets), height, width, 2)
        # Pixel centres are at 0.5. `grid_sample` has the picture from -1 to 1.
        grid = 2 * pixels / pixels.new_tensor([width, height]) - 1
        colors = image.movedim(-1, 0).float().expand(len(targets), -1, -1, -1)
        warped = grid_sample(
            colors, grid.nan_to_num(2.0), padding_mode="border", align_corners=False
        )
        return warped.movedim(1, -1).round().clamp(0, 255).to(torch.uint8)
