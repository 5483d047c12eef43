"""The Gaussians that a fit starts from."""

from dataclasses import replace

import pytest
import torch

from lift.geometry import project
from lift.registry import ComponentError
from lift.training.initial import initial_gaussians, input_points, neighbour_distances
from lift.training.splats import initialise
from lift.types import PointCloud
from tests.helpers.fits import SIZE, scene, settings

INPUT = {"points": "input", "scales": "neighbours", "opacity": 0.1}


def test_the_default_is_the_thinned_cloud():
    frames, reconstruction = scene()
    made = initial_gaussians(frames, reconstruction, settings(sh_degree=1))
    expected = initialise(reconstruction, 100, 1)
    assert all(getattr(made, key).equal(value) for key, value in expected.tensors().items())


def test_each_known_pixel_of_the_input_becomes_a_gaussian():
    frames, reconstruction = scene()
    made = initial_gaussians(
        frames, reconstruction, settings(init=INPUT, initial_gaussians=SIZE**2, sh_degree=3)
    )
    known = (reconstruction.depth[0] > 0) & (reconstruction.confidence[0] >= 0.5)
    assert len(made) == int(known.sum()) > 200 and made.sh_degree == 3
    pixels, depth = project(made.means, reconstruction.cameras[0])
    column, row = pixels[0].long().unbind(-1)
    torch.testing.assert_close(depth[0], reconstruction.depth[0][row, column])
    colors = 0.28209479 * made.sh_coeffs[:, 0] + 0.5
    torch.testing.assert_close(colors, frames.rgb[0][row, column], atol=1e-4, rtol=0)
    assert (made.opacities == 0.1).all()


def test_the_input_is_sampled_on_an_even_grid():
    frames, reconstruction = scene()
    full = replace(
        reconstruction,
        depth=torch.full_like(reconstruction.depth, 2.0),
        confidence=torch.ones_like(reconstruction.confidence),
    )
    points = input_points(frames, full, 150)
    assert len(points) == 144, "12 by 12 of 24 by 24"
    steps = points.points.reshape(12, 12, 3).diff(dim=0)[..., 1]
    torch.testing.assert_close(steps, steps[:1, :1].expand_as(steps))


def test_scales_are_distances_to_three_neighbours():
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3], [9, 9, 9]])
    assert float(neighbour_distances(points)[0]) == pytest.approx((14 / 3) ** 0.5)


def test_all_points_may_have_scales_of_neighbours():
    frames, reconstruction = scene()
    made = initial_gaussians(
        frames, reconstruction, settings(sh_degree=0, init={"scales": "neighbours"})
    )
    assert made.means.equal(initialise(reconstruction, 100, 0).means)
    torch.testing.assert_close(made.scales[:, 0], neighbour_distances(made.means))


def test_too_few_points_are_an_error():
    frames, reconstruction = scene()
    unknown = replace(reconstruction, confidence=torch.zeros_like(reconstruction.confidence))
    with pytest.raises(ComponentError, match="fit.init.points is 'input', but none of the"):
        initial_gaussians(frames, unknown, settings(init=INPUT))
    few = replace(reconstruction, points=PointCloud(torch.rand(3, 3), torch.rand(3, 3)))
    with pytest.raises(ComponentError, match="needs 4 points, and there are [123]; choose voxels"):
        initial_gaussians(frames, few, settings(sh_degree=0, init={"scales": "neighbours"}))
