"""Effects of the trained distortions, and their benefit for the scene."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from lift.distortions import Distortion, distortions, validate_settings
from lift.distortions.appearance import Appearance
from lift.distortions.blur import SIGMA_UNIT, Blur, gaussian_blur
from lift.distortions.field import Field
from lift.distortions.hexplane import HexPlane
from lift.distortions.image_warp import ImageWarp
from lift.distortions.parameters.chain import PerFrame, ancestry
from lift.distortions.parameters.spline import bending_energy, spline_weights
from lift.distortions.rigid import Rigid
from lift.evaluation.diagnosis import diagnose
from lift.geometry import pinhole, project
from lift.registry import ComponentError
from lift.renderers import renderers
from lift.types import Cameras, Clip, Gaussians, PointCloud, Render, Trajectory

WIDTH, HEIGHT, VIEWS, EXTENT = 64, 48, 5, 3.0
CAMERA = pinhole(WIDTH, HEIGHT, 60.0)


def tree() -> Trajectory:
    """Two frames to the right, then one up from the second and one left from the input."""
    steps = [CAMERA.map(lambda value: value.clone()) for _ in range(4)]
    for camera, (x, y) in zip(steps, ((0.1, 0), (0.2, 0), (0.2, 0.1), (-0.1, 0)), strict=False):
        camera.world_to_camera[0, :2, 3] = -torch.tensor([x, y])
    return Trajectory(
        CAMERA,
        (
            Clip("right", 0, Cameras.cat(steps[:2])),
            Clip("right/up", 2, steps[2]),
            Clip("left", 0, steps[3]),
        ),
    )


def crowd(count: int = 400) -> Gaussians:
    rng = torch.Generator().manual_seed(0)
    means = (torch.rand(count, 3, generator=rng) - 0.5) * torch.tensor(
        [2.5, 2.0, 2.0]
    ) + torch.tensor([0.0, 0, 3])
    quats = torch.nn.functional.normalize(torch.randn(count, 4, generator=rng), dim=-1)
    return Gaussians(
        means,
        quats,
        torch.full((count, 3), 0.05),
        torch.full((count,), 0.8),
        torch.randn(count, 1, 3, generator=rng),
    )


SUPPLIED = {
    "num_views": VIEWS,
    "extent": EXTENT,
    "size": (WIDTH, HEIGHT),
    "trajectory": tree(),
    "points": PointCloud(crowd().means, torch.full((400, 3), 0.5)),
}


def make(kind, **settings):
    return distortions.build({"name": kind, **settings}, **SUPPLIED)


def picture() -> Render:
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    rgb = torch.stack([columns / WIDTH, rows / HEIGHT, ((rows + columns) % 8) / 8], dim=-1).expand(
        VIEWS, -1, -1, -1
    )
    return Render(
        rgb.contiguous(), torch.ones(VIEWS, HEIGHT, WIDTH), torch.full((VIEWS, HEIGHT, WIDTH), 2.0)
    )


EVERY = torch.arange(VIEWS)


def test_a_frame_sums_the_changes_on_its_way_from_the_input():
    expected = torch.tensor(
        [[0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 1.0]]
    )
    assert torch.equal(ancestry(tree(), VIEWS), expected)
    for chained in (True, False):
        numbers = PerFrame(VIEWS, (2,), tree(), chained)
        with torch.no_grad():
            numbers.values.copy_(torch.randn(VIEWS, 2))
        truth = expected @ numbers.values if chained else numbers.values * (EVERY > 0)[:, None]
        torch.testing.assert_close(numbers(EVERY), truth)
        assert not numbers(EVERY)[0].any()


def test_a_spline_gives_back_a_plane_and_is_smooth():
    weights = spline_weights(30, 8, torch.device("cpu"))
    torch.testing.assert_close(weights.sum(1), torch.ones(30))
    nodes = (
        torch.arange(8) - 1.0
    )  # a straight line: the value at a node of a uniform cubic spline is its place
    torch.testing.assert_close(
        weights @ nodes, (torch.arange(30) + 0.5) / 30 * 5, atol=1e-5, rtol=0
    )


def test_what_bends_a_grid_costs_its_squared_second_differences():
    grid = torch.randn(
        4,
        2,
        5,
        7,
        generator=torch.Generator().manual_seed(0),
        dtype=torch.float32,
        requires_grad=True,
    )
    truth = grid.diff(n=2, dim=-1).square().mean() + grid.diff(n=2, dim=-2).square().mean()
    truth, found = 3 * truth, bending_energy(grid, 3.0)
    torch.testing.assert_close(found, truth)
    torch.testing.assert_close(*(torch.autograd.grad(value, grid)[0] for value in (found, truth)))
    flat = torch.linspace(0, 1, 5)[:, None] + torch.linspace(0, 2, 7)
    assert bending_energy(flat[None]).abs() < 1e-6


def test_shifted_picture_leaves_out_unknown_content():
    warp: ImageWarp = make("image_warp", chained=False)
    with torch.no_grad():
        warp.grid.values[2, 0] = 3 / WIDTH
    shown = warp.image(picture(), EVERY)
    torch.testing.assert_close(shown.rgb[2, :, :-4], picture().rgb[2, :, 3:-1], atol=1e-4, rtol=0)
    assert torch.equal(shown.info["weight"][2, 0], (torch.arange(WIDTH) < WIDTH - 3).float())
    assert torch.equal(shown.rgb[1], picture().rgb[1]) and bool(
        (shown.info["weight"][1] == 1).all()
    )
    doubted = replace(picture(), info={"weight": torch.full(shown.alpha.shape, 0.5)})
    assert torch.equal(warp.image(doubted, EVERY).info["weight"], 0.5 * shown.info["weight"])


def test_colors_are_mapped_by_frame_and_place():
    plain: Appearance = make("appearance", chained=False)
    with torch.no_grad():
        plain.maps.values[3, 0, 0], plain.maps.values[3, 1, 3] = 0.2, 0.1
    shown = plain.image(picture(), EVERY).rgb
    torch.testing.assert_close(
        shown[3], picture().rgb[3] * torch.tensor([1.2, 1, 1]) + torch.tensor([0, 0.1, 0])
    )
    local: Appearance = make("appearance", cells=4, chained=False)
    with torch.no_grad():
        local.maps.values[3, 2, 3, :, 4:] = 0.3
    change = (local.image(picture(), EVERY).rgb - picture().rgb)[3, ..., 2]
    assert change[:, 0].abs().max() < 1e-6 and change[:, -1].min() > 0.2


def test_blur_has_its_reported_variance():
    blur: Blur = make("blur", chained=False)
    blur.variance.values.data[1] = 4.0
    dot = torch.zeros(VIEWS, 65, 256, 3)
    dot[:, 32, 128] = 1
    shown = blur.image(Render(dot, dot[..., 0], dot[..., 0]), EVERY).rgb[..., 0].detach()
    across = torch.arange(256) - 128.0
    assert float(shown[1].sum()) == pytest.approx(1, abs=1e-5)
    assert float((shown[1].sum(0) * across**2).sum()) == pytest.approx(
        4.0 * (SIGMA_UNIT * 256) ** 2, rel=0.02
    )
    assert torch.equal(shown[2], dot[2, ..., 0])
    rng = torch.Generator().manual_seed(0)
    pictures, variance = (
        torch.rand(2, 9, 7, 3, dtype=torch.double, generator=rng).requires_grad_(),
        torch.tensor([0.0, 1.3], dtype=torch.double, requires_grad=True),
    )
    assert torch.autograd.gradcheck(
        lambda rgb, variance: gaussian_blur(rgb, variance, 4.0), (pictures, variance)
    )
    blur.variance.values.data[1] = 2 * blur.max_sigma**2
    assert float(blur.variances(EVERY)[1].detach()) == pytest.approx(blur.max_sigma**2)
    blur.variance.values.data[1] = -0.5
    variance = blur.variances(EVERY)
    assert float(variance[1].detach()) == 0
    (gradient,) = torch.autograd.grad(variance[1], blur.variance.values)
    assert float(gradient[1]) == 1, "a step below zero is not for good"


@torch.no_grad()
def test_camera_parameters_move_the_picture_equally_far():
    rigid: Rigid = make("rigid", chained=False)
    moved = []
    for number in range(7):
        rigid.motions.values.zero_()
        rigid.motions.values[1, number] = 1e-3
        camera = rigid.cameras(CAMERA, torch.tensor([1]))
        seen, _ = project(SUPPLIED["points"].points, CAMERA)
        inner = ((seen[0] > 0) & (seen[0] < torch.tensor([WIDTH, HEIGHT]))).all(-1)
        moved.append(
            (project(SUPPLIED["points"].points, camera)[0][0][inner] - seen[0][inner])
            / WIDTH
            / 1e-3
        )
    products = torch.tensor([[float((a * b).sum(-1).mean()) for a in moved] for b in moved])
    sizes = products.diag()
    assert (
        float(sizes.max()) < 1.1 and float(sizes.min()) > 0.2
    )  # the damping leaves what hardly shows smaller
    alike = products / (sizes[:, None] * sizes).sqrt() - torch.eye(7)
    assert float(alike.abs().max()) < 0.9  # a turn and a shift as they are: 0.98
    assert float(camera.intrinsics[0, 0, 2]) == float(CAMERA.intrinsics[0, 0, 2])


def test_field_moves_pixels_by_weighted_basis_shapes():
    field: Field = make("field", rank=2)
    with torch.no_grad():
        field.shapes[0], field.mixing[3, 0], field.mixing[3, 1] = 0.01, 2.0, 0.0
    shifted = field.gaussians(crowd(), EVERY)
    torch.testing.assert_close(shifted.means[3, :, 0], crowd().means[:, 0] + 0.02 * EXTENT)
    torch.testing.assert_close(shifted.means[3, :, 1:], crowd().means[:, 1:])
    assert torch.equal(shifted.means[0], crowd().means)
    twice = field.gaussians(shifted, EVERY)  # sets a view may follow another distortion's
    torch.testing.assert_close(
        twice.means[3, :, 0], crowd().means[:, 0] + 0.04 * EXTENT, atol=1e-4, rtol=0
    )


def test_released_planes_are_not_identity_but_keep_the_input():
    torch.manual_seed(0)
    released: HexPlane = make("hexplane", as_released=True)
    released.progress = 0.0
    assert (
        released.gaussians(crowd(), EVERY) is not None
        and released.gaussians(crowd(), EVERY).means.shape == crowd().means.shape
    )
    released.progress = 1.0
    moved = released.gaussians(crowd(), torch.tensor([2, 0]))
    assert bool((moved.means[0] != crowd().means).any())
    tied = released.penalty()
    released.gaussians(crowd(), torch.tensor([0, 2]))
    assert float(tied) > float(released.penalty()), "only where the input comes last"


def test_parts_act_in_their_order_and_from_their_start():
    both = make(
        "composed",
        parts=["image_warp", "appearance"],
        starts=[0.0, 0.5],
        settings={"image_warp": {"chained": False}},
    )
    with torch.no_grad():
        both.parts["image_warp"].grid.values[1, 0] = 3 / WIDTH
        both.parts["appearance"].maps.values[1, :, 3] = 0.25
    both.progress = 0.25
    early = both.image(picture(), EVERY).rgb
    both.progress = 0.5
    late = both.image(picture(), EVERY).rgb
    torch.testing.assert_close(late[1], early[1] + 0.25)
    assert not torch.equal(early[1], picture().rgb[1])
    parts = ["rigid", "image_warp", "appearance", "blur"]
    for starts, begun in (
        ([], {0.05: 0, 0.15: 2, 0.3: 4}),
        ([0.5], {0.05: 0, 0.15: 1, 0.3: 3, 0.5: 4}),
    ):
        made = make("composed", parts=parts, starts=starts)
        for progress, count in begun.items():
            made.progress = progress
            assert len(made.active_parts()) == count, "positions come first by default"
    for looks, first in ((100.0, 0.1), (10.0, 0.2), (4.0, 0.25)):
        made = make("composed", parts=parts, starts=[0.05])
        made.prepare(looks)
        assert made.starts == {
            "rigid": 0.05,
            "image_warp": first,
            "appearance": 0.25,
            "blur": 0.25,
        }, "a short fit has to look at frames first"
    heard = []
    made.parts["blur"].prepare, made.parts["blur"].summary = heard.append, lambda: {"widest": 3.0}
    made.prepare(7.0)
    assert heard == [7.0] and made.summary()["parts"]["blur"] == {
        "verdict": "not judged",
        "explains": None,
        "widest": 3.0,
    }


def test_part_that_explains_little_is_dropped():
    parts = ["rigid", "image_warp", "appearance", "blur"]
    alone = {"Rigid": 0.3, "ImageWarp": 0.3, "Appearance": 0.5, "Blur": 0.01}
    measurements = 0

    def errors() -> torch.Tensor:
        """Cameras and warps replace each other: one is enough. One frame has changed content."""
        nonlocal measurements
        measurements += 1
        there = {type(part).__name__ for part in made.active_parts()}
        left = 1 - alone["Appearance"] * ("Appearance" in there) - alone["Blur"] * ("Blur" in there)
        left = (
            left
            * (0.6 if there & {"Rigid", "ImageWarp"} else 1.0)
            * (0.96 if "ImageWarp" in there else 1.0)
        )
        return torch.tensor(
            [left, left, left, 1000 * left if "Appearance" in there else 900 * left]
        )

    made = make("composed", parts=parts, starts=[0.25, 0.25, 0.25, 0.25], prune_after=0.2)
    for progress, left in (
        (0.2, []),
        (0.3, ["Rigid", "ImageWarp", "Appearance", "Blur"]),
        (0.44, ["Rigid", "ImageWarp", "Appearance", "Blur"]),
    ):
        made.progress = progress
        made.prune(errors)
        assert [type(part).__name__ for part in made.active_parts()] == left and measurements == 0
    made.progress = 0.46
    made.prune(errors)
    assert [type(part).__name__ for part in made.active_parts()] == ["ImageWarp", "Appearance"]
    summary = made.summary()
    assert {name: part_summary["verdict"] for name, part_summary in summary["parts"].items()} == {
        "rigid": "dropped",
        "image_warp": "kept",
        "appearance": "kept",
        "blur": "dropped",
    }
    assert (
        summary["parts"]["blur"]["explains"]
        < 0.02
        < summary["parts"]["appearance"]["explains"]
        < summary["together"]
        < 1
    )
    measurements = 0
    made.prune(errors)
    assert measurements == 0, "decided once"
    again = make("composed", parts=parts)
    assert len(again.active_parts()) == 4
    again.load_state_dict(made.state_dict())
    assert [type(part).__name__ for part in again.active_parts()] == ["ImageWarp", "Appearance"], (
        "a fit that goes on remembers"
    )
    assert again.summary() == summary
    for share, left in ((0.05, ["Rigid", "Blur"]), (0.0, ["Rigid"])):
        late = make("composed", parts=["rigid", "blur"], starts=[0.25, 0.5])
        for progress in (0.46, 0.71):
            late.progress = progress
            late.prune(
                lambda: torch.tensor(
                    [
                        (1 - 0.5 * (late.parts["rigid"] in late.active_parts()))  # noqa: B023
                        * (1 - share * (late.parts["blur"] in late.active_parts()))  # noqa: B023
                    ]
                )
            )
        assert [type(part).__name__ for part in late.active_parts()] == left, (
            "a part that comes later needs its own share alone"
        )
        assert late.summary()["together"] == pytest.approx(1 - 0.5 * (1 - share))
    many = make(
        "composed",
        parts=["rigid", "image_warp", "appearance", "blur", "field"],
        starts=[0.1, 0.28, 0.46, 0.64, 0.82],
    )
    for progress in torch.linspace(0, 0.99, 100).tolist():
        many.progress = progress
        many.prune(lambda: torch.tensor([1.0]))
    assert [part_summary["verdict"] for part_summary in many.summary()["parts"].values()] == [
        "dropped"
    ] * 4 + ["not judged"], "what comes too late holds up nobody"
    soon = make("composed", parts=["rigid", "blur"], starts=[0.25, 0.4])
    for progress, decided in ((0.46, False), (0.61, True)):
        soon.progress = progress
        soon.prune(lambda: torch.tensor([1.0]))
        assert (not soon.active_parts()) == decided, (
            "parts are pruned together, when the last active one has learned for long enough"
        )
    made = distortions.build(
        {"name": "composed", "prune_after": 0.0}, **SUPPLIED, multiview_consistent=True
    )
    made.prune(errors)
    assert len(made.active_parts()) == 4 and measurements == 0
    made = distortions.build({"name": "composed"}, **SUPPLIED, multiview_consistent=True)
    made.prune(errors)
    assert not made.active_parts() and measurements == 0, "the prior is multi-view consistent"
    assert not list(made.groups()) and not any(
        parameter.requires_grad for parameter in made.parameters()
    )
    made = make("composed", parts=parts)
    made.prune(lambda: torch.tensor([torch.nan, *[1 - 0.025 * len(made.active_parts())] * 3]))
    assert not made.active_parts(), "each explains something, all together hardly anything"
    assert not any(parameter.requires_grad for parameter in made.parameters())
    made = make("composed", parts=parts)
    made.prune(lambda: torch.tensor([torch.nan, *[1 - 0.2 * len(made.active_parts())] * 3]))
    assert len(made.active_parts()) == 4, "an undecidable frame drops no part"
    made = make("composed", parts=parts)
    made.prune(
        lambda: torch.tensor(
            [
                (1 + 0.5 * (len(made.active_parts()) - helps)) * (1 - 0.5 * helps)
                for helps in [made.parts["blur"] in made.active_parts()] * 3
            ]
        )
    )
    assert made.active_parts() == [made.parts["blur"]], "one helps, though all together do harm"
    made = make("composed", parts=parts)
    made.prune(
        lambda: torch.tensor(
            [
                torch.nan
                if made.parts["image_warp"] in made.active_parts()
                else 1 - 0.2 * len(made.active_parts())
            ]
            * 3
        )
    )
    assert made.active_parts() == [made.parts[name] for name in ("rigid", "appearance", "blur")], (
        "what makes pictures that are no numbers goes first, alone"
    )
    assert made.summary()["parts"]["image_warp"] == {"verdict": "dropped", "explains": None}


def test_a_part_that_does_not_act_has_no_gradient_to_be_averaged():
    made = make("composed", parts=["rigid", "blur"], starts=[0.25, 0.5])
    for progress, learning in ((0.1, []), (0.3, ["rigid"]), (0.6, ["rigid", "blur"])):
        made.progress = progress
        made.prune(lambda: torch.tensor([1 - 0.2 * len(made.active_parts())]))
        assert [
            name
            for name, part in made.parts.items()
            if all(p.requires_grad for p in part.parameters())
        ] == learning


@torch.no_grad()
def test_causes_of_a_frames_errors_are_separated():
    """Frames that a distortion made and can explain: each cause alone, then all together."""
    renderer, scene = renderers.build({"name": "reference"}, device=torch.device("cpu")), crowd()
    for wrong in (
        ("camera",),
        ("geometry",),
        ("appearance",),
        ("camera", "geometry", "appearance"),
    ):
        all_of_it = make(
            "composed",
            parts=["rigid", "image_warp", "appearance"],
            settings={"image_warp": {"chained": False}},
        )
        if "camera" in wrong:
            all_of_it.parts["rigid"].motions.values[1:, :2] = 0.02
        if "geometry" in wrong:
            all_of_it.parts["image_warp"].grid.values[1:, 0] = 0.02
        if "appearance" in wrong:
            all_of_it.parts["appearance"].maps.values[1:, 0, 0] = -0.3
        view = torch.tensor([1])
        frame = (
            all_of_it.image(
                renderer(all_of_it.gaussians(scene, view), all_of_it.cameras(CAMERA, view)), view
            )
            .rgb[0]
            .clamp(0, 1)
        )
        shares = diagnose(renderer, all_of_it, scene, CAMERA, frame, 1)
        assert sum(shares.values()) == pytest.approx(1, abs=1e-4)
        assert shares["unexplained"] == pytest.approx(0, abs=1e-6)
        for cause in ("camera", "geometry", "appearance"):
            assert (
                shares[cause] > 0.1
                if cause in wrong
                else shares[cause] == pytest.approx(0, abs=1e-6)
            )
    nothing = diagnose(renderer, make("identity"), scene, CAMERA, frame, 1)
    assert nothing == {"camera": 0.0, "geometry": 0.0, "appearance": 0.0, "unexplained": 1.0}


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"parts": ["rigid", "rigid"]}, "'rigid'.*once"),
        ({"parts": ["composed"]}, "'composed'"),
        ({"parts": ["nope"]}, "'nope'; choose one of"),
        ({"starts": [0.1] * 5}, r"starts is \[0.1"),
        ({"starts": [1.5]}, "starts is"),
        ({"prune_after": 2.0}, "prune_after is 2"),
        ({"settings": {"field": {}}}, "'field'; choose among"),
        ({"settings": {"rigid": {"wieght": 1}}}, "wieght"),
    ],
)
def test_a_wrong_composition_names_the_value_and_the_choices(settings, words):
    with pytest.raises(ComponentError, match=words):
        make("composed", **settings)


def test_errors_name_parts_without_start_or_learning_rates(monkeypatch):
    class Rateless(Distortion):
        def __init__(self, *, num_views: int) -> None:
            super().__init__()
            self.numbers = torch.nn.Parameter(torch.zeros(num_views))

    monkeypatch.setattr("lift.distortions.blur.Blur.start", 1.7)
    with pytest.raises(ComponentError, match="'blur' starts at 1.7; let its `start`"):
        make("composed", parts=["rigid", "blur"])
    monkeypatch.setattr(distortions, "build", lambda settings, **supplied: Rateless(num_views=2))
    with pytest.raises(
        ComponentError,
        match=(
            "'mine' has no learning rates .*'learning_rate'.*; set learning_rate, or "
            "override groups"
        ),
    ):
        validate_settings({"name": "mine"}, CAMERA)


@pytest.mark.slow
def test_distortion_model_improves_the_canonical_scene():
    """The experiment itself, tiny: identity < composed where frames are wrong."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
    import distortion as experiment
    from hydra import compose, initialize_config_module

    from lift.config import store_schemas
    from lift.synthetic.worlds import CORRUPTION_KINDS, corrupt_world, ray_cast_world

    store_schemas()
    world = ray_cast_world("room", (96, 72), frames=2)
    corrupted = corrupt_world(world, dict.fromkeys(CORRUPTION_KINDS, 2.0), 0)
    renderer = renderers.build({"name": "numba"}, device=torch.device("cpu"))
    found = {}
    for module in ("identity", "composed", experiment.TOLD):
        small = ["fit.steps=700", "fit.initial_gaussians=5000", "fit.max_gaussians=7000"]
        with initialize_config_module("lift.configs", version_base="1.3"):
            config = compose("lift", [*experiment.SETTINGS, *small, *experiment.MODULES[module]])
        found[module], *_ = experiment.trial(
            world, corrupted, config, renderer, 0, told=module == experiment.TOLD
        )
    assert found["composed"]["psnr"] > found["identity"]["psnr"] + 1.0
    assert found[experiment.TOLD]["psnr"] > found["composed"]["psnr"] + 1.0
    assert all(
        found[experiment.TOLD][key] < 1e-3 for key in ("place", "turn", "shift", "zoom", "tone")
    ), "what was done is what is undone"
    assert found["composed"]["place"] < 0.8 * found["composed"]["place_told"]
    assert (
        found["composed"]["tone"] < 0.7 * found["composed"]["tone_told"]
        and found["composed"]["zoom"] < 0.7 * found["composed"]["zoom_told"]
    )
    assert found["identity"]["place"] == found["identity"]["place_told"]
    rows = [
        {"scene": "room", "case": "all x 1", "seed": 0, "module": name, **row}
        for name, row in found.items()
    ]
    shown = experiment.tables([{**rows[0], "case": "clean", "psnr": 50.0}, *rows])
    assert "| composed |" in shown and "(+" in shown and " % | 1 |" in shown


@pytest.mark.slow
def test_experiment_resumes_in_several_processes(tmp_path, monkeypatch, capsys):
    to, small = (
        tmp_path / "r.json",
        ["fit.steps=20", "fit.initial_gaussians=300", "fit.max_gaussians=400"],
    )
    command = [
        "experiments/distortion.py",
        "--quick",
        "--scenes",
        "plain",
        "--strengths",
        "1",
        "--to",
        str(to),
    ]
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "experiments"))
    import distortion as experiment

    monkeypatch.setattr(sys, "argv", [*command, "--modules", "identity", *small])
    experiment.main()
    assert capsys.readouterr().out.count(" dB, ") == 2
    more = [
        sys.executable,
        *command,
        "--workers",
        "2",
        *small,
        "--modules",
        "identity",
        "rigid",
    ]  # settings stand before options, too
    done = subprocess.run(more, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.count(" dB, ") == 2
        and "2 of 4 fits are there already, of commit " in done.stdout
    ), "what is there is not made again"
    record = json.loads(to.read_text())
    rows = record["rows"]
    assert [row["machine"] for row in rows] == [0, 0, 1, 1] and record["machines"][1][
        "workers"
    ] == 2
    assert len({(row["case"], row["module"]) for row in rows}) == len(rows) == 4
    assert "| rigid |" in done.stdout and "(+" in done.stdout.replace("(-", "(+")
    monkeypatch.setattr(sys, "argv", [*command, "--show"])
    experiment.main()
    assert "| rigid |" in capsys.readouterr().out and json.loads(to.read_text()) == record
    monkeypatch.setattr(sys, "argv", [*command, "distortion=rigid", *small])
    experiment.main()
    shown = capsys.readouterr().out
    assert shown.count(" dB, ") == 2 and "| distortion=rigid |" in shown and "| identity |" in shown
    own = tmp_path / "own.json"
    own.write_text(
        json.dumps(
            {
                **record,
                "rows": [
                    row
                    for row in json.loads(to.read_text())["rows"]
                    if row["module"] in ("identity", "distortion=rigid")
                ],
            }
        )
    )
    monkeypatch.setattr(sys, "argv", ["distortion.py", "--show", "--to", str(own)])
    experiment.main()
    assert "| distortion=rigid |" in capsys.readouterr().out, "all choices by default"
    monkeypatch.setattr(sys, "argv", [*command, "--show", "distortion=blur"])
    with pytest.raises(SystemExit):
        experiment.main()
    assert "no such results" in capsys.readouterr().err

    def interrupted(*_):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise SystemError("returned a result with an exception set")  # noqa: B904  as numba's loops do

    monkeypatch.setattr(experiment.Bench, "row", interrupted)
    monkeypatch.setattr(sys, "argv", [*command, "distortion=blur", *small])
    with pytest.raises(KeyboardInterrupt):
        experiment.main()
    with FileLock(tmp_path / ".r.json.lock"):
        with pytest.raises(SystemExit):
            experiment.main()
        assert "another run of this experiment adds to" in capsys.readouterr().err
    stranger = tmp_path / "other.json"
    stranger.write_text('{"rows": [{}]}')
    wrongs = {
        "fit.stepz=1": "stepz",
        "image=x": "changes nothing",
        "--scenes=nowhere": "choose among room",
        "--seeds=0": "at least 1",
        "--strengths=nan": "above 0",
        "--cases=no": "choose among clean",
        f"--to={stranger}": "choose another file",
        f"--to={tmp_path}": "choose another file",
    }
    for wrong, words in wrongs.items():
        monkeypatch.setattr(sys, "argv", [*command, wrong])
        with pytest.raises(SystemExit) as stop:
            experiment.main()
        assert stop.value.code == 2 and words in capsys.readouterr().err


def test_photographs_in_no_order_need_no_distortion():
    camera = pinhole(16, 16, 16.0)
    points = PointCloud(torch.randn(20, 3), torch.rand(20, 3))
    for hint, verdict in (("unordered", "not needed"), ("sequence", "not judged")):
        trajectory = Trajectory(camera, (Clip("frames", 0, camera),), hint)
        supplied = {
            "num_views": 2,
            "extent": 1.0,
            "size": (16, 16),
            "trajectory": trajectory,
            "points": points,
        }
        built = distortions.build({"name": "composed"}, multiview_consistent=False, **supplied)
        assert {part["verdict"] for part in built.summary()["parts"].values()} == {verdict}
