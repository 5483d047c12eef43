"""Turn a camera path into what generators take: poses, rays or words.

Each generator has a unit of length of its own.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from lift.geometry import pixel_rays
from lift.types import Cameras, Depth

DIRECTION_PROMPTS = {
    "right": "the camera moves to the right, around the scene",
    "left": "the camera moves to the left, around the scene",
    "up": "the camera rises and looks down at the scene",
    "down": "the camera sinks and looks up at the scene",
    "in": "the camera moves forward, into the scene",
    "out": "the camera moves backward, away from the scene",
    "still": "the camera does not move",
}
"""Direction -> how a prompt describes it."""

STILL_FRACTION = 0.005
"""A path that never leaves its start by this fraction of the typical depth is `still`."""

NEAR_QUANTILE = 0.05
"""Fraction of the valid pixels that are nearer than `near_depth`."""


def pluecker_rays(cameras: Cameras) -> Float[Tensor, "view 6 y x"]:
    """Compute Plücker coordinates of the rays through the pixel centres.

    Args:
        cameras: Cameras in the generator's unit of length.

    Returns:
        The moment o x d about the world's origin, then the direction d of unit length.
    """
    directions = (
        normalize(pixel_rays(cameras), dim=-1) @ cameras.camera_to_world[:, None, :3, :3].mT
    )
    moments = torch.linalg.cross(cameras.centers[:, None, None].expand_as(directions), directions)
    return torch.cat([moments, directions], -1).permute(0, 3, 1, 2)


def main_direction(path: Cameras, typical: float) -> str:
    """Find the direction that describes a path best.

    Args:
        path: Cameras, the first at the origin.
        typical: The scene's typical depth.

    Returns:
        A key of `DIRECTION_PROMPTS`: the axis along which the farthest camera lies.
    """
    centers = path.centers
    farthest = centers[centers.norm(dim=-1).argmax()]
    if farthest.norm() < STILL_FRACTION * typical:
        return "still"
    axis = int(farthest.abs().argmax())
    return (("left", "right"), ("up", "down"), ("out", "in"))[axis][int(farthest[axis] > 0)]


def near_depth(depth: Depth) -> float:
    """Return the depth at which the scene begins.

    Args:
        depth: Depth of the input picture.

    Returns:
        The depth that `NEAR_QUANTILE` of the valid pixels are below, in the scene's unit.
    """
    valid = depth.depth[depth.valid]
    return float(valid.kthvalue(max(1, round(NEAR_QUANTILE * len(valid)))).values)


def append_sentence(prompt: str, words: str) -> str:
    """Append words to a prompt as a sentence.

    Args:
        prompt: Any text, with or without a full stop.
        words: A sentence without capital letter and full stop.

    Returns:
        Two sentences.
    """
    return f"{prompt.rstrip('. ')}. {words[0].upper()}{words[1:]}."


def scaled_poses(cameras: Cameras, unit: float) -> Float[Tensor, "view 4 4"]:
    """Return camera-to-world matrices in another unit of length.

    Args:
        cameras: Cameras in the scene's unit of length.
        unit: The other unit, in scene units.

    Returns:
        Poses whose translations are divided by `unit`.
    """
    poses = cameras.camera_to_world.clone()
    poses[:, :3, 3] /= unit
    return poses


def pose_actions(cameras: Cameras, unit: float) -> Float[Tensor, "step 9"]:
    """Return the motion of each camera relative to the camera before it.

    Args:
        cameras: A path of cameras in the scene's unit of length.
        unit: The generator's unit of length, in scene units.

    Returns:
        For each camera after the first: x, y, z in `unit`, then the first and second column of the
        rotation.

    Reference:
        Zhou et al., "On the continuity of rotation representations in neural networks", CVPR 2019.
    """
    poses = scaled_poses(cameras, unit)
    relative = torch.linalg.inv(poses[:-1]) @ poses[1:]
    return torch.cat([relative[:, :3, 3], relative[:, :3, 0], relative[:, :3, 1]], dim=1)
