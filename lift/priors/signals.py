"""How generators are told where the camera goes; they take lengths in a unit of their own."""

import torch
from jaxtyping import Float
from torch import Tensor

from lift.types import Cameras


def scaled_poses(cameras: Cameras, unit: float) -> Float[Tensor, "view 4 4"]:
    """Camera-to-world matrices in a world whose unit of length is `unit` of the scene's."""
    poses = cameras.camera_to_world.clone()
    poses[:, :3, 3] /= unit
    return poses


def pose_actions(cameras: Cameras, unit: float) -> Float[Tensor, "step 9"]:
    """Where each camera after the first stands and looks as the one before it sees it: x y z in units of `unit`, then the first and the second column of the
    rotation (Zhou et al., "On the continuity of rotation representations in neural networks", CVPR 2019)."""
    poses = scaled_poses(cameras, unit)
    moved = torch.linalg.inv(poses[:-1]) @ poses[1:]
    return torch.cat([moved[:, :3, 3], moved[:, :3, 0], moved[:, :3, 1]], dim=1)
