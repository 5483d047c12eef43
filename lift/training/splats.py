"""Raw parameters of Gaussians. Logits and log-scales exist only in this module."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from lift import spherical_harmonics
from lift.runtime.jit import can_use_numba, can_use_triton, to_numpy
from lift.training.kernels import voxels_numba
from lift.types import Gaussians, PointCloud, Reconstruction

PARAMETER_NAMES = ("means", "scales", "quats", "opacities", "sh0", "shN")
"""Raw parameters by gsplat's names.

Positions, log standard deviations, quaternions, logits of opacity, and spherical harmonics of
degree 0 and of higher degrees.
"""

_MIN_OPACITY = 1e-4
_POINTS_PER_VOXEL = 12
"""Mean number of points in a voxel; more only cost time."""
_BISECTION_STEPS = 14
"""Steps of the search for the voxels' angular size."""


def activate(
    scales: Float[Tensor, "gaussian axis"],
    quats: Float[Tensor, "gaussian 4"],
    opacities: Float[Tensor, "..."],
) -> tuple[Tensor, Tensor, Tensor]:
    """Convert raw parameters to physical values. Float32 tensors use compiled kernels.

    Args:
        scales: Logarithms of standard deviations.
        quats: Quaternions of any length.
        opacities: Logits of opacities.

    Returns:
        Standard deviations, unit quaternions and opacities in [0, 1].
    """
    if can_use_triton(scales, quats, opacities):
        from lift.training.kernels import splats_triton

        return splats_triton.activate(scales, quats, opacities)
    if can_use_numba(quats):
        from lift.training.kernels import splats_numba

        return scales.exp(), splats_numba.normalize_quats(quats), opacities.sigmoid()
    return scales.exp(), normalize(quats, dim=-1), opacities.sigmoid()


class Splats(nn.ParameterDict):
    """Raw parameters (`PARAMETER_NAMES`), with one row for each Gaussian."""

    @property
    def count(self) -> int:
        """Number of Gaussians."""
        return len(self["means"])

    def gaussians(self, sh_degree: int | None = None) -> Gaussians:
        """Return the physical values, differentiable in the parameters.

        Args:
            sh_degree: Largest degree of the spherical harmonics; by default all are returned. Those
                above it have zero gradients.
        """
        sh_coeffs = self["sh0"]
        if higher := self["shN"].shape[1]:
            kept = higher if sh_degree is None else min(higher, (sh_degree + 1) ** 2 - 1)
            sh_coeffs = torch.cat([sh_coeffs, self["shN"][:, :kept]], dim=1)
        scales, quats, opacities = activate(self["scales"], self["quats"], self["opacities"])
        return Gaussians(self["means"], quats, scales, opacities, sh_coeffs)

    @classmethod
    def from_gaussians(cls, gaussians: Gaussians) -> "Splats":
        """Return the raw parameters of Gaussians.

        Args:
            gaussians: Physical values.
        """
        opacities = gaussians.opacities.clamp(_MIN_OPACITY, 1 - _MIN_OPACITY)
        values = {
            "means": gaussians.means,
            "scales": gaussians.scales.log(),
            "quats": gaussians.quats,
            "opacities": opacities.logit(),
            "sh0": gaussians.sh_coeffs[:, :1],
            "shN": gaussians.sh_coeffs[:, 1:],
        }
        # torch's fused Adam on a CPU assumes that every tensor is contiguous.
        return cls({name: value.contiguous() for name, value in values.items()})

    @classmethod
    def zeros(cls, shapes: dict[str, list[int]]) -> "Splats":
        """Return parameters of zeros, to be filled from a checkpoint.

        Args:
            shapes: Shape of each parameter.
        """
        return cls({name: torch.zeros(shape) for name, shape in shapes.items()})


def initialise(
    reconstruction: Reconstruction,
    count: int,
    sh_degree: int,
    device: torch.device | str = "cpu",
    opacity: float = 0.6,
) -> Gaussians:
    """Return Gaussians for the point cloud of a reconstruction, on the CPU.

    Voxels thin the cloud. Their size grows with the distance from the input camera, so that
    Gaussians cover the picture evenly. A Gaussian takes the mean position and colour of its
    voxel's points, and is as wide as the voxel.

    Args:
        reconstruction: Cameras and points; camera 0 is the input.
        count: Largest number of Gaussians.
        sh_degree: Degree of the spherical harmonics, 0 to 3.
        device: Device on which voxels are counted.
        opacity: Initial opacity in [0, 1].
    """
    center = reconstruction.cameras.centers[0]
    points, widths = _thin(reconstruction.points, center, count, device)
    return round_gaussians(points, widths, sh_degree, opacity)


def round_gaussians(
    points: PointCloud, scales: Float[Tensor, "point"], sh_degree: int, opacity: float
) -> Gaussians:
    """Return a round Gaussian of one colour for each point.

    Args:
        points: Positions and colours.
        scales: Standard deviations in scene units.
        sh_degree: Degree of the spherical harmonics, 0 to 3.
        opacity: Opacity of all of them, in [0, 1].
    """
    count = len(points)
    sh_coeffs = torch.zeros(count, (sh_degree + 1) ** 2, 3)
    sh_coeffs[:, 0] = spherical_harmonics.from_rgb(points.colors)
    quats = torch.zeros(count, 4)
    quats[:, 0] = 1
    return Gaussians(
        points.points,
        quats,
        scales[:, None].expand(-1, 3).clone(),
        torch.full((count,), opacity),
        sh_coeffs,
    )


def _thin(
    cloud: PointCloud, center: Float[Tensor, "3"], count: int, device: torch.device | str
) -> tuple[PointCloud, Float[Tensor, "point"]]:
    """Average a cloud in at most `count` voxels of equal angular size as seen from `center`.

    Returns:
        The mean points, and half the widths of the voxels in scene units.
    """
    cloud = cloud[:: max(1, len(cloud) // (_POINTS_PER_VOXEL * count))]
    offset = cloud.points - center
    distance = offset.norm(dim=-1).clamp(min=1e-6)
    angular = torch.cat([offset / distance[:, None], distance.log()[:, None]], dim=-1).to(device)
    # Bisect for the smallest angle, in radians, whose voxels do not exceed the count.
    voxels = _CompiledVoxels(angular) if can_use_numba(angular) else _Voxels(angular)
    low = 1e-4
    high = 1.0
    for _ in range(_BISECTION_STEPS):
        angle = (low * high) ** 0.5
        if voxels.exceed(angle, count):
            low = angle
        else:
            high = angle
    # Sums follow the order of the points, which CUDA would not keep.
    index, sizes = (values.cpu() for values in voxels.assign(high))
    weight = sizes.to(cloud.points.dtype)[:, None]
    points, colors = (
        torch.zeros(len(sizes), 3).index_add_(0, index, value) / weight
        for value in (cloud.points, cloud.colors)
    )
    widths = 0.5 * high * (points - center).norm(dim=-1)
    return PointCloud(points, colors), widths


class _Voxels:
    """Voxels of points, counted by torch on any device.

    Args:
        angular: Unit direction and logarithm of the distance of each point.
    """

    def __init__(self, angular: Float[Tensor, "point 4"]) -> None:
        self.angular = angular

    def exceed(self, angle: float, count: int) -> bool:
        """Return whether voxels of a size are more than a number.

        Args:
            angle: Size of a voxel.
            count: The number.
        """
        return len(self._keys(angle).unique()) > count

    def assign(self, angle: float) -> tuple[Int[Tensor, "point"], Int[Tensor, "voxel"]]:
        """Return the voxel of each point and the number of points in each voxel.

        Args:
            angle: Size of a voxel.
        """
        _, index, sizes = self._keys(angle).unique(return_inverse=True, return_counts=True)
        return index, sizes

    def _keys(self, angle: float) -> Int[Tensor, "point"]:
        """Pack the coordinates of each point's voxel into an integer."""
        cell = (self.angular / angle).floor().long()
        cell -= cell.min(0).values
        span = cell.max(0).values + 1
        return ((cell[:, 0] * span[1] + cell[:, 1]) * span[2] + cell[:, 2]) * span[3] + cell[:, 3]


class _CompiledVoxels(_Voxels):
    """Voxels of points, counted by compiled loops on the CPU, with the same result."""

    def __init__(self, angular: Float[Tensor, "point 4"]) -> None:
        self.points = to_numpy(angular)
        self.bounds = to_numpy(torch.stack([angular.amin(0), angular.amax(0)]))

    def exceed(self, angle: float, count: int) -> bool:
        """Return whether voxels of a size are more than a number. See `_Voxels`."""
        size = np.float32(angle)
        return voxels_numba.count_voxels(self.points, self.bounds, size, count) > count

    def assign(self, angle: float) -> tuple[Int[Tensor, "point"], Int[Tensor, "voxel"]]:
        """Return the voxel of each point and the number of points in each voxel."""
        found = voxels_numba.assign_voxels(self.points, self.bounds, np.float32(angle))
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])
