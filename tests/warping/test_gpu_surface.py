"""The functions that warp on a GPU compared with those of the CPU."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lift.geometry import pinhole, rigid
from lift.priors import priors
from lift.types import Cameras, Clip, Depth, Frames
from lift.warping import fill
from lift.warping.backend import CPU_BACKEND, gpu_backend
from lift.warping.gpu import fill as gpu_fill
from lift.warping.gpu.components import label_components
from lift.warping.surface import camera_matrices

WIDTH, HEIGHT, FOCAL = 72, 56, 60.0
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * ((a.float() - b.float()) / 255).square().mean().log10())


def picture() -> tuple[torch.Tensor, Depth]:
    """A red square before a slanted, textured wall."""
    row, column = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    wall = 128 + 60 * torch.sin(column / 3.0) * torch.cos(row / 4.0)
    image = torch.stack([wall / 2, wall, 255 - wall], -1)
    depth = 4 + 0.01 * column.float()
    square = ((row - 28).abs() < 11) & ((column - 36).abs() < 14)
    image[square] = torch.tensor([220.0, 20.0, 20.0])
    depth[square] = 2.0
    return image.round().to(torch.uint8), Depth(depth, depth > 0, "scale")


def moved(*shifts: tuple[float, float, float]) -> Cameras:
    start = pinhole(WIDTH, HEIGHT, FOCAL)
    matrices = torch.stack(
        [rigid(torch.eye(3), -torch.tensor(shift, dtype=torch.float32)) for shift in shifts]
    )
    return replace(
        start, world_to_camera=matrices, intrinsics=start.intrinsics.expand(len(shifts), 3, 3)
    )


def surfaces(device: torch.device):
    """The same surface on the CPU and on the device."""
    image, depth = picture()
    matrices = camera_matrices(moved((0, 0, 0)))[0]
    for backend in (CPU_BACKEND, gpu_backend(device)):
        surface = backend.new_surface(depth.typical, 0.04)
        pixels, closed = backend.from_tensor(image), backend.close_gaps(depth)
        surface.add(pixels, closed, backend.ones((HEIGHT, WIDTH)), *matrices)
        yield backend, surface


SHIFTS = [(0.0, 0.0, 0.0), (0.31, 0.0, 0.0), (-0.2, 0.15, 0.4), (0.1, -0.1, -0.5), (0, 0, 1.6)]


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_surface_looks_the_same_on_both(shift, device: torch.device) -> None:
    matrices = camera_matrices(moved(shift))[0]
    (_, on_cpu), (_, on_device) = surfaces(device)
    expected = on_cpu.render(*matrices, WIDTH, HEIGHT)
    found = on_device.render(*matrices, WIDTH, HEIGHT)
    hole = found.hole.cpu().numpy()
    assert (hole == expected.hole).mean() > 0.9995
    both = ~hole & ~expected.hole
    error = np.abs(found.inverse.cpu().numpy() - expected.inverse)[both]
    assert np.quantile(error, 0.999) < 1e-5
    colors = np.abs(found.rgb.cpu().numpy() - expected.rgb)[both]
    assert colors.mean() < 0.05
    assert (found.front.cpu().numpy() == expected.front)[both].mean() > 0.999


def test_an_unmoved_camera_sees_the_pixels(device: torch.device) -> None:
    image, _ = picture()
    *_, (_, surface) = surfaces(device)
    view = surface.render(*camera_matrices(moved((0, 0, 0)))[0], WIDTH, HEIGHT)
    assert not view.hole.any()
    torch.testing.assert_close(view.rgb.cpu(), image.float(), atol=0.05, rtol=0)


def test_large_cells_are_drawn_in_parts(monkeypatch, device: torch.device) -> None:
    matrices = camera_matrices(moved((0.1, 0, 0.5)))[0]
    *_, (_, surface) = surfaces(device)
    whole = surface.render(*matrices, WIDTH, HEIGHT)
    monkeypatch.setattr("lift.warping.gpu.raster.MAX_CANDIDATES", 500)
    parts = surface.render(*matrices, WIDTH, HEIGHT)
    assert torch.equal(parts.cell, whole.cell)
    assert torch.equal(parts.rgb, whole.rgb)


def test_silhouettes_and_filled_depth_agree(device: torch.device) -> None:
    matrices = camera_matrices(moved((0.25, 0.1, 0.2)))[0]
    results = []
    for backend, surface in surfaces(device):
        view = surface.render(*matrices, WIDTH, HEIGHT)
        hole = view.hole
        assert hole.any()
        view.rgb, inverse = backend.fill_behind(view.rgb, view.inverse, hole, view.front, "smooth")
        depth = surface.push_back(backend.invert(inverse) / 2, hole, *matrices)
        results.append([backend.to_tensor(value) for value in (surface.antialias(view), depth)])
    (expected, expected_depth), (found, found_depth) = results
    assert psnr(found, expected) > 50
    relative = (found_depth - expected_depth).abs() / expected_depth
    assert float(relative.quantile(0.999)) < 1e-4
    image, depth = picture()
    assert float(found_depth.max()) < 2.1 * float(depth.depth.max())


@pytest.mark.parametrize("texture", ["smooth", "telea", "network", "patches"])
def test_holes_are_filled_alike(texture, device: torch.device) -> None:
    matrices = camera_matrices(moved((0.35, 0.2, 0.1)))[0]
    results = []
    for backend, surface in surfaces(device):
        view = surface.render(*matrices, WIDTH, HEIGHT)
        known = ~view.hole
        rgb, inverse = backend.fill_behind(view.rgb, view.inverse, view.hole, view.front, texture)
        assert (rgb[known] == view.rgb[known]).all()
        results.append([backend.to_tensor(value) for value in (rgb, inverse)])
    (expected, expected_inverse), (found, found_inverse) = results
    # Patches are searched in another order.
    assert psnr(found, expected) > (28 if texture in ("network", "patches") else 45)
    assert float((found_inverse - expected_inverse).abs().max()) < 0.01


def test_colors_and_moves_in_parts_are_the_same(monkeypatch, device: torch.device) -> None:
    matrices = camera_matrices(moved((0.25, 0.1, 0.2)))[0]
    *_, (backend, surface) = surfaces(device)
    results = []
    for samples, candidates in ((1 << 20, 1 << 23), (1000, 500)):
        monkeypatch.setattr("lift.warping.gpu.shading.MAX_SAMPLES", samples)
        monkeypatch.setattr("lift.warping.gpu.surface.MAX_CANDIDATES", candidates)
        view = surface.render(*matrices, WIDTH, HEIGHT)
        view.rgb, inverse = backend.fill_behind(
            view.rgb, view.inverse, view.hole, view.front, "smooth"
        )
        depth = surface.push_back(backend.invert(inverse) / 2, view.hole, *matrices)
        results.append((surface.antialias(view), depth))
    assert torch.equal(results[0][1], results[1][1])
    torch.testing.assert_close(*(result[0] for result in results))


def test_what_cannot_be_filled_is_told(device: torch.device) -> None:
    hole = torch.ones(8, 9, dtype=torch.bool, device=device)
    nothing = torch.zeros(8, 9, device=device)
    with pytest.raises(ValueError, match="nothing of the view is known"):
        gpu_fill.fill_behind(torch.zeros(8, 9, 3, device=device), nothing, hole, ~hole, "smooth")
    with pytest.raises(ValueError, match="choose a smaller preprocess.size"):
        label_components(torch.zeros(1, (1 << 24) + 1, dtype=torch.bool, device=device))


@pytest.mark.parametrize("seed", range(5))
def test_components_are_those_of_opencv(seed, device: torch.device) -> None:
    import cv2

    rng = np.random.default_rng(seed)
    mask = cv2.GaussianBlur(rng.random((60, 90)).astype(np.float32), (0, 0), 1 + seed) > 0.5
    count, expected = cv2.connectedComponents(mask.astype(np.uint8))
    found = label_components(torch.from_numpy(mask).to(device)).cpu().numpy()
    assert ((found > 0) == mask).all()
    pairs = set(zip(found[mask].tolist(), expected[mask].tolist(), strict=True))
    assert len(pairs) == count - 1 == len(np.unique(found[mask]))
    on_cpu = fill.interior_holes(mask)
    on_device = gpu_fill.interior_holes(torch.from_numpy(mask).to(device))
    assert (on_device.cpu().numpy() == on_cpu).all()


def test_a_spiral_is_one_component(device: torch.device) -> None:
    mask = torch.zeros(41, 41, dtype=torch.bool)
    row, column, (down, right) = 1, 1, (0, 1)
    for length in [38, *(n for n in range(38, 0, -4) for _ in range(2))]:
        for _ in range(length):
            mask[row, column] = True
            row, column = row + down, column + right
        down, right = right, -down
    assert len(label_components(mask.to(device))[mask.to(device)].unique()) == 1


@pytest.mark.parametrize("radius", [1, 2, 3, 5])
def test_thin_holes_are_told_from_thick_ones(radius, device: torch.device) -> None:
    import cv2

    hole = torch.zeros(30, 40, dtype=torch.bool)
    hole[8 : 8 + 2 * radius, 5:35] = True
    hole[8 : 8 + radius, :3] = True  # at the border nothing beyond it is known
    distance = cv2.distanceTransform(hole.numpy().astype(np.uint8), cv2.DIST_L2, 3)
    found = float(gpu_fill.hole_radius(hole.to(device), 2.5))
    assert (found < 2.5) == (distance.max() < 2.5)


def test_unknown_depth_is_closed_alike(device: torch.device) -> None:
    image, depth = picture()
    valid = torch.rand(depth.depth.shape, generator=torch.Generator().manual_seed(0)) > 0.2
    gaps = Depth(depth.depth, valid, "scale")
    found = gpu_fill.close_gaps(gaps, device).cpu().numpy()
    np.testing.assert_allclose(found, fill.close_gaps(gaps), rtol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"fill": "patches"}, {"fill": "smooth", "margin": 0.0}])
def test_clips_of_the_prior_agree(settings, monkeypatch, device: torch.device) -> None:
    image, depth = picture()
    camera = moved((0, 0, 0))
    clip = Clip("right", 0, moved((0.1, 0, 0), (0.2, 0.02, 0), (0.3, 0.04, 0.1)))
    later = Clip("later", 3, moved((0.3, 0.1, 0.1), (0.3, 0.2, 0.1)))
    results = []
    for backend in (CPU_BACKEND, gpu_backend(device)):
        prior = priors.build({"name": "warp", **settings}, depth=depth)
        prior.backend = backend
        frames = Frames(image[None], depth.depth[None])
        first = prior(frames, camera, clip, 0)
        both = Frames.cat([frames, first])
        second = prior(both, Cameras.cat([camera, clip.cameras]), later, 0)
        # A prior that remembers nothing continues the same frames in the same way.
        fresh = priors.build({"name": "warp", **settings}, depth=depth)
        fresh.backend = backend
        again = fresh(both, Cameras.cat([camera, clip.cameras]), later, 0)
        assert psnr(again.images, second.images) > 45
        results.append(Frames.cat([first, second]))
    expected, found = results
    assert found.images.device == image.device
    assert min(psnr(*pair) for pair in zip(found.images, expected.images, strict=True)) > 25
    assert psnr(found.images, expected.images) > 30
