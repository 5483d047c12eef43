"""Whether a slot has its default component, with default settings."""

import pytest
from omegaconf import OmegaConf

from lift.config import compose_run, default_components, is_default
from lift.registry import SLOTS


def test_default_components_are_those_of_a_composed_run() -> None:
    config = compose_run(["image=coffee"])
    assert default_components() == {slot: config[slot].name for slot in SLOTS}
    assert all(is_default(config, slot) for slot in SLOTS)


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        (["planner=orbit"], "planner"),
        (["planner.levels=3"], "planner"),
        (["planner.directions=[up]"], "planner"),
        (["prior=synthetic"], "prior"),
        (["experiment=quality"], "prior"),
    ],
)
def test_another_component_or_setting_is_no_default(settings: list[str], changed: str) -> None:
    assert not is_default(compose_run(["image=coffee", *settings]), changed)


def test_a_default_value_that_is_written_out_is_the_default() -> None:
    assert is_default(compose_run(["image=coffee", "planner=articulated"]), "planner")
    config = compose_run(["image=coffee"])
    OmegaConf.update(config, "planner.levels", 1)
    assert not is_default(config, "planner")
