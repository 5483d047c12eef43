import math
from typing import Any

import numpy as np
import pytest

from lift.config import compose_eval, compose_run
from lift.config.values import split_choices
from lift.registry import ComponentError

TOO_LARGE = f"1{'0' * 30}"
"""10^30."""


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("fit.steps=-3", "fit.steps is -3; choose 1 to 10000000"),
        ("fit.steps=nan", "fit.steps is nan; choose a whole number"),
        ("fit.steps=1e400", "fit.steps is inf; choose a whole number"),
        ("fit.steps=true", "fit.steps is True; choose a whole number"),
        ("fit.steps=???", "fit.steps is not set; set fit.steps=VALUE"),
        ("seed=null", "seed is null; choose a whole number, 0 to 2147483647"),
        ("~seed", "seed is not set"),
        (f"planner.levels={TOO_LARGE}", "planner.levels is 1000.*; choose 1 to 5"),
        (f"preprocess.size={TOO_LARGE}", "preprocess.size is 1000.*; choose 64 to 4096"),
        ("fit.densify.every=inf", "fit.densify.every is inf"),
        ("fit.coarse_to_fine.scales=[0]", r"scales\[0\] is 0.0; choose more than 0, at most 1"),
        (f"fit.coarse_to_fine.scales={'[' * 3000}{']' * 3000}", "nested too deeply"),
        (f"fit.steps={'9' * 10_000}", "choose a number of at most 400 digits"),
        ("distortion.parts=[[]]", "choose one of appearance"),
        ("planner.angle=nan", "planner.angle is nan; choose"),
        ("+distortion.settings.rigid.weight=nan", "distortion.*weight is nan; choose"),
        ("+trainer.gradient_clip_val=nan", "trainer.gradient_clip_val is nan; choose a finite"),
        ("image=a\0b", "leave out the character NUL"),
        ("cameras=" + "x" * 5000, "cameras has 5000 characters; choose 0 to 4096"),
        ("~planner", "planner is null; choose one of articulated"),
    ],
)
def test_a_wrong_override_names_setting_value_and_range(override: str, message: str) -> None:
    with pytest.raises(ComponentError, match=message) as error:
        compose_run(["image=coffee", override])
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fit": {"steps": math.inf}}, "fit.steps is inf; choose a whole number"),
        ({"planner": {"angle": np.float32(math.nan)}}, "planner.angle is nan"),
        ({"planner": {"angle": True}}, "planner.angle is True; choose a number"),
        ({"image": []}, r"image is \[\]; give one name"),
    ],
)
def test_a_wrong_value_of_python_is_refused(settings: dict[str, Any], message: str) -> None:
    choices, values = split_choices(settings)
    with pytest.raises(ComponentError, match=message):
        compose_run(["image=coffee", *choices], values)


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(ComponentError, match="too long to print; choose 1 to 10000000"):
        compose_run(["image=coffee"], {"fit": {"steps": 10**5000}})


def test_a_list_that_holds_itself_is_refused() -> None:
    scales: list[Any] = []
    scales.append(scales)
    with pytest.raises(ComponentError, match="fit.coarse_to_fine.scales is nested too deeply"):
        compose_run(["image=coffee"], {"fit": {"coarse_to_fine": {"scales": scales}}})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("protocol.seeds=[]", "protocol.seeds has 0 values; choose 1 to 1000"),
        ("protocol.bins=[nan]", r"protocol.bins\[0\] is nan"),
        ("protocol.max_targets=0", "protocol.max_targets is 0; choose 1 to"),
        ("protocol.align=x", "protocol.align is 'x'; choose one of none, median_depth"),
        ("dataset.angles=[0,95]", r"dataset.angles\[0\] is 0.0; choose more than 0, less than 90"),
    ],
)
def test_a_wrong_setting_of_an_evaluation_is_refused(override: str, message: str) -> None:
    with pytest.raises(ComponentError, match=message):
        compose_eval(["dataset=ray_cast", override])


def test_a_deep_experiment_ends_in_one_line(tmp_path) -> None:
    folder = tmp_path / "experiment"
    folder.mkdir()
    text = f"# @package _global_\nfit:\n  steps: {'[' * 3000}{']' * 3000}\n"
    folder.joinpath("deep.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ComponentError, match="deep.yaml is nested too deeply"):
        compose_run(["image=coffee", f"--config-dir={tmp_path}", "experiment=deep"])


@pytest.mark.parametrize("steps", [".nan", ".inf", "-1", f"{TOO_LARGE}"])
def test_a_wrong_value_in_an_experiment_is_refused(steps: str, tmp_path) -> None:
    folder = tmp_path / "experiment"
    folder.mkdir()
    text = f"# @package _global_\nfit:\n  importance_power: {steps}\n"
    folder.joinpath("wrong.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ComponentError, match="fit.importance_power is .*; choose 0 to 100"):
        compose_run(["image=coffee", f"--config-dir={tmp_path}", "experiment=wrong"])
