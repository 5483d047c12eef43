"""A small error of each frame's camera."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lift.distortions import Distortion, distortions
from lift.distortions.chain import PerFrame
from lift.geometry import inside, project, rigid, rotation_from_vector
from lift.runtime.jit import fused
from lift.types import Cameras, PointCloud, Trajectory

DAMPING = 1e-2
"""Share of the strongest change's effect below which a change is not scaled up."""


@distortions.register("rigid")
class Rigid(Distortion):
    """One small rigid motion a frame, and another focal length: it was taken from a slightly different place than it says.

    The motion is applied in the camera's own axes, rotation first. Settings:
    - learning_rate: of what the change moves in the picture, in picture widths;
    - weight: of the penalty, the mean over frames of how far that is (if chained, the change). It keeps what all frames could share, a move of the whole scene, at zero;
    - focal: whether focal lengths are corrected;
    - chained: whether changes from frame to frame are learned (`lift.distortions.chain`), not every frame for itself.
    """

    steps = 1000
    begins = 0.1

    def __init__(
        self,
        learning_rate: float = 1e-4,
        weight: float = 1.0,
        focal: bool = True,
        chained: bool = True,
        *,
        num_views: int,
        extent: float,
        trajectory: Trajectory,
        points: PointCloud,
    ) -> None:
        super().__init__()
        self.learning_rate, self.weight, self.extent = learning_rate, weight, extent
        self.motions = PerFrame(num_views, (7 if focal else 6,), trajectory, chained)
        """[frame number], in picture widths of movement in the picture."""
        self.register_buffer(
            "scales", whitening(trajectory.start, points, extent, focal), persistent=True
        )
        """From these numbers to a rotation vector, a translation in units of `extent` and the logarithm of the focal length's factor."""

    def changes(
        self, view: Int[Tensor, "view"]
    ) -> tuple[Float[Tensor, "view 6"], Float[Tensor, "view"] | None]:
        """Rotation vector and translation in units of `extent`; logarithm of the focal length's factor, None where it is not corrected."""
        every = self._every(view)
        return every[:, :6], every[:, 6] if every.shape[1] == 7 else None

    def _every(self, view: Int[Tensor, "view"]) -> Float[Tensor, "view number"]:
        return self.motions(view) @ self.scales

    def cameras(self, cameras: Cameras, view: Int[Tensor, "view"]) -> Cameras:
        before, intrinsics, motions = cameras.world_to_camera, cameras.intrinsics, self._every(view)
        if (
            fused(before, intrinsics, motions)
            and not before.requires_grad
            and not intrinsics.requires_grad
        ):
            from lift.distortions.kernels.rigid_triton import changed

            after, zoomed = changed(before, intrinsics, motions, self.extent)
            return replace(
                cameras,
                world_to_camera=after,
                intrinsics=zoomed if motions.shape[1] == 7 else intrinsics,
            )
        if motions.shape[1] == 7:
            factors = motions[:, 6].exp()
            columns = torch.stack([factors, factors, torch.ones_like(factors)], dim=-1)[
                :, None
            ]  # the principal point stays
            intrinsics = intrinsics * columns
        rotation, translation = motions[:, :6].split(3, dim=-1)
        after = rigid(rotation_from_vector(rotation), translation * self.extent) @ before
        return replace(cameras, world_to_camera=after, intrinsics=intrinsics)

    def penalty(self) -> Float[Tensor, ""]:
        return self.motions.norm(1e-4, self.weight)


def whitening(
    camera: Cameras, points: PointCloud, extent: float, focal: bool
) -> Float[Tensor, "number number"]:
    """Rows: changes of a camera, each of which moves what it sees by one picture width, root mean square, and differently from the others.

    Rotation and translation look alike in a picture, and so do moving ahead and zooming; learned as they are, each would undo the
    other's steps. CamP (Park et al., SIGGRAPH Asia 2023) with the Jacobian's covariance over the scene's points as one camera sees them.
    """
    local = points.points @ camera.world_to_camera[0, :3, :3].T + camera.world_to_camera[0, :3, 3]
    pixels, depth = project(points.points, camera)
    local = local[(depth[0] > 0.1 * extent) & inside(pixels[0], camera)]
    local = local[:: max(1, len(local) // 5000)].double()
    if len(local) < 10:  # nothing to go by: as a wall at the typical depth would do
        grid = torch.linspace(-0.4, 0.4, 8, dtype=torch.float64)
        local = (
            torch.stack(
                [*torch.meshgrid(grid, grid, indexing="ij"), torch.ones(8, 8, dtype=torch.float64)],
                dim=-1,
            ).reshape(-1, 3)
            * extent
        )
    x, y, z = local.unbind(-1)
    u, v = x / z, y / z
    zero, (fx, fy) = (
        torch.zeros_like(u),
        (camera.intrinsics[0, [0, 1], [0, 1]].double() / camera.width).tolist(),
    )
    across = torch.stack([-u * v, 1 + u * u, -v, extent / z, zero, -extent * u / z, u], dim=-1)
    down = torch.stack([-1 - v * v, u * v, u, zero, extent / z, -extent * v / z, v], dim=-1)
    jacobian = torch.cat([fx * across, fy * down])[:, : 7 if focal else 6]
    covariance = 2 * jacobian.T @ jacobian / len(jacobian)
    values, vectors = torch.linalg.eigh(covariance)
    least = DAMPING * values[-1]  # what hardly shows must not be moved by miles
    return (vectors / (values + least).sqrt() @ vectors.T).float()
