"""Renderers against paper, against finite differences and against one another."""

from dataclasses import replace

import numba
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lift.geometry import look_at, pinhole
from lift.renderers import EPS2D, MAX_ALPHA, MIN_TRANSMITTANCE, NEAR_PLANE, Renderer, renderers
from lift.spherical_harmonics import from_rgb
from lift.types import Cameras, Gaussians

CPU = ("reference", "numba")
INPUTS = ("means", "quats", "scales", "opacities", "colors", "world_to_camera", "intrinsics")


def build(name: str) -> Renderer:
    return renderers.build({"name": name})


def row(*depths: float, opacity: float = 0.5, scale: float = 0.1) -> Gaussians:
    """Spheres on the optical axis, coloured red, green, blue in turn."""
    n = len(depths)
    means = torch.tensor([[0.0, 0.0, z] for z in depths]).reshape(n, 3)
    colors = torch.eye(3).repeat(n, 1)[:n]
    quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(n, 1)
    return Gaussians(
        means,
        quats,
        torch.full((n, 3), scale),
        torch.full((n,), opacity),
        from_rgb(colors)[:, None],
    )


def crowd(
    n: int, views: int = 1, sigma: float = 2.0, seed: int = 0, per_view: bool = False
) -> tuple[Gaussians, torch.Tensor, Cameras]:
    """Random Gaussians in front of rotated cameras.

    Focal lengths are unequal, principal points off-centre, pictures 70 x 45 pixels.
    """
    generator = torch.Generator().manual_seed(seed)
    rand = lambda *shape: torch.rand(*shape, generator=generator)  # noqa: E731
    lead = (views, n) if per_view else (n,)
    depth = 2 + 4 * rand(*lead)
    means = torch.cat([(rand(*lead, 2) - 0.5) * depth[..., None], depth[..., None]], dim=-1)
    scales = (sigma * depth / 70)[..., None] * (0.3 + 1.4 * rand(*lead, 3))
    quats = rand(*lead, 4) - 0.5
    gaussians = Gaussians(means, quats, scales, 0.02 + 0.97 * rand(*lead), torch.zeros(*lead, 1, 3))
    eyes = 0.6 * rand(views, 3) - 0.3
    down = torch.tensor([0.2, 1.0, 0.1]).expand(views, 3)
    intrinsics = torch.tensor([[70.0, 0.0, 32.0], [0.0, 77.0, 26.0], [0.0, 0.0, 1.0]]).repeat(
        views, 1, 1
    )
    cameras = Cameras(
        look_at(eyes, torch.tensor([0.1, 0.0, 4.0]).expand(views, 3), down), intrinsics, 70, 45
    )
    return gaussians, rand(views, n, 3), cameras


def gradients(
    renderer: Renderer,
    gaussians: Gaussians,
    colors: torch.Tensor,
    cameras: Cameras,
    skip: tuple[str, ...] = (),
) -> tuple[list, dict, dict]:
    """Sums, gradients of a random functional of them (but for inputs to skip), info."""
    gaussians, cameras = (
        items.map(lambda value: value.detach().clone().requires_grad_())
        for items in (gaussians, cameras)
    )
    colors = colors.detach().clone().requires_grad_()
    for name, leaf in cameras.tensors().items():
        leaf.requires_grad_(name not in skip)
    *sums, info = renderer.rasterize(gaussians, colors, cameras)
    generator = torch.Generator().manual_seed(1)
    loss = sum(
        (torch.randn(value.shape, generator=generator).to(value) * value).sum() for value in sums
    )
    loss.backward()
    leaves = {**gaussians.tensors(), **cameras.tensors(), "colors": colors}
    return [value.detach() for value in sums], {name: leaves[name].grad for name in INPUTS}, info


def assert_agree(
    fast: tuple, truth: tuple, tolerance: float = 1e-4, skip: tuple[str, ...] = ()
) -> None:
    for name, a, b in zip(("rgb", "alpha", "depth"), fast[0], truth[0], strict=False):
        assert (a - b).abs().max() < tolerance, name
    for name in set(INPUTS) - set(skip):
        a, b = fast[1][name], truth[1][name]
        assert (a - b).norm() < 10 * tolerance * b.norm(), name
    contributes = truth[1]["colors"].abs().sum(-1) > 0
    assert ((fast[2]["radii"] > 0) | ~contributes).all()


@pytest.mark.parametrize("name", CPU)
def test_alpha_at_the_centre_can_be_checked_on_paper(name):
    camera = replace(
        pinhole(17, 17, 40.0),
        intrinsics=torch.tensor([[[40.0, 0.0, 8.5], [0.0, 40.0, 8.5], [0.0, 0.0, 1.0]]]),
    )
    variance = (40 * 0.1 / 2) ** 2 + EPS2D
    out = build(name)(row(2.0), camera)
    column = torch.arange(17) - 8.0
    expected = 0.5 * torch.exp(-0.5 * column**2 / variance)
    expected[expected < 1 / 255] = 0
    torch.testing.assert_close(out.alpha[0, 8], expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(out.rgb[0, 8, :, 0], expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(out.depth[0, 8], 2.0 * (expected > 0), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", CPU)
@pytest.mark.parametrize("depths", [(2.0, 3.0), (3.0, 2.0)])
def test_nearer_gaussian_is_first_in_any_storage_order(name, depths):
    camera = replace(
        pinhole(9, 9, 9.0),
        intrinsics=torch.tensor([[[9.0, 0.0, 4.5], [0.0, 9.0, 4.5], [0.0, 0.0, 1.0]]]),
    )
    rgb = build(name)(row(*depths), camera, torch.tensor([0.0, 0.0, 1.0])).rgb[0, 4, 4]
    near, far = (0, 1) if depths[0] < depths[1] else (1, 0)
    expected = torch.zeros(3)
    expected[near], expected[far], expected[2] = 0.5, 0.25, 0.25
    torch.testing.assert_close(rgb, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", CPU)
def test_compositing_stops_before_all_light_is_gone(name):
    """Alpha 0.999 leaves 1e-3 of the light, and 0.8 leaves 2e-4 after that.

    The third would leave less than MIN_TRANSMITTANCE, so it is not drawn.
    """
    gaussians = replace(row(2.0, 3.0, 4.0, scale=1.0), opacities=torch.tensor([1.0, 0.8, 0.6]))
    camera = replace(
        pinhole(9, 9, 9.0),
        intrinsics=torch.tensor([[[9.0, 0.0, 4.5], [0.0, 9.0, 4.5], [0.0, 0.0, 1.0]]]),
    )
    out = build(name)(gaussians, camera)
    left = (1 - MAX_ALPHA) * (1 - 0.8)
    assert left * (1 - 0.6) < MIN_TRANSMITTANCE
    assert float(out.alpha[0, 4, 4]) == pytest.approx(1 - left, abs=1e-6)
    assert float(out.rgb[0, 4, 4, 2]) == 0


@pytest.mark.parametrize("name", CPU)
def test_an_opaque_plane_has_its_depth_everywhere(name):
    camera = pinhole(40, 30, 40.0)
    y, x = torch.meshgrid(
        torch.linspace(-1.2, 1.2, 50), torch.linspace(-1.6, 1.6, 64), indexing="ij"
    )
    means = torch.stack([x, y, torch.full_like(x, 2.5)], dim=-1).flatten(0, 1)
    n = len(means)
    quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(n, 4)
    plane = Gaussians(
        means,
        quats,
        torch.tensor([[0.05, 0.05, 1e-4]]).expand(n, 3),
        torch.full((n,), 0.95),
        torch.zeros(n, 1, 3),
    )
    out = build(name)(plane, camera)
    assert out.alpha.min() > 0.99
    assert (out.depth - 2.5).abs().max() < 1e-4


@pytest.mark.parametrize("name", CPU)
def test_empty_or_hidden_scene_is_background_without_gradient(name):
    camera, background = pinhole(20, 10, 20.0), torch.tensor([0.1, 0.2, 0.3])
    renderer = build(name)
    assert (renderer(row(), camera, background).rgb == background).all()
    hidden = row(-1.0, 0.0, NEAR_PLANE / 2, 5.0)
    hidden = replace(hidden, opacities=torch.tensor([1.0, 1.0, 1.0, 1e-3])).map(
        lambda value: value.clone().requires_grad_()
    )
    out = renderer(hidden, camera, background)
    assert (
        (out.rgb == background).all() and (out.depth == 0).all() and (out.info["radii"] == 0).all()
    )
    out.rgb.sum().backward()
    for name, value in hidden.tensors().items():
        assert value.grad is None or (value.grad == 0).all(), name


def test_reference_gradients_are_those_of_finite_differences():
    gaussians, colors, cameras = crowd(3, sigma=6.0)
    cameras = replace(
        cameras,
        width=9,
        height=7,
        intrinsics=cameras.intrinsics * torch.tensor([[9 / 70], [7 / 45], [1.0]]),
    )
    inputs = [
        v.double() for v in (*gaussians.tensors().values(), colors, *cameras.tensors().values())
    ]
    inputs = [
        inputs[i] for i in (0, 1, 2, 3, 5, 6, 7)
    ]  # without the harmonics, which are not looked at
    inputs[2] = inputs[2] * 3  # so broad that no pixel lies near MIN_ALPHA, where pictures jump
    inputs[3] = 0.3 + 0.3 * inputs[3]
    inputs = [value.requires_grad_() for value in inputs]

    def sums(means, quats, scales, opacities, colors, world_to_camera, intrinsics):
        shown = Gaussians(means, quats, scales, opacities, gaussians.sh_coeffs.double())
        return build("reference").rasterize(
            shown, colors, Cameras(world_to_camera, intrinsics, 9, 7)
        )[:3]

    def mixed(*inputs):
        """A random functional of each picture: one backward pass instead of one a pixel."""
        generator = torch.Generator().manual_seed(1)
        return tuple(
            (torch.randn(value.shape, generator=generator) * value).sum() for value in sums(*inputs)
        )

    assert sums(*inputs)[1].min() > 0.03
    torch.autograd.gradcheck(mixed, inputs, eps=1e-6, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "setting",
    [
        dict(n=300),
        dict(n=200, views=3),
        dict(n=200, views=3, per_view=True),
        dict(n=600, sigma=0.7),
        dict(n=60, sigma=25.0, views=2),
    ],
    ids=str,
)
def test_numba_agrees_with_reference_in_double_precision(setting):
    gaussians, colors, cameras = crowd(**setting)
    truth = gradients(
        build("reference"), gaussians.to(torch.float64), colors.double(), cameras.to(torch.float64)
    )
    assert_agree(gradients(build("numba"), gaussians, colors, cameras), truth)


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(0, 40),
    st.integers(1, 70),
    st.integers(1, 40),
    st.floats(-3, 3),
    st.floats(-2, 2),
)
def test_numba_agrees_with_reference_on_wild_scenes(seed, n, width, height, log_sigma, shift):
    """No NaN for any picture size and any Gaussians.

    They are tiny to huge, in front of, behind and beside the camera.
    """
    gaussians, colors, cameras = crowd(n, sigma=10**log_sigma, seed=seed)
    gaussians = replace(gaussians, means=gaussians.means + shift * torch.tensor([1.0, 1.0, -3.0]))
    cameras = replace(cameras, width=width, height=height)
    fast, truth = (
        gradients(build(name), gaussians, colors, cameras) for name in ("numba", "reference")
    )
    for name, grad in fast[1].items():
        assert torch.isfinite(grad).all() and torch.isfinite(truth[1][name]).all(), name
    for a, b in zip(fast[0][:2], truth[0], strict=False):
        # Both are float32: rounding may move an alpha near MIN_ALPHA across that limit.
        assert ((a - b).abs() > 1e-3).float().mean() < 0.01 and (a - b).abs().max() < 0.02


def test_a_needle_seen_from_near_stays_finite_and_right():
    """Its determinant would be lost in float32 if it were computed as a difference."""
    needle = replace(
        row(0.3),
        scales=torch.tensor([[5.0, 1e-3, 1e-3]]),
        quats=torch.tensor([[0.9, 0.1, 0.2, 0.4]]),
    )
    color, camera = torch.ones(1, 1, 3), pinhole(40, 30, 400.0)
    truth = gradients(
        build("reference"), needle.to(torch.float64), color.double(), camera.to(torch.float64)
    )
    assert truth[0][1].sum() > 10
    assert_agree(gradients(build("numba"), needle, color, camera), truth, tolerance=1e-5)


def test_numba_gives_the_same_bits_with_any_number_of_threads():
    gaussians, colors, cameras = crowd(1200, views=2)
    results = []
    before = numba.get_num_threads()
    for threads in (before, 1, before):
        numba.set_num_threads(threads)
        sums, grads, _ = gradients(build("numba"), gaussians, colors, cameras)
        results.append([*sums, *grads.values()])
    numba.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=False))


def test_numba_caches_kernels_under_the_hash_of_all_their_source():
    """Otherwise a kernel loads that contains an old version of a function in another file."""
    from lift.renderers.cpu import compile, compositing_gradient, projection

    for kernel in (projection.project, compositing_gradient.composite_gradient):
        index = kernel._cache._cache_file
        assert index._source_stamp == compile.source_hash()
        build("numba").warm_up()
        assert index._load_index(), "nothing is cached under this stamp"


def test_numba_refuses_what_it_cannot_do():
    gaussians, colors, cameras = crowd(3)
    with pytest.raises(ValueError, match="choose reference"):
        build("numba").rasterize(
            gaussians.to(torch.float64), colors.double(), cameras.to(torch.float64)
        )


def test_gsplat_without_package_or_gpu_is_an_error():
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is there")
    with pytest.raises((ImportError, RuntimeError), match="gsplat"):
        build("gsplat")


@pytest.mark.gpu
@pytest.mark.parametrize("triton", [True, False])
@pytest.mark.parametrize(
    "setting", [dict(n=300), dict(n=300, views=3), dict(n=200, views=3, per_view=True)], ids=str
)
def test_gsplat_agrees_with_reference(setting, triton, cuda, monkeypatch):
    if not triton:
        monkeypatch.setattr("lift.renderers.gsplat.can_use_triton", lambda *_: False)
    gaussians, colors, cameras = (value.to(cuda) for value in crowd(**setting))
    truth = gradients(
        build("reference"), gaussians.to(torch.float64), colors.double(), cameras.to(torch.float64)
    )
    fast = gradients(build("gsplat"), gaussians, colors, cameras)
    assert_agree(fast, truth, tolerance=3e-4)


def test_the_numba_renderers_compose_is_the_general_one():
    from lift.renderers import compose

    rng = torch.Generator().manual_seed(0)
    rand = lambda *shape: torch.rand(*shape, generator=rng)  # noqa: E731
    inputs, mixed = (
        [rand(2, 9, 7, 3), rand(2, 9, 7), rand(2, 9, 7)],
        [rand(2, 9, 7, 3), rand(2, 9, 7), rand(2, 9, 7)],
    )
    inputs[1][0, 0] = 0  # nothing hit
    for background in (None, rand(3), rand(2, 3)):
        found = []
        for way in (compose, renderers.build({"name": "numba"}).compose):
            leaves = [
                value.clone().requires_grad_()
                for value in (*inputs, *([] if background is None else [background]))
            ]
            made = way(*leaves[:3], None if background is None else leaves[3])
            sum((a * b).sum() for a, b in zip(made, mixed, strict=True)).backward()
            found.append([*(value.detach() for value in made), *(leaf.grad for leaf in leaves)])
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b)
