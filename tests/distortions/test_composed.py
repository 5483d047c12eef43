"""A distortion of parts: their order and start, and which are dropped."""

import pytest
import torch

from lift.distortions import Distortion, distortions, validate_settings
from lift.geometry import pinhole
from lift.registry import ComponentError
from lift.types import Clip, PointCloud, Trajectory
from tests.helpers.distortions import (
    ALL_VIEWS,
    CAMERA,
    SUPPLIED,
    WIDTH,
    build_distortion,
    gradient_render,
)


def test_parts_act_in_their_order_and_from_their_start():
    both = build_distortion(
        "composed",
        parts=["image_warp", "appearance"],
        starts=[0.0, 0.5],
        settings={"image_warp": {"chained": False}},
    )
    with torch.no_grad():
        both.parts["image_warp"].grid.values[1, 0] = 3 / WIDTH
        both.parts["appearance"].maps.values[1, :, 3] = 0.25
    both.progress = 0.25
    early = both.image(gradient_render(), ALL_VIEWS).rgb
    both.progress = 0.5
    late = both.image(gradient_render(), ALL_VIEWS).rgb
    torch.testing.assert_close(late[1], early[1] + 0.25)
    assert not torch.equal(early[1], gradient_render().rgb[1])
    parts = ["rigid", "image_warp", "appearance", "blur"]
    for starts, begun in (
        ([], {0.05: 0, 0.15: 2, 0.3: 4}),
        ([0.5], {0.05: 0, 0.15: 1, 0.3: 3, 0.5: 4}),
    ):
        made = build_distortion("composed", parts=parts, starts=starts)
        for progress, count in begun.items():
            made.progress = progress
            assert len(made.active_parts()) == count, "positions come first by default"
    for looks, first in ((100.0, 0.1), (10.0, 0.2), (4.0, 0.25)):
        made = build_distortion("composed", parts=parts, starts=[0.05])
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
        "verdict": "undecided",
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

    made = build_distortion(
        "composed", parts=parts, starts=[0.25, 0.25, 0.25, 0.25], prune_after=0.2
    )
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
    again = build_distortion("composed", parts=parts)
    assert len(again.active_parts()) == 4
    again.load_state_dict(made.state_dict())
    assert [type(part).__name__ for part in again.active_parts()] == ["ImageWarp", "Appearance"], (
        "a fit that goes on remembers"
    )
    assert again.summary() == summary
    for share, left in ((0.05, ["Rigid", "Blur"]), (0.0, ["Rigid"])):
        late = build_distortion("composed", parts=["rigid", "blur"], starts=[0.25, 0.5])
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
    many = build_distortion(
        "composed",
        parts=["rigid", "image_warp", "appearance", "blur", "field"],
        starts=[0.1, 0.28, 0.46, 0.64, 0.82],
    )
    for progress in torch.linspace(0, 0.99, 100).tolist():
        many.progress = progress
        many.prune(lambda: torch.tensor([1.0]))
    assert [part_summary["verdict"] for part_summary in many.summary()["parts"].values()] == [
        "dropped"
    ] * 4 + ["undecided"], "what comes too late holds up nobody"
    soon = build_distortion("composed", parts=["rigid", "blur"], starts=[0.25, 0.4])
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
    made = build_distortion("composed", parts=parts)
    made.prune(lambda: torch.tensor([torch.nan, *[1 - 0.025 * len(made.active_parts())] * 3]))
    assert not made.active_parts(), "each explains something, all together hardly anything"
    assert not any(parameter.requires_grad for parameter in made.parameters())
    made = build_distortion("composed", parts=parts)
    made.prune(lambda: torch.tensor([torch.nan, *[1 - 0.2 * len(made.active_parts())] * 3]))
    assert len(made.active_parts()) == 4, "an undecidable frame drops no part"
    made = build_distortion("composed", parts=parts)
    made.prune(
        lambda: torch.tensor(
            [
                (1 + 0.5 * (len(made.active_parts()) - helps)) * (1 - 0.5 * helps)
                for helps in [made.parts["blur"] in made.active_parts()] * 3
            ]
        )
    )
    assert made.active_parts() == [made.parts["blur"]], "one helps, though all together do harm"
    made = build_distortion("composed", parts=parts)
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
    made = build_distortion("composed", parts=["rigid", "blur"], starts=[0.25, 0.5])
    for progress, learning in ((0.1, []), (0.3, ["rigid"]), (0.6, ["rigid", "blur"])):
        made.progress = progress
        made.prune(lambda: torch.tensor([1 - 0.2 * len(made.active_parts())]))
        assert [
            name
            for name, part in made.parts.items()
            if all(p.requires_grad for p in part.parameters())
        ] == learning


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"parts": ["rigid", "rigid"]}, "'rigid'.*once"),
        ({"parts": ["composed"]}, "'composed'"),
        ({"parts": ["nope"]}, "'nope'; choose one of"),
        ({"starts": [0.1] * 5}, r"starts is \[0.1"),
        ({"starts": [1.5]}, r"starts\[0\] is 1.5"),
        ({"prune_after": 2.0}, "prune_after is 2"),
        ({"settings": {"field": {}}}, "'field'; choose among"),
        ({"settings": {"rigid": {"wieght": 1}}}, "wieght"),
    ],
)
def test_a_wrong_composition_names_the_value_and_the_choices(settings, words):
    with pytest.raises(ComponentError, match=words):
        build_distortion("composed", **settings)


def test_errors_name_parts_without_start_or_learning_rates(monkeypatch):
    class Rateless(Distortion):
        def __init__(self, *, num_views: int) -> None:
            super().__init__()
            self.numbers = torch.nn.Parameter(torch.zeros(num_views))

    monkeypatch.setattr("lift.distortions.blur.Blur.start", 1.7)
    with pytest.raises(ComponentError, match="'blur' starts at 1.7; let its `start`"):
        build_distortion("composed", parts=["rigid", "blur"])
    monkeypatch.setattr(distortions, "build", lambda settings, **supplied: Rateless(num_views=2))
    with pytest.raises(
        ComponentError,
        match=(
            "'mine' has no learning rates .*'learning_rate'.*; set learning_rate, or "
            "override groups"
        ),
    ):
        validate_settings({"name": "mine"}, CAMERA)


def test_photographs_in_no_order_need_no_distortion():
    camera = pinhole(16, 16, 16.0)
    points = PointCloud(torch.randn(20, 3), torch.rand(20, 3))
    for hint, verdict in (("unordered", "not needed"), ("sequence", "undecided")):
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
