"""Values of a wrong kind end with a line that says what to choose."""

import pytest
from hydra.errors import HydraException

from lift.config import compose_run
from lift.config.wrong_kinds import describe_wrong_kind
from lift.errors import format_error
from lift.registry import ComponentError
from tests.helpers.own_configs import write_experiment


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("fit.steps=[]", "fit.steps is []; choose a whole number, 1 to 10000000, or null"),
        ("fit.steps={a:1}", "fit.steps is {'a': 1}; choose a whole number, 1 to 10000000, or null"),
        ("distortion.parts=null", "distortion.parts is null; choose a list, such as [A,B], 0 to"),
        ("distortion.parts=3", "distortion.parts is 3; choose a list, such as [A,B], 0 to 16"),
        ("planner.angle=[]", "planner.angle is []; choose a number, -360 to 360"),
        ("planner.angle=x", "planner.angle is 'x'; choose a number, -360 to 360"),
        ("fit.loss=3", "fit.loss is 3; it is a group; set one of its settings, such as fit.loss."),
        ("frames.ordered=maybe", "frames.ordered is 'maybe'; choose true or false, or null"),
        (
            "fit.coarse_to_fine.scales=[x]",
            "fit.coarse_to_fine.scales[0] is 'x'; choose a number, more than 0, at most 1",
        ),
    ],
)
def test_the_line_has_setting_value_and_range(override: str, message: str) -> None:
    with pytest.raises((ComponentError, HydraException)) as error:
        compose_run(["image=coffee", override])
    assert format_error(error.value).startswith(message)


def test_a_wrong_kind_in_a_file_names_the_file(tmp_path) -> None:
    write_experiment(tmp_path, "mine", "# @package _global_\nfit:\n  steps: many\n")
    with pytest.raises(HydraException) as error:
        compose_run(["image=coffee", f"--config-dir={tmp_path}", "experiment=mine"])
    expected = "in experiment/mine: fit.steps is 'many'; choose a whole number, 1 to 10000000"
    assert format_error(error.value).startswith(expected)


@pytest.mark.parametrize(
    "text",
    [
        "Key 'x' not in 'Fit' full_key: fit.x",
        "Value 'x' of type 'str' could not be converted to Integer full_key: no.such",
        "something else",
    ],
)
def test_other_messages_are_left_alone(text: str) -> None:
    assert describe_wrong_kind(text) is None
