"""The field of basis shapes."""

import torch

from lift.distortions.field import Field
from tests.helpers.distortions import ALL_VIEWS, EXTENT, build_distortion, random_gaussians


def test_field_moves_pixels_by_weighted_basis_shapes():
    field: Field = build_distortion("field", rank=2)
    with torch.no_grad():
        field.shapes[0], field.mixing[3, 0], field.mixing[3, 1] = 0.01, 2.0, 0.0
    shifted = field.gaussians(random_gaussians(), ALL_VIEWS)
    torch.testing.assert_close(
        shifted.means[3, :, 0], random_gaussians().means[:, 0] + 0.02 * EXTENT
    )
    torch.testing.assert_close(shifted.means[3, :, 1:], random_gaussians().means[:, 1:])
    assert torch.equal(shifted.means[0], random_gaussians().means)
    twice = field.gaussians(shifted, ALL_VIEWS)  # sets a view may follow another distortion's
    torch.testing.assert_close(
        twice.means[3, :, 0], random_gaussians().means[:, 0] + 0.04 * EXTENT, atol=1e-4, rtol=0
    )
