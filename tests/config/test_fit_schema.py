"""Settings of the fit: what belongs together, and what `lift show` lists."""

import pytest

from lift.config import compose_run, resolve_fit, validate_config
from lift.config.setting_docs import describe_group
from lift.registry import ComponentError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["fit.coarse_to_fine.scales=[0.25,0.5]"],
            "fit.coarse_to_fine has scales [0.25, 0.5] and until [0.5]; choose as many of each",
        ),
        (["fit.canonical_steps=50", "fit.steps=50"], "fit.canonical_steps is 50, which leaves no"),
        (["fit.canonical_steps=1000"], "choose less than fit.steps, 800"),
        (["fit.loss.depth=0", "fit.loss.depth_final=1e-6"], "fit.loss.depth is 0, so it cannot"),
        (["fit.densify.strategy=none"], "fit.densify.strategy is 'none'; choose one of mcmc, grad"),
        (["fit.init.opacity=1.0"], "fit.init.opacity is 1.0; choose more than 0, less than 1"),
        (["fit.adam.betas=[0.9]"], "fit.adam.betas has 1 values; choose 2 to 2"),
        (
            ["fit.steps=30", "fit.canonical_steps=10", "fit.densify.strategy=gradient"],
            "fit.densify.stop is 0.7, which is step 21 of each stage, and the last stage has 20; "
            "choose 0.66 or less",
        ),
        (["fit.scene_scale=points"], "fit.scene_scale is 'points'; choose one of depth, cameras"),
    ],
)
def test_wrong_settings_of_the_fit_are_named(settings: list[str], message: str) -> None:
    with pytest.raises(ComponentError) as error:
        validate_config(compose_run(["image=coffee", *settings]))
    assert message in str(error.value)


def test_settings_with_the_name_of_a_slot_are_listed() -> None:
    keys = [setting.key for setting in describe_group("fit")[1]]
    assert {"fit.loss.depth", "fit.learning_rate.decay.distortion"} <= set(keys)
    assert "depth" not in [setting.key for setting in describe_group("run")[1]]


@pytest.mark.parametrize(("real", "phases"), [(False, [0.5]), (True, [])])
def test_exact_frames_start_with_small_pictures(real: bool, phases: list[float]) -> None:
    coarse = resolve_fit(compose_run(["image=coffee"]).fit, real).coarse_to_fine
    assert list(coarse.scales) == phases
    assert list(coarse.until) == phases


def test_phases_of_the_user_apply_to_all_frames() -> None:
    chosen = ["fit.coarse_to_fine.scales=[0.25]", "fit.coarse_to_fine.until=[0.3]"]
    for real in (False, True):
        coarse = resolve_fit(compose_run(["image=coffee", *chosen]).fit, real).coarse_to_fine
        assert (list(coarse.scales), list(coarse.until)) == ([0.25], [0.3])


@pytest.mark.parametrize(
    ("setting", "phases"),
    [
        ("scales=[0.25]", ([0.25], [0.5])),
        ("until=[0.3]", ([0.5], [0.3])),
        ("scales=[]", ([], [])),
        ("until=[]", ([], [])),
    ],
)
def test_one_setting_of_phases_completes_the_other(setting: str, phases: tuple) -> None:
    config = compose_run(["image=coffee", f"fit.coarse_to_fine.{setting}"])
    validate_config(config)
    for real in (False, True):
        coarse = resolve_fit(config.fit, real).coarse_to_fine
        assert (list(coarse.scales), list(coarse.until)) == phases
