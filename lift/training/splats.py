"""The raw parameters behind Gaussians: the one place where logits and log-scales exist."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from lift import spherical_harmonics
from lift.runtime.jit import fused, on_cpu
from lift.types import Gaussians, PointCloud, Reconstruction

NAMES = ("means", "scales", "quats", "opacities", "sh0", "shN")
"""Raw parameters by gsplat's names: positions, log standard deviations, quaternions, logits, constant and view-dependent colour."""

_MIN_OPACITY = 1e-4
_POINTS_A_VOXEL = 12  # more than that only costs time


def activated(scales: Tensor, quats: Tensor, opacities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Standard deviations, unit quaternions and opacities of raw parameters."""
    if fused(scales, quats, opacities):
        from lift.training.kernels import step_triton

        return step_triton.activated(scales, quats, opacities)
    if on_cpu(quats):
        from lift.training.kernels import splats_numba

        return scales.exp(), splats_numba.unit(quats), opacities.sigmoid()
    return scales.exp(), normalize(quats, dim=-1), opacities.sigmoid()


class Splats(nn.ParameterDict):
    """Raw parameters, as many rows as there are Gaussians."""

    @property
    def count(self) -> int:
        return len(self["means"])

    def gaussians(self) -> Gaussians:
        """Physical values, differentiable."""
        sh_coeffs = (
            torch.cat([self["sh0"], self["shN"]], dim=1) if self["shN"].shape[1] else self["sh0"]
        )
        scales, quats, opacities = activated(self["scales"], self["quats"], self["opacities"])
        return Gaussians(self["means"], quats, scales, opacities, sh_coeffs)

    @classmethod
    def of(cls, gaussians: Gaussians) -> "Splats":
        opacities = gaussians.opacities.clamp(_MIN_OPACITY, 1 - _MIN_OPACITY)
        values = {
            "means": gaussians.means,
            "scales": gaussians.scales.log(),
            "quats": gaussians.quats,
            "opacities": opacities.logit(),
            "sh0": gaussians.sh_coeffs[:, :1],
            "shN": gaussians.sh_coeffs[:, 1:],
        }
        # torch's fused Adam on a CPU takes every tensor for contiguous.
        return cls({name: value.contiguous() for name, value in values.items()})

    @classmethod
    def blank(cls, shapes: dict[str, list[int]]) -> "Splats":
        """Of given shapes, to be filled from a checkpoint."""
        return cls({name: torch.zeros(shape) for name, shape in shapes.items()})


def initialise(
    reconstruction: Reconstruction,
    count: int,
    sh_degree: int,
    device: torch.device | str = "cpu",
    opacity: float = 0.6,
) -> Gaussians:
    """At most `count` Gaussians from a reconstruction's cloud, on the CPU. device: where voxels are counted.

    The cloud is thinned by voxels whose size grows with the distance from the input camera, so that the picture is covered evenly;
    a Gaussian takes its voxel's mean position and colour and is as wide as the voxel.
    """
    center = reconstruction.cameras.centers[0]
    points, sizes = _thin(reconstruction.points, center, count, device)
    gaussians = len(points)
    sh_coeffs = torch.zeros(gaussians, (sh_degree + 1) ** 2, 3)
    sh_coeffs[:, 0] = spherical_harmonics.from_rgb(points.colors)
    quats = torch.zeros(gaussians, 4)
    quats[:, 0] = 1
    return Gaussians(
        points.points,
        quats,
        sizes[:, None].expand(-1, 3).clone(),
        torch.full((gaussians,), opacity),
        sh_coeffs,
    )


def _thin(
    cloud: PointCloud, center: Float[Tensor, "3"], count: int, device: torch.device | str
) -> tuple[PointCloud, Float[Tensor, "point"]]:
    """The cloud in at most `count` voxels of equal angular size as seen from `center`, and half their widths."""
    cloud = cloud[:: max(1, len(cloud) // (_POINTS_A_VOXEL * count))]
    offset = cloud.points - center
    distance = offset.norm(dim=-1).clamp(min=1e-6)
    seen = torch.cat([offset / distance[:, None], distance.log()[:, None]], dim=-1).to(device)
    low, high = 1e-4, 1.0
    for _ in range(
        14
    ):  # bisect the angle, in radians, for the finest voxels that stay within the count
        angle = (low * high) ** 0.5
        if len(_voxels(seen, angle)[1]) > count:
            low = angle
        else:
            high = angle
    index, sizes = (
        found.cpu() for found in _voxels(seen, high)
    )  # sums in the order of the points, which CUDA would not keep
    weight = sizes.to(cloud.points.dtype)[:, None]
    means = [
        torch.zeros(len(sizes), 3).index_add_(0, index, value) / weight
        for value in (cloud.points, cloud.colors)
    ]
    widths = 0.5 * high * (means[0] - center).norm(dim=-1)
    return PointCloud(means[0], means[1]), widths


def _voxels(
    seen: Float[Tensor, "point 4"], angle: float
) -> tuple[Int[Tensor, "point"], Int[Tensor, "voxel"]]:
    """Each point's voxel and each voxel's number of points."""
    cell = (seen / angle).floor().long()
    cell -= cell.min(0).values
    span = cell.max(0).values + 1
    key = ((cell[:, 0] * span[1] + cell[:, 1]) * span[2] + cell[:, 2]) * span[3] + cell[:, 3]
    _, index, sizes = key.unique(return_inverse=True, return_counts=True)
    return index, sizes
