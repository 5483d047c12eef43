"""Raw parameters of Gaussians and their start."""

from dataclasses import replace

import pytest
import torch

from lift.training.splats import Splats, _CompiledVoxels, _Voxels, initialise
from lift.types import Gaussians, PointCloud, Reconstruction
from tests.helpers.fits import ball, scene


def test_splats_hold_physical_values():
    gaussians = ball()
    back = Splats.from_gaussians(gaussians).gaussians()
    for name, value in gaussians.tensors().items():
        torch.testing.assert_close(getattr(back, name), value)


def test_initial_gaussians_are_thinned_evenly_in_the_input():
    grid = torch.stack(
        torch.meshgrid(torch.linspace(-1, 1, 80), torch.linspace(-1, 1, 80), indexing="ij"), -1
    ).reshape(-1, 2)
    near = torch.cat([grid, torch.full((6400, 1), 2.0)], -1)
    far = torch.cat([grid * 4, torch.full((6400, 1), 8.0)], -1) + torch.tensor([40.0, 0, 0])
    cloud = PointCloud(torch.cat([near, far]), torch.rand(12800, 3))
    _, reconstruction = scene()
    made = initialise(
        Reconstruction(
            reconstruction.cameras, cloud, reconstruction.depth, reconstruction.confidence
        ),
        2000,
        1,
    )
    assert 1000 < len(made) <= 2000 and made.sh_coeffs.shape[1:] == (4, 3)
    assert made.scales[made.means[:, 2] > 5].mean() > 3 * made.scales[made.means[:, 2] < 5].mean()


def test_raw_parameters_are_contiguous_for_fused_adam():
    count = 7
    quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(count, 1)
    scales, opacities = torch.full((count, 1), 0.1).expand(-1, 3), torch.full((count,), 0.5)
    gaussians = Gaussians(torch.rand(count, 3), quats, scales, opacities, torch.rand(count, 16, 3))
    splats = Splats.from_gaussians(gaussians)
    assert all(parameter.is_contiguous() for parameter in splats.values())
    assert torch.equal(splats.gaussians().sh_coeffs, gaussians.sh_coeffs)


def cloud_coordinates() -> torch.Tensor:
    points = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0))
    points = torch.cat([points, points[:100]])
    distance = points.norm(dim=-1, keepdim=True)
    return torch.cat([points / distance, distance.log()], -1)


@pytest.mark.parametrize("angle", [1e-4, 0.03, 0.2, 1.0])
def test_compiled_voxels_equal_those_of_torch(angle):
    angular = cloud_coordinates()
    compiled = _CompiledVoxels(angular)
    index, sizes = _Voxels(angular).assign(angle)
    found = compiled.assign(angle)
    assert torch.equal(found[0], index) and torch.equal(found[1], sizes)
    for count in (len(sizes) - 1, len(sizes), len(sizes) + 1):
        assert compiled.exceed(angle, count) == (len(sizes) > count)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_initial_gaussians_are_alike_on_all_devices(device):
    _, reconstruction = scene()
    points = torch.randn(20000, 3, generator=torch.Generator().manual_seed(0)) + 4
    cloud = PointCloud(points, torch.rand(20000, 3))
    reconstruction = replace(reconstruction, points=cloud)
    made = initialise(reconstruction, 1000, 0, device)
    expected = initialise(reconstruction, 1000, 0)
    assert made.means.device.type == "cpu"
    # A GPU multiplies by the inverse of the voxel's size, so a point on a border may change sides.
    assert len(made) == pytest.approx(len(expected), rel=0.01)
    assert float(made.scales.mean()) == pytest.approx(float(expected.scales.mean()), rel=0.01)
