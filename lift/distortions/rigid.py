"""A small error of each frame's camera."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lift.distortions import Distortion, distortions
from lift.distortions.parameters.chain import PerFrame
from lift.geometry import inside, project, rigid, rotation_from_vector
from lift.registry.ranges import LearningRate, Weight
from lift.runtime.jit import can_use_triton
from lift.types import Cameras, PointCloud, Trajectory

DAMPING = 1e-2
"""Changes whose effect is below this fraction of the strongest one's are not scaled up."""


@distortions.register("rigid")
class Rigid(Distortion):
    """Correct each frame's camera by a small rigid motion and a focal length.

    The motion is applied in the camera's own axes, rotation first.

    Args:
        learning_rate: Learning rate of the motion in the picture, in picture widths. It holds for
            fits of up to 1,000 views; longer ones use less (`Distortion.steps`).
        weight: Weight of the penalty on the mean motion in the picture over all frames (if
            chained, on its changes). It keeps what all frames could share, a motion of the
            whole scene, at zero.
        focal: Whether focal lengths are corrected.
        chained: Whether changes from frame to frame are learned, not each frame on its own.
        num_views: Number of frames, the input included.
        extent: The scene's typical depth.
        trajectory: The tree of clips.
        points: The points that the frames show.
    """

    steps = 1000
    replayable = True
    start = 0.1
    scales: Tensor
    """[number number], from the learned numbers to a rotation vector, a translation in units of
    `extent` and the logarithm of the focal length's factor."""

    def __init__(
        self,
        learning_rate: LearningRate = 1e-4,
        weight: Weight = 1.0,
        focal: bool = True,
        chained: bool = True,
        *,
        num_views: int,
        extent: float,
        trajectory: Trajectory,
        points: PointCloud,
    ) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.weight = weight
        self.extent = extent
        self.motions = PerFrame(num_views, (7 if focal else 6,), trajectory, chained)
        """[frame number], in picture widths of motion in the picture."""
        self.register_buffer(
            "scales", whitening_matrix(trajectory.start, points, extent, focal), persistent=True
        )

    def changes(
        self, view: Int[Tensor, "view"]
    ) -> tuple[Float[Tensor, "view 6"], Float[Tensor, "view"] | None]:
        """Return the corrections of some frames.

        Args:
            view: Indices of the frames; 0 is the input.

        Returns:
            Rotation vector in radians and translation in units of `extent`; and the logarithm
            of the focal length's factor, None if focal lengths are not corrected.
        """
        corrections = self._corrections(view)
        return corrections[:, :6], corrections[:, 6] if corrections.shape[1] == 7 else None

    def _corrections(self, view: Int[Tensor, "view"]) -> Float[Tensor, "view number"]:
        return self.motions(view) @ self.scales

    def cameras(self, cameras: Cameras, view: Int[Tensor, "view"]) -> Cameras:
        """Move and zoom the cameras of the frames.

        Args:
            cameras: The nominal cameras, one a view.
            view: Indices of the frames; 0 is the input.

        Returns:
            The corrected cameras.
        """
        world_to_camera = cameras.world_to_camera
        intrinsics = cameras.intrinsics
        corrections = self._corrections(view)
        if (
            can_use_triton(world_to_camera, intrinsics, corrections)
            and not world_to_camera.requires_grad
            and not intrinsics.requires_grad
        ):
            from lift.distortions.kernels.rigid_triton import apply_corrections

            new_world_to_camera, new_intrinsics = apply_corrections(
                world_to_camera, intrinsics, corrections, self.extent
            )
            return replace(
                cameras,
                world_to_camera=new_world_to_camera,
                intrinsics=new_intrinsics if corrections.shape[1] == 7 else intrinsics,
            )
        if corrections.shape[1] == 7:
            factors = corrections[:, 6].exp()
            # The third column, with the principal point, stays.
            columns = torch.stack([factors, factors, torch.ones_like(factors)], dim=-1)[:, None]
            intrinsics = intrinsics * columns
        rotation, translation = corrections[:, :6].split(3, dim=-1)
        motion = rigid(rotation_from_vector(rotation), translation * self.extent)
        return replace(cameras, world_to_camera=motion @ world_to_camera, intrinsics=intrinsics)

    def penalty(self) -> Float[Tensor, ""]:
        """Return the weighted mean motion in the picture."""
        return self.motions.norm(1e-4, self.weight)


def whitening_matrix(
    camera: Cameras, points: PointCloud, extent: float, focal: bool
) -> Float[Tensor, "number number"]:
    """Return independent changes of a camera that all have the same effect on the picture.

    Rotation and translation look alike in a picture, and so do moving ahead and zooming. If they
    were learned as they are, each would undo the other's steps.

    Args:
        camera: The input's camera.
        points: The points that the camera shows.
        extent: The scene's typical depth, the unit of translations.
        focal: Whether the focal length is one of the numbers.

    Returns:
        One change a row. Each moves what the camera shows by one picture width (root mean
        square), and differently from the others. Columns are a rotation vector, a translation
        in units of `extent` and, with `focal`, the logarithm of the focal length's factor.

    Reference:
        CamP (Park et al., SIGGRAPH Asia 2023), with the Jacobian's covariance over the scene's
        points as one camera shows them.
    """
    local = _points_in_view(camera, points, extent)
    x, y, z = local.unbind(-1)
    u = x / z
    v = y / z
    zero = torch.zeros_like(u)
    fx, fy = (camera.intrinsics[0, [0, 1], [0, 1]].double() / camera.width).tolist()
    across = torch.stack([-u * v, 1 + u * u, -v, extent / z, zero, -extent * u / z, u], dim=-1)
    down = torch.stack([-1 - v * v, u * v, u, zero, extent / z, -extent * v / z, v], dim=-1)
    jacobian = torch.cat([fx * across, fy * down])[:, : 7 if focal else 6]
    covariance = 2 * jacobian.T @ jacobian / len(jacobian)
    values, vectors = torch.linalg.eigh(covariance)
    damping = DAMPING * values[-1]  # a change that hardly shows must not move the camera far
    return (vectors / (values + damping).sqrt() @ vectors.T).float()


def _points_in_view(camera: Cameras, points: PointCloud, extent: float) -> Float[Tensor, "point 3"]:
    """Return about 5000 visible points in the camera's axes; a wall at `extent` if too few are."""
    local = points.points @ camera.world_to_camera[0, :3, :3].T + camera.world_to_camera[0, :3, 3]
    pixels, depth = project(points.points, camera)
    local = local[(depth[0] > 0.1 * extent) & inside(pixels[0], camera)]
    local = local[:: max(1, len(local) // 5000)].double()
    if len(local) >= 10:
        return local
    steps = torch.linspace(-0.4, 0.4, 8, dtype=torch.float64)
    grid = torch.meshgrid(steps, steps, indexing="ij")
    wall = torch.stack([*grid, torch.ones(8, 8, dtype=torch.float64)], dim=-1)
    return wall.reshape(-1, 3) * extent
