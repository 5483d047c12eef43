"""Paths of cameras and their Plücker rays."""

import torch

from lift.geometry import rotation_from_vector
from lift.types import Cameras


def turning_path(count: int = 5) -> Cameras:
    """A path that begins at the origin, with an off-centre pinhole that is not square."""
    rng = torch.Generator().manual_seed(0)
    world = torch.eye(4).repeat(count, 1, 1)
    world[1:, :3, :3] = rotation_from_vector(0.4 * torch.randn(count - 1, 3, generator=rng))
    world[1:, :3, 3] = torch.randn(count - 1, 3, generator=rng)
    intrinsics = torch.tensor([[20.0, 0, 13], [0, 30, 9], [0, 0, 1]]).repeat(count, 1, 1)
    return Cameras(world, intrinsics, 24, 20)


def poses_of_rays(rays: torch.Tensor, like: Cameras) -> torch.Tensor:
    """Camera-to-world poses of Plücker rays [view 6 y x].

    The rotation aligns the pinhole directions. The centre is where all rays meet.
    """
    y, x = torch.meshgrid(
        torch.arange(rays.shape[2]) + 0.5, torch.arange(rays.shape[3]) + 0.5, indexing="ij"
    )
    out = torch.eye(4, dtype=torch.float64).repeat(len(rays), 1, 1)
    for view, (moments, directions) in enumerate(
        zip(rays[:, :3].double(), rays[:, 3:].double(), strict=True)
    ):
        (fx, _, cx), (_, fy, cy), _ = like.intrinsics[view].double()
        local = torch.nn.functional.normalize(
            torch.stack([(x - cx) / fx, (y - cy) / fy, torch.ones_like(x)]).double(), dim=0
        )
        u, _, vt = torch.linalg.svd(directions.flatten(1) @ local.flatten(1).T)
        out[view, :3, :3] = u @ vt
        zero = torch.zeros_like(x).double()
        dx, dy, dz = directions
        cross = torch.stack(
            [torch.stack(row) for row in ((zero, dz, -dy), (-dz, zero, dx), (dy, -dx, zero))]
        )  # o x d = cross @ o
        system = cross.permute(2, 3, 0, 1).reshape(-1, 3)
        out[view, :3, 3] = torch.linalg.lstsq(
            system, moments.permute(1, 2, 0).reshape(-1, 1)
        ).solution[:, 0]
    return out
