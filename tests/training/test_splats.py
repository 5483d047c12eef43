"""Raw parameters of Gaussians and their start."""

import torch

from lift.training.splats import Splats, initialise
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
