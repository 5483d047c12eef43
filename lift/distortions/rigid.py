"""A small error of each frame's camera."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lift.distortions import Distortion, distortions
from lift.geometry import rigid, rotation_from_vector
from lift.jit import fused
from lift.types import Cameras


@distortions.register("rigid")
class Rigid(Distortion):
    """One small rigid motion a frame: it was taken from a slightly different place than it says.

    The motion is applied in the camera's own axes, rotation first. Settings:
    - learning_rate: of rotation (radians) and of translation (in units of the scene's typical depth) alike;
    - weight: of the penalty, the mean squared motion. It keeps what all frames could share, a move of the whole scene, at zero.
    """

    def __init__(self, learning_rate: float = 1e-4, weight: float = 1.0, *, num_views: int, extent: float) -> None:
        super().__init__()
        self.learning_rate, self.weight, self.extent = learning_rate, weight, extent
        self.motions = nn.Parameter(torch.zeros(num_views, 6))
        """A frame's rotation vector, then its translation."""

    def cameras(self, cameras: Cameras, view: Int[Tensor, "view"]) -> Cameras:
        before = cameras.world_to_camera
        if fused(before, self.motions) and not before.requires_grad:
            from lift.distortions.rigid_triton import moved

            return replace(cameras, world_to_camera=moved(before, self.motions, view, self.extent))
        return replace(cameras, world_to_camera=self.motion(view) @ before)

    def motion(self, view: Int[Tensor, "view"]) -> Float[Tensor, "view 4 4"]:
        """Planned camera to true camera; the identity for the input view."""
        generated = (view > 0).to(self.motions.dtype)[:, None]
        rotation, translation = (generated * self.motions[view]).split(3, dim=-1)
        return rigid(rotation_from_vector(rotation), translation * self.extent)

    def penalty(self) -> Float[Tensor, ""]:
        every = self.motions.reshape(-1)
        return torch.dot(every, every) * (self.weight * 2 / every.numel())
