"""How generators are told where the camera goes, in lengths of a unit of their own: poses, rays, words."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from lift.geometry import pixel_centers
from lift.types import Cameras, Depth

WORDS = {
    "right": "the camera moves to the right, around the scene",
    "left": "the camera moves to the left, around the scene",
    "up": "the camera rises and looks down at the scene",
    "down": "the camera sinks and looks up at the scene",
    "in": "the camera moves forward, into the scene",
    "out": "the camera moves backward, away from the scene",
    "still": "the camera does not move",
}
"""Move -> what it is called in a prompt."""

STILL = 0.005
"""A path that stays this near to where it begins, as a share of the scene's typical depth, does not move."""


def pluecker(cameras: Cameras) -> Float[Tensor, "view 6 y x"]:
    """Plücker coordinates of the rays through the pixels' centres: the moment o x d about the origin of the world, then the direction d, of unit length."""
    pixels = pixel_centers(cameras.width, cameras.height).to(cameras.intrinsics)
    local = (
        torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1)
        @ torch.linalg.inv(cameras.intrinsics)[:, None].mT
    )
    directions = normalize(local, dim=-1) @ cameras.camera_to_world[:, None, :3, :3].mT
    moments = torch.linalg.cross(cameras.centers[:, None, None].expand_as(directions), directions)
    return torch.cat([moments, directions], -1).permute(0, 3, 1, 2)


def move(path: Cameras, typical: float) -> str:
    """Which of WORDS comes nearest to a path that begins at the origin: the axis along which its farthest camera lies. typical: the scene's typical depth."""
    centers = path.centers
    farthest = centers[centers.norm(dim=-1).argmax()]
    if farthest.norm() < STILL * typical:
        return "still"
    axis = int(farthest.abs().argmax())
    return (("left", "right"), ("up", "down"), ("out", "in"))[axis][int(farthest[axis] > 0)]


def near(depth: Depth) -> float:
    """How far away the scene begins: the depth that a twentieth of the valid pixels fall short of."""
    valid = depth.depth[depth.valid]
    return float(valid.kthvalue(max(1, round(0.05 * len(valid)))).values)


def sentences(prompt: str, words: str) -> str:
    """A prompt, and one of WORDS as a sentence of its own after it."""
    return f"{prompt.rstrip('. ')}. {words[0].upper()}{words[1:]}."


def scaled_poses(cameras: Cameras, unit: float) -> Float[Tensor, "view 4 4"]:
    """Camera-to-world matrices in a world whose unit of length is `unit` of the scene's."""
    poses = cameras.camera_to_world.clone()
    poses[:, :3, 3] /= unit
    return poses


def pose_actions(cameras: Cameras, unit: float) -> Float[Tensor, "step 9"]:
    """Where each camera after the first stands and looks as the one before it sees it: x y z in units of `unit`, then the first and the second column of the
    rotation (Zhou et al., "On the continuity of rotation representations in neural networks", CVPR 2019).
    """
    poses = scaled_poses(cameras, unit)
    moved = torch.linalg.inv(poses[:-1]) @ poses[1:]
    return torch.cat([moved[:, :3, 3], moved[:, :3, 0], moved[:, :3, 1]], dim=1)
